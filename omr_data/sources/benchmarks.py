"""The benchmarks that the two recipes are measured on, to decontaminate against.

They are declared, with their ids on the Hub; a converter moves a benchmark into a file of its own, as GSM8K's has. Until
then plans show them, and a build against them is refused.
"""

from dataclasses import dataclass
from typing import ClassVar

from omr_data.source import Source
from omr_data.sources import gsm8k
from omr_data.sources.planned import PlannedSource


@dataclass(frozen=True)
class MathVista(PlannedSource):
    """Visual mathematics in 28 older datasets' images and three new ones."""

    repo: ClassVar[str] = "AI4Math/MathVista"
    license: ClassVar[str] = "CC-BY-SA-4.0"
    patterns: ClassVar[tuple[str, ...]] = ("data/*.parquet",)


@dataclass(frozen=True)
class MathVision(PlannedSource):
    """Competition problems with images. MMR1's traces draw on it."""

    repo: ClassVar[str] = "MathLLMs/MathVision"
    license: ClassVar[str] = "MIT"
    patterns: ClassVar[tuple[str, ...]] = ("data/*.parquet",)


@dataclass(frozen=True)
class MathVerse(PlannedSource):
    """Diagram problems in six versions each, with more or less of the text in the image."""

    repo: ClassVar[str] = "AI4Math/MathVerse"
    license: ClassVar[str] = "MIT"
    patterns: ClassVar[tuple[str, ...]] = ("*.parquet",)


@dataclass(frozen=True)
class DynaMath(PlannedSource):
    """Seed questions with variants drawn by programs."""

    repo: ClassVar[str] = "DynaMath/DynaMath_Sample"
    license: ClassVar[str] = "Apache-2.0"
    patterns: ClassVar[tuple[str, ...]] = ("data/*.parquet",)


@dataclass(frozen=True)
class WeMath(PlannedSource):
    """Problems split into the steps of knowledge that they need."""

    repo: ClassVar[str] = "We-Math/We-Math"
    license: ClassVar[str] = "CC-BY-NC-4.0"
    patterns: ClassVar[tuple[str, ...]] = ("data/*.parquet",)


@dataclass(frozen=True)
class LogicVista(PlannedSource):
    """Logical reasoning in images."""

    repo: ClassVar[str] = "lscpku/LogicVista"
    license: ClassVar[str] = "Apache-2.0"
    patterns: ClassVar[tuple[str, ...]] = ("data/*.parquet",)


@dataclass(frozen=True)
class Mmmu(PlannedSource):
    """College problems in thirty subjects."""

    repo: ClassVar[str] = "MMMU/MMMU"
    license: ClassVar[str] = "Apache-2.0"
    patterns: ClassVar[tuple[str, ...]] = ("*/*.parquet",)


@dataclass(frozen=True)
class MmmuPro(PlannedSource):
    """MMMU with ten options, and with the question in the image."""

    repo: ClassVar[str] = "MMMU/MMMU_Pro"
    license: ClassVar[str] = "Apache-2.0"
    patterns: ClassVar[tuple[str, ...]] = ("*/*.parquet",)


@dataclass(frozen=True)
class CharXiv(PlannedSource):
    """Questions about charts of scientific papers."""

    repo: ClassVar[str] = "princeton-nlp/CharXiv"
    license: ClassVar[str] = "CC-BY-SA-4.0"
    patterns: ClassVar[tuple[str, ...]] = ("*.parquet",)


@dataclass(frozen=True)
class Math500(PlannedSource):
    """500 problems of MATH, in text."""

    repo: ClassVar[str] = "HuggingFaceH4/MATH-500"
    license: ClassVar[str] = "MIT"
    patterns: ClassVar[tuple[str, ...]] = ("test.jsonl",)


@dataclass(frozen=True)
class Aime(PlannedSource):
    """The thirty problems of AIME 2024, in text."""

    repo: ClassVar[str] = "HuggingFaceH4/aime_2024"
    license: ClassVar[str] = "unknown"
    patterns: ClassVar[tuple[str, ...]] = ("data/*.parquet",)


BENCHMARKS: tuple[Source, ...] = (
    MathVista(),
    MathVision(),
    MathVerse(),
    DynaMath(),
    WeMath(),
    LogicVista(),
    Mmmu(),
    MmmuPro(),
    CharXiv(),
    gsm8k.Source(split="test"),
    Math500(),
    Aime(),
)
