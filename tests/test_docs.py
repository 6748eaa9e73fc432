"""What the documents show is true: their Python runs, and their files and commands exist."""

import re
import textwrap
from pathlib import Path

import pytest
from typer.main import get_command

from omr_data.cli import app
from omr_data.recipe import Recipe
from tests.omr import ROOT, omr

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def test_the_first_recipe_of_the_readme_is_the_tiny_recipe() -> None:
    scope: dict[str, object] = {}
    exec(blocks(ROOT / "README.md", "python")[0], scope)
    made = scope["recipe"]()  # type: ignore[operator]
    assert isinstance(made, Recipe)
    from omr_data.plan import make_plan
    from omr_data.recipe import load
    from omr_data.sources.locator import LocalDatasets

    tiny = load(ROOT / "recipes/omr_sft_tiny.py")
    assert (
        make_plan(made, LocalDatasets()).fingerprint == make_plan(tiny, LocalDatasets()).fingerprint
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_a_document_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one scope and in order, in a folder that holds a small release."""
    import sys

    sys.modules.pop("omr_recipe_logged", None)
    monkeypatch.chdir(tmp_path)
    if "load_dataset" in path.read_text():
        places = ("--work", tmp_path / "work", "--releases", tmp_path / "releases", "--workers", 1)
        omr(
            "build",
            ROOT / "recipes/omr_sft_tiny.py",
            "--set",
            "questions=45",
            "--set",
            "rollouts=4",
            *places,
        )
    scope: dict[str, object] = {}
    for block in blocks(path, "python"):
        exec(textwrap.dedent(block), scope)


def test_the_tree_of_the_readme_names_every_file_and_folder_at_the_top() -> None:
    tree = re.search(r"```\nomr_data/\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    named = set(re.findall(r"^  (\S+)", tree[1], re.MULTILINE))
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "omr_data").iterdir()
        if not path.name.startswith("_")
    }
    assert named == there


def test_every_command_of_a_document_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    for path in DOCUMENTS:
        for line in "\n".join(blocks(path, "console")).splitlines():
            if line.startswith("$ omr "):
                assert line.split()[2] in known, line
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\$ make ([a-z-]+)", README)) <= set(targets)


def test_every_link_between_documents_leads_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
