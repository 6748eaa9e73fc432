"""The documents are true: their Python and commands run, and what they name exists."""

import importlib.util
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

import omr_data
from omr_data.cli import app
from omr_data.cli.listing import PluginKind, plugins
from omr_data.plan import make_plan
from omr_data.recipe import Recipe, load
from omr_data.sources.locator import LocalDatasets
from tests.documents import Block, blocks, reader
from tests.omr import ROOT, omr

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
README = (ROOT / "README.md").read_text(encoding="utf-8")
WRITTEN = sorted(
    [
        *ROOT.glob("*.md"),
        *DOCS.glob("*.md"),
        *DOCS.glob("howto/*.md"),
    ]
)
"""Every document that is written by hand."""
FOLLOWED = [DOCS / "tutorial.md", *sorted(DOCS.glob("howto/*.md"))]
"""Documents that a newcomer follows from top to bottom."""
SLOW = {"train.md", "use-a-server.md"}
"""Documents that train, or start a server: `make test-slow` follows them."""
by_name = pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)


def of(path: Path, language: str) -> list[Block]:
    found = blocks(path.read_text(encoding="utf-8"))
    return [block for block in found if block.language == language]


def module_of(file: Path) -> ModuleType:
    """Runs a file as a module that can be found while it runs, and forgets it afterwards."""
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[file.stem] = module
    try:
        specification.loader.exec_module(module)
    finally:
        del sys.modules[file.stem]
    return module


def marked(path: Path) -> object:
    """A document that is followed, with the tier that its length needs."""
    tier = pytest.mark.slow if path.name in SLOW else pytest.mark.build
    return pytest.param(path, marks=tier, id=path.name)


@pytest.mark.parametrize("path", [marked(path) for path in FOLLOWED])
def test_a_document_can_be_followed_in_a_fresh_clone(path: Path, tmp_path: Path) -> None:
    with reader(tmp_path) as newcomer:
        assert newcomer.follow(path) >= 4


def test_the_first_recipe_of_the_readme_is_the_tiny_recipe() -> None:
    scope: dict[str, object] = {}
    exec(of(ROOT / "README.md", "python")[0].text, scope)
    made = scope["recipe"]()  # type: ignore[operator]
    assert isinstance(made, Recipe)
    tiny = load(ROOT / "recipes/omr_sft_tiny.py")
    plans = [make_plan(recipe, LocalDatasets()).fingerprint for recipe in (made, tiny)]
    assert plans[0] == plans[1]


EXECUTED = [path for path in WRITTEN if path not in FOLLOWED and of(path, "python")]


@pytest.mark.build
@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.name)
def test_python_in_a_document_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one module and in order, in a folder that holds a small release."""
    monkeypatch.chdir(tmp_path)
    if "load_dataset" in path.read_text(encoding="utf-8"):
        places = ("--work", tmp_path / "work", "--releases", tmp_path / "releases", "--workers", 1)
        small = ("--set", "questions=45", "--set", "rollouts=4")
        omr("build", ROOT / "recipes/omr_sft_tiny.py", *small, *places)
    file = tmp_path / "document.py"
    file.write_text("\n".join(textwrap.dedent(block.text) for block in of(path, "python")))
    # A file and not exec(): a step that is defined outside the package is identified by its source.
    module_of(file)


def test_the_tree_of_the_readme_names_every_file_and_folder_at_the_top() -> None:
    tree = re.search(r"```text\nomr_data/\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    named = set(re.findall(r"^  (\S+)", tree[1], re.MULTILINE))
    there = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "omr_data").iterdir()
        if not path.name.startswith("_") and path.name != "py.typed"
    }
    assert named == there


def known_commands() -> set[tuple[str, ...]]:
    """Every command of `omr` as its words: ("plan",), ("train", "sft"), ..."""
    found: set[tuple[str, ...]] = set()
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found.add((name,))
        found |= {(name, below) for below in getattr(command, "commands", {})}
    return found


@by_name
def test_every_command_of_a_document_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    known = known_commands()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = [line for block in of(path, "console") for line in block.text.splitlines()]
    lines += [f"$ {line}" for line in re.findall(r"`((?:omr|make) [^`]+)`", text)]
    for line in lines:
        words = line.split()
        if words[:2] == ["$", "omr"] and words[2][0] not in "-|":
            assert {tuple(words[2:3]), tuple(words[2:4])} & known, line
        if words[:2] == ["$", "make"]:
            assert words[2] in targets, line


@by_name
def test_every_link_between_documents_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


_FILE = re.compile(r"`((?:omr_data|recipes|tests|docs|cards|benchmarks)/[\w./@-]+)`")


@by_name
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    made = {block.options.get("title") for block in blocks(text)}
    # A word in capitals stands for a name, as in `omr_data/sources/NAME.py`.
    named = [name for name in _FILE.findall(text) if not re.search(r"/[A-Z]+\.", name)]
    missing = [name for name in named if not (ROOT / name).exists()]
    assert [name for name in missing if name not in made] == []


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_a_document_has_lines_of_at_most_100_columns(path: Path) -> None:
    """Rows of tables cannot be broken."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


def generated() -> dict[str, str]:
    """What docs/reference/generate.py makes of the code now, by file name."""
    pages: dict[str, str] = module_of(REFERENCE / "generate.py").pages()
    return pages


def test_the_reference_is_what_the_code_says_now() -> None:
    pages = generated()
    there = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    stale = [name for name in {*pages, *there} if pages.get(name) != there.get(name)]
    assert not stale, f"Run `make reference` and commit it: {sorted(stale)} are not up to date."


def test_the_reference_describes_every_public_name_plugin_and_command() -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    for name in {*omr_data.__all__} - {"__version__"}:
        assert f"## {name}\n" in pages["contracts.md"], name
    for kind in PluginKind:
        for plugin in plugins(kind):
            assert f"## {plugin.name}\n" in pages[f"{kind}.md"], plugin.name
    for words in known_commands():
        assert f"## omr {' '.join(words)}\n" in pages["cli.md"], words


def test_a_reference_page_lists_arguments_and_fields_with_what_they_mean() -> None:
    pages = generated()
    assert "- `commit: str | None = None`  The commit on the Hub" in pages["contracts.md"]
    assert "- `repo`: The id of the dataset on the Hub" in pages["contracts.md"]
    assert "Worker processes. The result does not depend on" in pages["cli.md"]
