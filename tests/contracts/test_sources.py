"""Every file in omr_data/sources/ that defines a source is complete, and keeps its promises.

Adding a source is adding one file and its fixture: this test finds the file, and says what is
missing.
"""

import ast
import importlib
import json
import pickle
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import omr_data.sources
from omr_data.errors import BadRow
from omr_data.records import ImageRef, Record, check_marks, to_table
from omr_data.source import Files, Source
from omr_data.sources.hub import HubSource
from omr_data.sources.locator import LocalDatasets
from omr_data.sources.planned import PlannedSource
from omr_data.store.images import ImageStore, RowImages

TESTS = Path(__file__).parents[1]
FIXTURES = TESTS / "fixtures" / "sources"
GOLDEN = TESTS / "golden" / "records"
BASES = (HubSource, PlannedSource)

MODULES = {
    module.name: importlib.import_module(f"omr_data.sources.{module.name}")
    for module in pkgutil.iter_modules(omr_data.sources.__path__)
}


def source_classes(name: str) -> list[type[Source]]:
    """The sources that a file defines itself, without the bases that others derive from."""
    module = MODULES[name]
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Source)
        and value.__module__ == module.__name__
        and value not in BASES
        and not value.__name__.startswith("ColumnMap")
    ]


WRITTEN = [
    name
    for name in MODULES
    if any(not issubclass(one, PlannedSource) for one in source_classes(name))
]
PLANNED = [
    one for name in MODULES for one in source_classes(name) if issubclass(one, PlannedSource)
]
FOLDERS = sorted(path.name for path in FIXTURES.iterdir())


def make(folder: str) -> tuple[Source, LocalDatasets]:
    """The source of a fixture folder, and the locator that finds its files there."""
    path = FIXTURES / folder
    arguments: dict[str, Any] = {}
    if (path / "arguments.json").exists():
        arguments = json.loads((path / "arguments.json").read_text())
    for name in ("path", "folder"):
        if name in arguments:
            arguments[name] = path / arguments[name]
    cls: Any = MODULES[folder.partition("@")[0]].__dict__["Source"]
    return cls(**arguments), LocalDatasets(path)


def outcomes(
    source: Source, locator: LocalDatasets, work: Path, backwards: bool = False
) -> list[Record | str]:
    """A record for each row, or the reason why there is none; parts are read in either order."""
    files = source.download(locator)
    images = RowImages(files.images or files.root, ImageStore(work))
    parts = list(source.parts(files))
    found: dict[int, list[Record | str]] = {}
    for number in sorted(range(len(parts)), reverse=backwards):
        rows = source.rows(files, parts[number])
        found[number] = [outcome(source, row, images) for row in rows]
    return [one for number in sorted(found) for one in found[number]]


def outcome(source: Source, row: Any, images: RowImages) -> Record | str:
    try:
        return check_marks(source.convert(row, images))
    except BadRow as bad:
        return bad.reason


def plain(one: Record | str, with_images: bool) -> dict[str, Any]:
    """What a golden file keeps of a row: the fields that are not at their default, or the reason.

    A new optional field of Record therefore leaves every golden file as it is.
    """
    if isinstance(one, str):
        return {"dropped": one}
    # A blank record tells the defaults as the table spells them, such as [] for ().
    blank = Record(id="", source="", license="", question="", answer="")
    row, default = to_table([one, blank]).to_pylist()
    for image in row["images"]:
        # Made images depend on the version of the library that makes them; files do not.
        image["sha256"] = image["sha256"][:16] if with_images else ""
    kept = {key: value for key, value in row.items() if value != default[key]}
    whole: dict[str, Any] = json.loads(json.dumps(kept))
    return whole


@pytest.mark.parametrize("name", WRITTEN)
def test_a_source_has_a_fixture_in_its_published_shape(name: str) -> None:
    assert (FIXTURES / name).is_dir(), (
        f"omr_data/sources/{name}.py defines a source and has no fixture. Add the folder "
        f"tests/fixtures/sources/{name}/ with about ten rows of your own in the shape that the "
        "dataset is published in: for a Hub source <organization>/<name>/<files>, for others "
        "arguments.json with the arguments of Source(). Then run this test twice: the first run "
        f"writes tests/golden/records/{name}.json, which you read and commit."
    )


