"""Stand-ins that fixtures name: small, quick, and the same on every machine."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from omr_data import teacher
from omr_data.embedders import base
from omr_data.records import Response
from omr_data.teacher import Answers, Batch, Budget, ReadImage, Session


@dataclass(frozen=True)
class WordEmbedder(base.Embedder):
    """The sum of a fixed vector for each word, so that texts with the same words are alike."""

    name: ClassVar[str] = "doubles.WordEmbedder"

    def embed(self, texts: Sequence[str]) -> Any:
        vectors = np.zeros((len(texts), 16), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                # Small whole numbers: their sums are exact in any order of addition.
                seed = zlib.crc32(word.encode())
                vectors[row] += np.random.default_rng(seed).integers(-8, 9, 16)
        return vectors


@dataclass(frozen=True)
class Words(teacher.Teacher):
    """Gives one text as every answer."""

    name: ClassVar[str] = "doubles.Words"
    text: str

    @property
    def model_id(self) -> str:
        return "words"

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        yield _WordsSession(self.text, budget)


@dataclass(frozen=True, slots=True)
class _WordsSession:
    text: str
    budget: Budget

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        for batch in self.budget.within(batches):
            for request in batch:
                yield [
                    (request, [Response(self.text, number, "words") for number in request.attempts])
                ]

    def note(self) -> str:
        return ""
