"""A recipe is a named, versioned flow, written as a typed function in a Python file.

    def recipe(rollouts: int = 8) -> Recipe:
        return Recipe(name="my-set", version="1.0.0", data=...)

**load** runs that function with arguments given by name; calling it builds the flow and runs nothing.
"""

import importlib.util
import inspect
import multiprocessing
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omr_data.arguments import read_values
from omr_data.errors import OmrError, RecipeError
from omr_data.flow import Flow, as_flow
from omr_data.source import Source

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+([.-][0-9a-z.]+)?")


@dataclass(frozen=True)
class Recipe:
    """What to make. `rows`, if given, is the number of rows that the release must have: `range(865_000, 885_000)`.

    Raises:
        RecipeError: the name or version cannot be the name of a folder and of a Hub tag, or `data` is no flow.
    """

    name: str
    version: str
    data: Flow | Source
    rows: range | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RecipeError(
                f"the recipe name {self.name!r} is not usable: write lower-case letters, digits, '.', '_' and '-', like 'my-set'."
            )
        if not _VERSION.fullmatch(self.version):
            raise RecipeError(
                f"{self.name} has version {self.version!r}: write three numbers, like '1.0.0'."
            )
        object.__setattr__(self, "data", as_flow(self.data))


def load(path: Path, arguments: Mapping[str, str] | None = None) -> Recipe:
    """Runs the `recipe` function of a file. Arguments are texts, read by the type of the parameter.

    Raises:
        RecipeError: no such file or function, an argument it does not have or cannot read, or the file itself fails.
    """
    module = load_module(path)
    make = getattr(module, "recipe", None)
    if not callable(make):
        raise RecipeError(
            f"{path} defines no function `recipe`. Write `def recipe(...) -> Recipe:` in it."
        )
    # With `from __future__ import annotations` a recipe's annotations are text until they are read.
    signature = inspect.signature(make, eval_str=True)
    declared = {name: one.annotation for name, one in signature.parameters.items()}
    values = read_values(f"{path}: recipe()", declared, arguments or {}, RecipeError)
    try:
        made = make(**values)
    except OmrError:
        raise
    except Exception as error:
        raise RecipeError(
            f"{path}: recipe() failed with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Recipe):
        raise RecipeError(
            f"{path}: recipe() must return a Recipe, and returned {type(made).__name__}."
        )
    return made


def load_module(path: Path) -> object:
    """The recipe file as a module. Its name depends on the file's name only, so that worker processes find its classes."""
    if not path.is_file():
        raise RecipeError(f"there is no recipe file {path}.")
    name = f"omr_recipe_{re.sub('[^0-9A-Za-z_]', '_', path.stem)}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise RecipeError(
            f"{path} is no Python file. A recipe is a .py file with a function `recipe`."
        )
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        # A recipe may import the files beside it. Last, so that no file there hides a library.
        sys.path.append(folder)
    try:
        specification.loader.exec_module(module)
    except OmrError:
        raise
    except Exception as error:
        raise RecipeError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def load_in_worker(path: Path) -> None:
    """Loads a recipe file in a worker process, so that the classes it defines can be unpickled there."""
    if multiprocessing.parent_process() is not None:
        load_module(path)