@pytest.mark.parametrize("name", WRITTEN)
def test_a_source_file_calls_its_source_source(name: str) -> None:
    assert "Source" in [one.__name__ for one in source_classes(name)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_fixture_converts_to_its_golden_records(folder: str, tmp_path: Path) -> None:
    """A record that changes without a bumped revision would silently reuse old stages."""
    source, locator = make(folder)
    has_files = source.download(locator) != Files()
    found = [plain(one, has_files) for one in outcomes(source, locator, tmp_path)]
    golden = GOLDEN / f"{folder}.json"
    if not golden.exists():
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        pytest.fail(f"{golden} was missing and is written now: read it, and commit it")
    assert found == json.loads(golden.read_text()), (
        f"{source.name} makes other records than tests/golden/records/{folder}.json. Stages of the "
        f"old ones are in people's caches: set `revision: ClassVar[int] = {source.revision + 1}`, "
        "delete the golden file, run this test twice and read what changed. Or undo the change."
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_reading_is_deterministic_and_does_not_depend_on_the_order_of_parts(
    folder: str, tmp_path: Path
) -> None:
    source, locator = make(folder)
    twin = pickle.loads(pickle.dumps(source))
    assert twin == source
    assert outcomes(twin, locator, tmp_path, backwards=True) == outcomes(source, locator, tmp_path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_records_have_ids_of_their_own_a_source_and_a_license(folder: str, tmp_path: Path) -> None:
    source, locator = make(folder)
    records = [one for one in outcomes(source, locator, tmp_path) if isinstance(one, Record)]
    assert records, f"No row of the fixture {folder} becomes a record: add a good row."
    twice = [id_ for id_, count in Counter(one.id for one in records).items() if count > 1]
    assert not twice, (
        f"Ids must be unique, and these are not: {twice[:3]}. Take the row's number into the id: "
        "row['_line'] beside the dataset's name."
    )
    for one in records:
        assert one.source and one.license and one.question, (
            f"{one.id} needs a source, a license ('unknown' where none is stated) and a question."
        )


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_read_is_what_is_pinned(folder: str) -> None:
    """The same files give the same pin, and a source without files has none."""
    source, locator = make(folder)
    assert source.resolve(locator) == source.resolve(locator)
    has_files = source.download(locator) != Files()
    assert (source.resolve(locator).digest is not None) == has_files


@pytest.mark.parametrize(
    "name", sorted({*WRITTEN, *(one.__module__.split(".")[-1] for one in PLANNED)})
)
def test_hub_sources_declare_repository_license_and_patterns(name: str) -> None:
    for cls in source_classes(name):
        if issubclass(cls, HubSource):
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", cls.repo), cls
            assert cls.license, f"{cls}: write 'unknown' where the card states no license"
            assert cls.patterns, cls
            assert cls.__doc__, cls


@pytest.mark.parametrize("cls", PLANNED, ids=lambda cls: cls.name)
def test_a_source_without_a_converter_is_named_by_what_refuses_it(cls: type[PlannedSource]) -> None:
    problem = str(cls().problem())
    assert cls.name in problem
    assert cls.repo in problem
    assert "has no converter yet" in problem


class AnyImages:
    """Takes every path for an image, so that a row of a docstring converts without files."""

    def from_bytes(self, data: bytes) -> ImageRef:
        return ImageRef("ab" * 32, 8, 6, "PNG")

    def from_file(self, relative: str) -> ImageRef:
        return ImageRef("ab" * 32, 8, 6, "PNG")


def sample_rows(text: str) -> Iterator[dict[str, Any]]:
    """The literal rows in a docstring: indented blocks that begin with a brace."""
    for block in re.findall(r"^    (\{.*?\}) *$", text, re.MULTILINE | re.DOTALL):
        yield ast.literal_eval(block)


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "synthetic"])
def test_the_sample_row_in_the_docstring_converts(name: str) -> None:
    rows = list(sample_rows(MODULES[name].__doc__ or ""))
    assert rows, f"the docstring of omr_data/sources/{name}.py needs a literal row of the dataset"
    source, _ = make(name)
    if name in ("files", "hub"):
        # Their fixtures map other columns; the docstring shows the columns of the default.
        arguments = {"files": {"path": "a"}, "hub": {"repo": "a/b"}}[name]
        source = MODULES[name].Source(dataset="demo", license="MIT", **arguments)
    for row in rows:
        place = {"_line": 0, "_file": "demo", "_folder": ""}
        assert source.convert(row | place, AnyImages()).question
