"""What both reports begin with."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from study.origins import VERSIONED, versions

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "book" / "data"


def head() -> dict[str, Any]:
    """Date, versions, and the kind of machine."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "versions": versions(*VERSIONED),
    }
