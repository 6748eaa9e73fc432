"""Imports only ever point up the list of layers, the core stays light, and each plugin file keeps its contract."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
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
    "cli",
)
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def layer(module: str) -> int:
    return LAYERS.index(module.split(".")[1])


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("omr_data"):
            found |= (
                {node.module}
                if "." in node.module
                else {f"omr_data.{name.name}" for name in node.names}
            )
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name.startswith("omr_data.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_only_point_up_the_layers(path: Path) -> None:
    own = LAYERS.index(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    wrong = {module for module in imported(path) if layer(module) > own}
    assert not wrong, f"{path} is in layer {LAYERS[own]} and imports {wrong}"


def test_importing_the_package_is_light_and_fast() -> None:
    """Without torch, vllm, ray, polars, pyarrow, datasets, sympy or numba; best of five, each in a process of its own."""
    code = (
        "import sys, time; start = time.perf_counter(); import omr_data; print(time.perf_counter() - start);"
        "print(*{'torch', 'transformers', 'vllm', 'ray', 'polars', 'pyarrow', 'datasets', 'sympy', 'pint', 'numba'} & set(sys.modules))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(5)
    ]
    assert {run[1] for run in runs} == {""}
    assert min(float(run[0]) for run in runs) < 0.5


def plugins(folder: str) -> list[str]:
    package = importlib.import_module(f"omr_data.{folder}")
    return [f"omr_data.{folder}.{module.name}" for module in pkgutil.iter_modules(package.__path__)]


@pytest.mark.parametrize(
    "name",
    [
        *plugins("sources"),
        *plugins("teachers"),
        *plugins("verifiers"),
        *plugins("operators"),
        *plugins("embedders"),
    ],
)
def test_each_plugin_is_a_frozen_documented_spec_with_a_name_of_its_own(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Spec) and value.__module__ == name:
            assert is_dataclass(value), value
            assert value.__dataclass_params__.frozen, value
            assert value.__doc__, value
            assert value.name.count(".") == 1, value


def test_specs_of_one_name_declare_one_identity() -> None:
    """As the teachers that ask one model in two places do: equal revisions, and equal fields with equal defaults."""
    names: dict[str, object] = {}
    for folder in ("sources", "teachers", "verifiers", "operators", "embedders"):
        for name in plugins(folder):
            for value in vars(importlib.import_module(name)).values():
                if isinstance(value, type) and issubclass(value, Spec) and value.__module__ == name:
                    declared = [
                        (field.name, field.type, field.default)
                        for field in fields(value)
                        if not NOT_IDENTITY.items() <= field.metadata.items()
                    ]
                    identity = (value.revision, declared) if issubclass(value, ChatModel) else value
                    assert names.setdefault(value.name, identity) == identity, value


@pytest.mark.parametrize("name", plugins("verifiers"))
def test_a_verifier_module_that_defines_a_verifier_calls_it_verifier(name: str) -> None:
    module = importlib.import_module(name)
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base.Verifier) and value.__module__ == name
    ]
    assert [value.__name__ for value in found] in ([], ["Verifier"])
