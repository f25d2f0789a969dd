"""The library: generation, sampling and metrics. It knows no book, no pipeline and no training.

Data flows one way: problems, prompts, models, decoding, tree, enumeration, records, answers, failures, metrics, charts.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING

with warnings.catch_warnings():
    # In a notebook this module, which transformers imports, asks for widgets that nothing here needs.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import tqdm.auto  # noqa: F401

if TYPE_CHECKING:
    from lmrel.answers import extract_answer as extract_answer
    from lmrel.decoding import Decoder as Decoder
    from lmrel.enumeration import enumerate_outcomes as enumerate_outcomes
    from lmrel.errors import InputError as InputError
    from lmrel.models import load_model as load_model
    from lmrel.outputs import read_outputs as read_outputs
    from lmrel.problems import load_problems as load_problems
    from lmrel.problems import paper_problems as paper_problems
    from lmrel.rescoring import rescore as rescore
    from lmrel.sampling import sample as sample
    from lmrel.stats.comparison import compare as compare
    from lmrel.stats.design import power as power

__version__ = "0.1.0"
# Imported when first asked for: who plans a study needs the registry, but no torch.
_HOMES = {
    "Decoder": "decoding",
    "InputError": "errors",
    "compare": "stats.comparison",
    "enumerate_outcomes": "enumeration",
    "extract_answer": "answers",
    "load_model": "models",
    "load_problems": "problems",
    "paper_problems": "problems",
    "power": "stats.design",
    "read_outputs": "outputs",
    "rescore": "rescoring",
    "sample": "sampling",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lmrel' has no attribute {name!r}")
    return getattr(import_module(f"lmrel.{_HOMES[name]}"), name)
