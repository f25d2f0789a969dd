"""lmrel: how reliable language models are under decoding temperature.

Data flows one way: problems, prompts, models, decoding, tree, enumeration, records, answers, failures, metrics, charts.
"""

import warnings

with warnings.catch_warnings():
    # In a notebook this module, which transformers imports, asks for widgets that nothing here needs.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import tqdm.auto  # noqa: F401

from lmrel.answers import extract_answer
from lmrel.decoding import Decoder
from lmrel.enumeration import enumerate_outcomes
from lmrel.errors import InputError
from lmrel.models import load_model
from lmrel.problems import held_out_problems, load_problems, paper_problems
from lmrel.run import Run
from lmrel.sampling import sample

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
