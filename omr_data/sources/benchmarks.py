"""The benchmarks that the two recipes are measured on, to decontaminate against.

They are declared, with their ids on the Hub. A converter moves a benchmark into a file of its own,
as GSM8K's has. Until then plans show them, and a build against them is refused.
"""

from dataclasses import dataclass

from omr_data.source import Source
from omr_data.sources import gsm8k
from omr_data.sources.planned import PlannedSource


@dataclass(frozen=True)
class MathVista(PlannedSource):
    """Visual mathematics in 28 older datasets' images and three new ones."""

    repo = "AI4Math/MathVista"
    license = "CC-BY-SA-4.0"
    patterns = ("data/*.parquet",)


@dataclass(frozen=True)
class MathVision(PlannedSource):
    """Competition problems with images. MMR1's traces draw on it."""

    repo = "MathLLMs/MathVision"
    license = "MIT"
    patterns = ("data/*.parquet",)


@dataclass(frozen=True)
class MathVerse(PlannedSource):
    """Diagram problems in six versions each, with more or less of the text in the image."""

    repo = "AI4Math/MathVerse"
    license = "MIT"
    patterns = ("*.parquet",)


@dataclass(frozen=True)
class DynaMath(PlannedSource):
    """Seed questions with variants drawn by programs."""

    repo = "DynaMath/DynaMath_Sample"
    license = "Apache-2.0"
    patterns = ("data/*.parquet",)


@dataclass(frozen=True)
class WeMath(PlannedSource):
    """Problems split into the steps of knowledge that they need."""

    repo = "We-Math/We-Math"
    license = "CC-BY-NC-4.0"
    patterns = ("data/*.parquet",)


@dataclass(frozen=True)
class LogicVista(PlannedSource):
    """Logical reasoning in images."""

    repo = "lscpku/LogicVista"
    license = "Apache-2.0"
    patterns = ("data/*.parquet",)


@dataclass(frozen=True)
class Mmmu(PlannedSource):
    """College problems in thirty subjects."""

    repo = "MMMU/MMMU"
    license = "Apache-2.0"
    patterns = ("*/*.parquet",)


@dataclass(frozen=True)
class MmmuPro(PlannedSource):
    """MMMU with ten options, and with the question in the image."""

    repo = "MMMU/MMMU_Pro"
    license = "Apache-2.0"
    patterns = ("*/*.parquet",)


@dataclass(frozen=True)
class CharXiv(PlannedSource):
    """Questions about charts of scientific papers."""

    repo = "princeton-nlp/CharXiv"
    license = "CC-BY-SA-4.0"
    patterns = ("*.parquet",)


@dataclass(frozen=True)
class Math500(PlannedSource):
    """500 problems of MATH, in text."""

    repo = "HuggingFaceH4/MATH-500"
    license = "MIT"
    patterns = ("test.jsonl",)


@dataclass(frozen=True)
class Aime(PlannedSource):
    """The thirty problems of AIME 2024, in text."""

    repo = "HuggingFaceH4/aime_2024"
    license = "unknown"
    patterns = ("data/*.parquet",)


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
