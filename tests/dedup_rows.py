"""Builds rows, images and decisions for tests of the duplicate and contamination steps."""

import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from omr_data.records import ImageRef, Record, to_table
from omr_data.similar.images import image_hashes
from omr_data.sources.locator import LocalDatasets
from omr_data.step import Columns, Decisions, GlobalStep
from omr_data.store.images import ImageStore, RowImages

WORDS = [
    "".join(random.Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=2 + number % 7))
    for number in range(3_000)
]


class ImageBytes:
    """Encoded images by a made-up sha256."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def put(self, data: bytes) -> ImageRef:
        name = (
            f"{len(self.known):064x}"
            if data not in self.known.values()
            else next(k for k, v in self.known.items() if v == data)
        )
        self.known[name] = data
        with Image.open(io.BytesIO(data)) as image:
            return ImageRef(name, image.width, image.height, image.format or "")

    def read(self, image: ImageRef) -> bytes:
        return self.known[image.sha256]


def columns(
    step: GlobalStep,
    records: Sequence[Record],
    folder: Path,
    read: Callable[[ImageRef], bytes],
    parts: int = 1,
) -> Columns:
    """What the engine would show a GlobalStep: key frames of some shards, and their files."""
    folder.mkdir(parents=True, exist_ok=True)
    frames, paths = [], []
    size = -(-len(records) // parts)
    for number, start in enumerate(range(0, len(records), size)):
        table = to_table(records[start : start + size])
        frames.append(step.extract_keys(table, read))
        paths.append(folder / f"{number}.parquet")
        pl.DataFrame(pl.from_arrow(table.drop_columns(["meta"]))).write_parquet(paths[-1])
    whole = pl.concat(frames)
    return Columns(
        whole.drop(step.lazy_columns),
        whole.lazy().select("id", *step.lazy_columns),
        pl.scan_parquet(paths),
    )


def decide(
    step: GlobalStep,
    records: Sequence[Record],
    folder: Path,
    stored_images: Any = None,
    *,
    parts: int = 1,
    benchmark: Any = (),
) -> Decisions:
    read = stored_images.read if stored_images else lambda image: b""
    references = [columns(step, benchmark, folder / "benchmark", read)] if benchmark else []
    return step.decide(columns(step, records, folder, read, parts), references)


def text(seed: int, words: int = 120) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def edited(original: str, rate: float, seed: int) -> str:
    chance = random.Random(seed)
    return " ".join(
        chance.choice(WORDS) if chance.random() < rate else word for word in original.split()
    )


def jaccard(one: str, other: str) -> float:
    sets = [
        {tuple(words[start : start + 3]) for start in range(len(words) - 2)}
        for words in (one.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def drawing(color: str) -> bytes:
    image = Image.new("RGB", (80, 80), color)
    image.paste("white", (10, 10, 30, 50))
    return encoded(image, "PNG")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(seed: int, size: int = 256) -> Image.Image:
    """Smooth random colors, which have the spectrum of a photograph."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)


def changed(image: Image.Image) -> dict[str, bytes]:
    width, height = image.size
    return {
        "rescaled": encoded(image.resize((width * 2 // 3, height * 2 // 3)), "PNG"),
        "jpeg": encoded(image, "JPEG", quality=50),
        "crop": encoded(
            image.crop((width // 40, height // 40, width - width // 40, height - height // 40)),
            "PNG",
        ),
        "grey alpha": encoded(image.convert("RGBA"), "PNG"),
        "webp": encoded(image, "WEBP", quality=60),
    }


def hashes(data: bytes) -> "np.ndarray[Any, Any]":
    return np.array([image_hashes(data).hashes[:2]], np.uint64)


def read_source(source: Any, mirror: Path, folder: Path) -> tuple[list[Record], ImageStore]:
    store = ImageStore(folder)
    files = source.download(LocalDatasets(mirror))
    images = RowImages(files.root, store)
    return [
        source.convert(row, images)
        for part in source.parts(files)
        for row in source.rows(files, part)
    ], store
