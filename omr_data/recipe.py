"""A recipe: a named, versioned flow, written as a typed function in a Python file.

    def recipe(rollouts: int = 8) -> Recipe:
        return Recipe(name="my-set", version="1.0.0", data=...)

`load` calls that function with arguments given by name. Calling it builds the flow and runs
nothing.
"""

import hashlib
import importlib.util
import inspect
import multiprocessing
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from omr_data.arguments import read_values
from omr_data.errors import OmrError, RecipeError
from omr_data.flow import Flow, as_flow
from omr_data.source import Source
from omr_data.syntax import SOURCE

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+([.-][0-9a-z.]+)?")


@dataclass(frozen=True)
class Recipe:
    """What to make.

    Raises:
        RecipeError: The name or version cannot be the name of a folder and of a Hub tag, or `data`
            is not a flow.
    """

    name: str
    """The name of the dataset: lower-case letters, digits, '.', '_' and '-'."""
    version: str
    """Three numbers, like "1.0.0". A released version is never replaced by other data."""
    data: Flow | Source
    """What is released. A source is wrapped as a flow."""
    rows: range | None = None
    """How many rows the release must have: `range(865_000, 885_000)`. None promises nothing."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RecipeError(
                f"the recipe name {self.name!r} is not usable: write lower-case letters, digits, "
                "'.', '_' and '-', like 'my-set'."
            )
        if not _VERSION.fullmatch(self.version):
            raise RecipeError(
                f"{self.name} has version {self.version!r}: write three numbers, like '1.0.0'."
            )
        object.__setattr__(self, "data", as_flow(self.data))


def load(path: Path, arguments: Mapping[str, str] | None = None) -> Recipe:
    """Calls the `recipe` function of a file.

    Args:
        path: The recipe's Python file.
        arguments: Arguments of the function, as texts that are read by the type of the parameter.

    Raises:
        RecipeError: There is no such file or function, an argument does not exist or cannot be
        read,
            or the file itself fails.
    """
    module = load_module(path)
    make = getattr(module, "recipe", None)
    if not callable(make):
        raise RecipeError(
            f"{path} defines no function `recipe`. Write `def recipe(...) -> Recipe:` in it."
        )
    # The parameters' own annotations are the schema: a recipe states its arguments once.
    # With `from __future__ import annotations` a recipe's annotations are text until they are read.
    signature = inspect.signature(make, eval_str=True)
    declared = {name: one.annotation for name, one in signature.parameters.items()}
    values = read_values(f"{path}: recipe()", declared, arguments or {}, RecipeError)
    try:
        made = make(**values)
    except OmrError:
        raise  # it says what to do in better words than this function could
    except Exception as error:
        raise RecipeError(
            f"{path}: recipe() failed with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(made, Recipe):
        raise RecipeError(
            f"{path}: recipe() must return a Recipe, and returned {type(made).__name__}."
        )
    return made


def load_module(path: Path) -> ModuleType:
    """Runs a recipe file as a module.

    Raises:
        RecipeError: There is no such file, or it fails.
    """
    if not path.is_file():
        raise RecipeError(f"the recipe file {path} does not exist.")
    # Worker processes find the classes of a recipe by the name of its module, so the name depends
    # on nothing but the path. It is not a part of any fingerprint.
    place = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()
    name = f"omr_recipe_{re.sub('[^0-9A-Za-z_]', '_', path.stem)}_{place[:8]}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None:
        raise RecipeError(
            f"{path} is not a Python file. A recipe is a .py file with a function `recipe`."
        )
    module = importlib.util.module_from_spec(specification)
    # Registered before it runs: dataclasses look their module up while they are made.
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        # A recipe may import the files beside it. Last, so that no file there hides a library.
        sys.path.append(folder)
    try:
        # Read once: the text that is run is the text that identifies the classes in it, even if the
        # file is edited while a build runs.
        source = importlib.util.decode_source(path.read_bytes())
        setattr(module, SOURCE, source)
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except OmrError:
        raise
    except Exception as error:
        raise RecipeError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def load_in_worker(path: Path) -> None:
    """Loads a recipe file in a worker process, so that its classes can be unpickled there."""
    # In the main process the recipe is loaded already, and its classes must stay the same objects.
    if multiprocessing.parent_process() is not None:
        load_module(path)
