"""Imports point up the list of layers; the core is light; each plugin file keeps its contract."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import omr_data
from omr_data.identity import NOT_IDENTITY, Spec
from omr_data.teachers.openai_api.model import ChatModel
from omr_data.verifiers import base

PACKAGE = Path(omr_data.__file__).parent
LAYERS = (
    "errors",
    "arguments",
    "syntax",
    "identity",
    "records",
    "mrope",
    "progress",
    "processes",
    "http",
    "flow",
    "source",
    "teacher",
    "step",
    "store",
    "similar",
    "embedders",
    "sources",
    "teachers",
    "verifiers",
    "operators",
    "recipe",
    "plan",
    "engine",
    "release",
    "figures",
    "train",
    "ablate",
    "report",
    "display",
    "cli",
)
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
HEAVY = {
    *("torch", "transformers", "vllm", "ray", "polars", "pyarrow", "datasets", "pandas", "numpy"),
    *("sympy", "pint", "numba", "PIL", "aiohttp", "huggingface_hub", "openai"),
}
"""What takes long to import, or comes with an extra."""
MOST_MODULES = 200
"""Modules that `import omr_data` may load, the standard library's included. It loads 161; each
takes about 0.3 ms, and the number is the same on every machine, unlike the seconds."""


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer(module: str) -> int:
    return LAYERS.index(module.split(".")[1])


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@cache
def imported(path: Path) -> frozenset[str]:
    """The modules of the package that a file imports, those for type checking included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            # Ruff's TID refuses relative imports, so each name of the package is written in full.
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if inner in MODULES else node.module or "")
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return frozenset(name for name in found if name.startswith("omr_data."))


def test_each_file_and_folder_has_a_layer() -> None:
    unknown = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert not unknown - set(LAYERS), "add these to LAYERS, and to the list in CONTRIBUTING.md"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_only_point_up_the_layers(path: Path) -> None:
    own = LAYERS.index(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    wrong = {module for module in imported(path) if layer(module) > own}
    assert not wrong, f"{path} is in layer {LAYERS[own]} and imports {wrong}"


def test_no_import_runs_in_a_circle_not_even_for_type_checking() -> None:
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        pytest.fail(f"These modules import each other in a circle: {circle}")


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys; before = set(sys.modules); import omr_data; print(*set(sys.modules) - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = run.stdout.split()
    heavy = {name.partition(".")[0] for name in loaded} & HEAVY
    assert not heavy, f"import omr_data loads {heavy}: import them where they are used"
    assert len(loaded) <= MOST_MODULES, f"import omr_data loads {len(loaded)} modules"


def plugins(folder: str) -> list[str]:
    """The modules of a folder. Those of a teacher that is a folder itself are its own affair."""
    package = importlib.import_module(f"omr_data.{folder}")
    walk = pkgutil.iter_modules if folder == "teachers" else pkgutil.walk_packages
    return [module.name for module in walk(package.__path__, f"{package.__name__}.")]


def specs(module: str) -> list[type[Spec]]:
    """The Spec classes that a module defines itself."""
    values = vars(importlib.import_module(module)).values()
    found = [value for value in values if isinstance(value, type) and issubclass(value, Spec)]
    return [value for value in found if value.__module__ == module]


FOLDERS = ("sources", "teachers", "verifiers", "operators", "embedders")
PLUGINS = [name for folder in FOLDERS for name in plugins(folder)]


@pytest.mark.parametrize("name", PLUGINS)
def test_each_plugin_is_a_frozen_documented_spec_with_a_name_of_its_own(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} needs a docstring"
    for value in specs(name):
        assert is_dataclass(value), f"{value} needs @dataclass(frozen=True)"
        assert value.__dataclass_params__.frozen, f"{value} needs @dataclass(frozen=True)"
        assert "__doc__" in vars(value), f"{value} needs a docstring"
        assert not (value.__doc__ or "").startswith(f"{value.__name__}("), (
            f"{value} needs a docstring"
        )
        assert value.name.count(".") == 1, f"{value}: a name is written noun.Variant"


def test_specs_of_one_name_declare_one_identity() -> None:
    """Teachers that reach one model in two ways share a name: their revisions, and the fields that
    are identity, with their defaults, must be equal."""
    names: dict[str, object] = {}
    for plugin in PLUGINS:
        for value in specs(plugin):
            declared = [
                (field.name, field.type, field.default)
                for field in fields(value)
                if not NOT_IDENTITY.items() <= field.metadata.items()
            ]
            identity = (value.revision, declared) if issubclass(value, ChatModel) else value
            assert names.setdefault(value.name, identity) == identity, value


@pytest.mark.parametrize("name", plugins("verifiers"))
def test_a_verifier_module_that_defines_a_verifier_calls_it_verifier(name: str) -> None:
    found = [value.__name__ for value in specs(name) if issubclass(value, base.Verifier)]
    assert found in ([], ["Verifier"])
