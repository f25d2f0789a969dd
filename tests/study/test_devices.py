from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lmrel import InputError
from study import devices

HOLDER = """
import sys
from pathlib import Path
from study import devices
devices.LOCKS = Path(sys.argv[1])
with devices.claimed(int(sys.argv[2])) as shown:
    print(shown["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with two GPUs, by its nvidia-smi."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU-a\necho GPU-b\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(devices, "LOCKS", tmp_path)
    return tmp_path


def holder(locks: Path, number: int) -> tuple[subprocess.Popen[str], str]:
    """Another process that claims so many, and which it got."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(locks), str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_no_two_jobs_share_a_gpu_and_a_killed_one_frees_its_own(two: Path) -> None:
    other, its = holder(two, 1)
    assert its == "GPU-a"
    with devices.claimed(1) as shown:
        assert shown == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    other.kill()
    other.communicate()
    with devices.claimed(2) as shown:
        assert shown == {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}


def test_it_waits_holding_none_until_there_are_enough(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, its = holder(two, 1)
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        third, free = holder(two, 1)  # the one that is free was not kept meanwhile
        assert (its, free) == ("GPU-a", "GPU-b")
        third.communicate()
        other.communicate()

    monkeypatch.setattr(devices.time, "sleep", wait)
    with devices.claimed(2) as shown:
        assert shown == {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"}
    assert len(waited) == 1


def test_only_gpus_that_may_be_seen_are_claimed(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    with devices.claimed(1) as shown:
        assert shown == {"CUDA_VISIBLE_DEVICES": "GPU-b"}
    with pytest.raises(InputError, match="asks for 2 GPUs; there are 1 here"), devices.claimed(2):
        pass


def test_nothing_is_claimed_without_a_gpu_or_where_slurm_has_chosen(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "7")
        with devices.claimed(1) as shown:
            assert shown == {}
    with devices.claimed(0) as shown:
        assert shown == {}
    (two / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")  # no driver
    assert devices.gpus() == []
    with devices.claimed(1) as shown:
        assert shown == {}


def test_fewer_gpus_than_none_are_refused() -> None:
    with pytest.raises(InputError, match="gpus is -1; it must be an integer of at least 0"), devices.claimed(-1):
        pass
