"""A process that has imported torch, and forks one that works and may be killed, for each line it is asked.

A line is JSON: ``steps``, what to do one after the other; ``said``, the file for what is said; and perhaps a fault.
With ``signal`` comes ``after``, seconds, or ``event``: it is sent right before the so many-th time that Python opens,
renames or removes a file below ``folder``, or a ``command`` is run there instead. With ``half`` the so many-th Parquet
or safetensors file is left half written, and then it is sent. With ``clock`` the time of day jumps by so many seconds
whenever it is asked.
The answer is a line too: exit status, seconds and number of events.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lmrel import InputError
from study import parts
from study.run import Run
from tiny import train

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}
COUNTED = [0]


def do(step: dict[str, Any]) -> None:
    """Evaluate or train."""
    if "name" in step:
        train.train(step["name"], step["steps"], Path(step["out"]), Path(step["work"]), save_every=step["save_every"])
    else:
        Run(**step).carry_out(progress=False)


def arm(asked: dict[str, Any]) -> None:
    """Prepare the fault, if there is one, and count events."""
    sent, folder = asked.get("signal", 0), asked["folder"]

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and str(arguments[0]).startswith(folder):
            COUNTED[0] += 1
            if COUNTED[0] == asked.get("event"):
                os.system(asked["command"]) if "command" in asked else os.kill(os.getpid(), sent)

    sys.addaudithook(heard)
    if "half" in asked:
        numbers = itertools.count(1)
        for module, name, place in ((pq, "write_table", 1), (Path, "write_bytes", 0)):
            setattr(module, name, _half(getattr(module, name), place, numbers, asked))
    if "clock" in asked:
        real, jumps = time.time, itertools.count()
        time.time = lambda: real() + asked["clock"] * next(jumps)


def _half(real: Any, place: int, numbers: Any, asked: dict[str, Any]) -> Any:
    def call(*arguments: Any, **knobs: Any) -> Any:
        done = real(*arguments, **knobs)
        if next(numbers) == asked["half"]:
            path = Path(arguments[place])
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), asked["signal"])
            time.sleep(0.1)
        return done

    return call


def work(asked: dict[str, Any]) -> int:
    """The exit status, as a command line would have it."""
    said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    parts.BLOCK = 2
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        arm(asked)
        for step in asked["steps"]:
            do(step)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 2
    return 0


def main() -> None:
    """Answer until there are no more lines."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # in a child that has not begun its work
    for line in sys.stdin:
        asked = json.loads(line)
        came, went = os.pipe()
        began = time.perf_counter()
        child = os.fork()
        if not child:
            status = work(asked)
            os.write(went, str(COUNTED[0]).encode())
            sys.stderr.flush()
            os._exit(status)
        os.close(went)
        if "after" in asked:
            ends = os.pidfd_open(child)
            if not select.select([ends], [], [], asked["after"])[0]:
                os.kill(child, asked["signal"])
            os.close(ends)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        events = os.read(came, 100).decode()
        os.close(came)
        print(json.dumps([status, time.perf_counter() - began, int(events or 0)]), flush=True)


if __name__ == "__main__":
    main()
