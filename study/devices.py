"""Which GPUs a job on this machine uses, so that two jobs never share one. On a cluster its scheduler sees to that.

It knows neither torch nor what a job does with its GPUs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from lmrel.errors import InputError

LOCKS = Path(tempfile.gettempdir())


def gpus() -> list[str]:
    """The names of this machine's NVIDIA GPUs, or of those that CUDA_VISIBLE_DEVICES lets us see."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


@contextmanager
def claimed(number: int) -> Iterator[dict[str, str]]:
    """Wait for `number` GPUs that no other job has claimed, and yield the environment variables that show only them.

    A claim is a lock that ends with the process. Nothing is claimed, and nothing yielded, where there is no GPU, or in
    a job of Slurm, which has chosen already. Raises `InputError` if there are not so many.
    """
    if number < 0:
        raise InputError(f"gpus is {number}; it must be an integer of at least 0.")
    known = gpus()
    if number == 0 or not known or "SLURM_JOB_ID" in os.environ:
        yield {}
        return
    if number > len(known):
        raise InputError(f"this job asks for {number} GPUs; there are {len(known)} here.")
    while True:
        with ExitStack() as held:
            mine: list[str] = []
            for name in known:
                if len(mine) < number and _claim(LOCKS / f"lmrel-gpu-{name}.lock", held):
                    mine.append(name)
            if len(mine) == number:
                yield {"CUDA_VISIBLE_DEVICES": ",".join(mine)}
                return
        time.sleep(1)  # all or none: two jobs that wait for each other's would wait for ever


def _claim(path: Path, held: ExitStack) -> bool:
    """Whether the file at `path` could be locked until `held` is closed."""
    with suppress(PermissionError):  # another user's file, which can be locked all the same
        path.touch()
    handle = os.open(path, os.O_RDONLY)
    held.callback(os.close, handle)
    return lock_descriptor(handle, blocking=False)
