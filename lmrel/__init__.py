"""lmrel: how reliable language models are under decoding temperature.

Data flows one way: problems, prompts, models, decoding, tree, enumeration, records, answers, failures, metrics, charts.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

with warnings.catch_warnings():
    # In a notebook this module, which transformers imports, asks for widgets that nothing here needs.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import tqdm.auto  # noqa: F401

if TYPE_CHECKING:
    from lmrel.answers import extract_answer
    from lmrel.decoding import Decoder
    from lmrel.enumeration import enumerate_outcomes
    from lmrel.errors import InputError
    from lmrel.models import load_model
    from lmrel.problems import held_out_problems, load_problems, paper_problems
    from lmrel.run import Run
    from lmrel.sampling import sample

# Where each comes from: imported when it is asked for, since torch takes seconds and the Snakefile needs none of it.
_HOMES = {
    "Decoder": "decoding",
    "InputError": "errors",
    "Run": "run",
    "enumerate_outcomes": "enumeration",
    "extract_answer": "answers",
    "held_out_problems": "problems",
    "load_model": "models",
    "load_problems": "problems",
    "paper_problems": "problems",
    "sample": "sampling",
}

__all__ = [
    "Decoder",
    "InputError",
    "Run",
    "enumerate_outcomes",
    "extract_answer",
    "held_out_problems",
    "load_model",
    "load_problems",
    "paper_problems",
    "sample",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lmrel' has no attribute {name!r}")
    return getattr(import_module(f"lmrel.{_HOMES[name]}"), name)
