"""The trainer depends on little: a release is all it knows of how data was made."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import omr_data.train

FOLDER = Path(omr_data.train.__file__).parent
ALLOWED = {
    "errors",
    "arguments",
    "identity",
    "records",
    "mrope",
    "progress",
    "processes",
    "http",
    "store",
    "verifiers",
    "train",
}
FILES = sorted(FOLDER.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_the_trainer_imports_nothing_of_recipes_sources_or_engines(path: Path) -> None:
    """Imports that only a type checker sees count too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("omr_data."):
            part = str(node.module).split(".")[1]
            names = {name.name for name in node.names}
            # Settings need to know where the embedded model's weights are.
            folder_of_tiny = node.module == "omr_data.teachers" and names == {"tiny"}
            assert part in ALLOWED or folder_of_tiny, ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and node.module == "omr_data":
            assert {name.name for name in node.names} <= ALLOWED, ast.unparse(node)


def test_only_the_folder_of_the_embedded_model_is_used() -> None:
    used = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "tiny":
                used.add(node.attr)
    assert used == {"FOLDER"}


@pytest.mark.build
def test_shapes_are_not_checked_outside_tests() -> None:
    """A check at every call would cost more than some of the calls."""
    code = (
        "import sys, torch\n"
        "from omr_data.train.losses import mean_per_completion\n"
        "mean_per_completion(torch.ones(2), torch.zeros(2, dtype=torch.int64), 1)\n"
        "print('beartype' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
