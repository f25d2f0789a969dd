"""Servers on this machine to be asked: a real one, and one that answers as a test wants."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMPLETIONS, CHAT, MODELS = "/v1/completions", "/v1/chat/completions", "/v1/models"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class TransformersServe:
    """``transformers serve`` in a process of its own, without a network; it serves any folder by its path."""

    def __init__(self, home: Path) -> None:
        self.port, self.home = free_port(), home
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.start()

    def start(self) -> None:
        command = [str(Path(sys.executable).with_name("transformers")), "serve", "--device", "cpu"]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, "--dtype", "float32", "--host", "127.0.0.1", "--port", str(self.port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None, "the server ended"
                time.sleep(0.2)
        raise TimeoutError("the server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Reply = tuple[int, Any]  # a status, and what is sent as JSON, or as it is if it is bytes


class Fake:
    """A server that answers each request by `respond`, given the path and the body; it keeps all that it was sent."""

    def __init__(self, respond: Callable[[str, dict[str, Any]], Reply]) -> None:
        fake, self.asked, self.keys = self, list[tuple[str, dict[str, Any]]](), set[str | None]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
                fake.keys.add(self.headers.get("Authorization"))
                if body:
                    fake.asked.append((self.path, body))
                status, found = respond(self.path, body)
                sent = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(sent))}.items():
                    self.send_header(name, value)
                self.send_header("Retry-After-Ms", "1")
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that did not wait
        self.model = f"http://127.0.0.1:{self.server.server_port}/v1#m"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def completion(text: str = " 7", **more: Any) -> Reply:
    """A response of the completions endpoint."""
    return 200, {
        "choices": [{"text": text, "finish_reason": "stop", "index": 0} | more],
        "usage": {"completion_tokens": 2},
    }


def chat(text: str | None = " 7", **more: Any) -> Reply:
    """A response of the chat endpoint."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop", "index": 0} | more
    return 200, {"choices": [choice], "usage": {"completion_tokens": 2}}


def usual(path: str, body: dict[str, Any]) -> Reply:
    """How a server answers that has one model, ``m``, and honours a seed."""
    if path == MODELS:
        return 200, {"object": "list", "data": [{"id": "m", "object": "model"}]}
    text = f" {body.get('seed', 0) % 10}" if body["temperature"] else " 7"
    return chat(text) if path == CHAT else completion(text)
