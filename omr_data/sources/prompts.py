"""Questions of a source outside a build: for `omr eval MODEL SOURCE`, which has no workspace."""

import importlib
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

from omr_data import source
from omr_data.arguments import read_values
from omr_data.errors import BadRow, SourceError
from omr_data.records import Record
from omr_data.store.images import ImageStore, RowImages


@dataclass(frozen=True, slots=True)
class SourceQuestion:
    """A record of a source with the bytes of its images."""

    record: Record
    """The record."""
    images: tuple[bytes, ...]
    """Its images, in the order of `record.images`."""


def read_questions(
    dataset: source.Source, locator: source.DatasetLocator
) -> tuple[list[SourceQuestion], Counter[str]]:
    """Reads all records of a source into memory, with their images.

    Returns:
        The questions, and how many rows cannot be read, by reason.

    Raises:
        SourceError: The dataset cannot be read as declared.
    """
    files = dataset.download(locator)
    questions: list[SourceQuestion] = []
    bad: Counter[str] = Counter()
    # Sources put images into a store by contract. The bytes are read back before it is deleted.
    with tempfile.TemporaryDirectory() as folder:
        images = RowImages(files.root, ImageStore(Path(folder)))
        for part in dataset.parts(files):
            for row in dataset.rows(files, part):
                # One bad row must not end an evaluation; how many there were is said at its end.
                try:
                    record = dataset.convert(row, images)
                except BadRow as error:
                    bad[error.reason] += 1
                    continue
                data = tuple(images.store.read(image) for image in record.images)
                questions.append(SourceQuestion(record, data))
    return questions, bad


def named_source(name: str, given: Mapping[str, str]) -> source.Source:
    """Makes the Source of a module of omr_data.sources.

    Args:
        name: The name of the module.
        given: Arguments of the source, as text.

    Raises:
        SourceError: There is no such source, or an argument does not fit.
    """
    kind: type[source.Source] | None = None
    module = f"omr_data.sources.{name}"
    try:
        kind = getattr(importlib.import_module(module), "Source", None)
    except ModuleNotFoundError as error:
        # A dependency that is missing is another fault than a name that is wrong.
        if error.name != module:
            raise
    # A module may also hold the base class, imported under that name.
    if kind is None or kind.__module__ != module:
        raise SourceError(
            f"{name} is not a release, and omr_data.sources has no source of that name. "
            "Give the folder of a release, or a source like synthetic or gsm8k."
        )
    # Annotations are texts where a module says so, and only hints are types in any case.
    hints = get_type_hints(kind)
    declared = {one.name: hints[one.name] for one in fields(kind)}
    made: source.Source = kind(**read_values(name, declared, given, SourceError))
    return made
