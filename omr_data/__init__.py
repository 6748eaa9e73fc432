"""Make multimodal-reasoning training data: say what set you want, build it, release it, prove it.

from omr_data import ALL, Recipe, mix, union      what a recipe is made of
omr_data.verify(response, gold)                   one answer against its gold answer
"""

from omr_data.flow import Flow, union
from omr_data.identity import NOT_IDENTITY, Spec, runtime_field
from omr_data.operators.mix import ALL, mix
from omr_data.recipe import Recipe
from omr_data.records import Record, Response, Verdict
from omr_data.source import Source
from omr_data.step import Expand, Filter, GlobalStep, Map
from omr_data.teacher import Teacher
from omr_data.verifiers.api import verify, verify_many

# pyproject.toml holds the same number; a test compares them. Reading it from the installed metadata
# would cost an import of importlib.metadata for every `import omr_data`.
__version__ = "0.1.0"
__all__ = [
    "ALL",
    "NOT_IDENTITY",
    "Expand",
    "Filter",
    "Flow",
    "GlobalStep",
    "Map",
    "Recipe",
    "Record",
    "Response",
    "Source",
    "Spec",
    "Teacher",
    "Verdict",
    "__version__",
    "mix",
    "runtime_field",
    "union",
    "verify",
    "verify_many",
]
