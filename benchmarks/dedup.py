"""Near-duplicate texts and images, against datasketch and imagehash in the same run.

    python benchmarks/dedup.py                  100,000 documents, 10,000 images: about six minutes
    python benchmarks/dedup.py --quick          a tenth of both
    python benchmarks/dedup.py --full           874,000 documents too, on two cores, 8 GB of disk
    python benchmarks/dedup.py --mirror DIR     real images too

Documents of about 4.5 KB are made from a seed; a tenth are copies of others: exact, or with 2, 5,
10 or 20% of their words replaced. dedup.NearText reads them from parquet, signs, indexes, verifies
and decides on one core; datasketch's documented path (update_batch, insert, query) works on the
same texts in memory. The median of three runs counts, each in a process of its own, after the
libraries and the compiled loops are loaded (half a second, once). Truth is the Jaccard similarity
of the shingles of every planted pair. The last line is one JSON object.
"""

import argparse
import contextlib
import ctypes
import io
import json
import math
import os
import platform
import random
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasketch
import imagehash
import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from omr_data.operators.dedup import NearText
from omr_data.processes import mapper
from omr_data.similar.images import image_hashes
from omr_data.similar.minhash import signatures
from omr_data.similar.shingles import shingle
from omr_data.step import Columns

STEP = NearText(threshold=0.8)
ROWS = 10_000
RATES = (0.0, 0.02, 0.05, 0.10, 0.20)


def corpus(folder: Path, count: int, seed: int) -> tuple[list[Path], list[tuple[str, str]]]:
    """Writes shards of 10,000 documents, and returns them with the planted pairs of ids.

    Args:
        folder: Where they are written; it must not exist.
        count: The number of documents.
        seed: The same seed gives the same documents.
    """
    spell = random.Random(seed)
    words = np.array(
        [
            "".join(
                spell.choices(
                    "etaoinshrdlucmfwygpbvk", k=spell.choice((2, 3, 4, 5, 6, 7, 8, 9, 10))
                )
            )
            for _ in range(30_000)
        ]
    )
    numbers = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    paths, pairs = [], []
    kept: list[tuple[str, Any]] = []
    for start in range(0, count, ROWS):
        ids, texts = [], []
        for number in range(start, min(start + ROWS, count)):
            id_ = f"d/{number:07}"
            # Every tenth document copies one of the latest 2,000 originals.
            if kept and number % 10 == 9:
                source, picked = kept[int(numbers.integers(len(kept)))]
                picked = picked.copy()
                swap = np.flatnonzero(
                    numbers.random(len(picked)) < RATES[number // 10 % len(RATES)]
                )
                picked[swap] = numbers.integers(len(words), size=len(swap))
                pairs.append((source, id_))
            else:
                picked = numbers.integers(len(words), size=int(numbers.integers(450, 900)))
                if number % 20 == 0:
                    kept = [*kept[-2_000:], (id_, picked)]
            ids.append(id_)
            texts.append(" ".join(words[picked].tolist()))
        table = {
            "id": ids,
            "source": ["d"] * len(ids),
            "question": texts,
            "options": pa.array([[]] * len(ids), pa.list_(pa.string())),
        }
        paths.append(folder / f"{start:07}.parquet")
        pq.write_table(pa.table(table), paths[-1], compression="zstd")
    return paths, pairs


def make_keys(task: tuple[Path, Path]) -> Path:
    """One shard's key columns."""
    source, target = task
    STEP.extract_keys(pq.ParquetFile(source).read(), lambda image: b"").write_parquet(target)
    return target


def start() -> None:
    """A worker needs nothing of its own."""


def ours(
    paths: Sequence[Path], folder: Path, workers: int
) -> tuple[float, float, set[str], pl.DataFrame]:
    """Seconds in all, seconds of the decision, the dropped ids and the pairs.

    Args:
        paths: The shards.
        folder: Receives the key columns; it must not exist.
        workers: Processes.
    """
    folder.mkdir()
    began = time.perf_counter()
    targets = [folder / path.name for path in paths]
    with mapper(workers, start) as processes:
        for _ in processes.map(make_keys, zip(paths, targets, strict=True)):
            pass
    signed = time.perf_counter()
    keys = pl.scan_parquet(targets)
    light = keys.drop(STEP.lazy_columns).collect()
    payload = keys.select("id", *STEP.lazy_columns)
    data = Columns(light, payload, pl.scan_parquet(list(paths)))
    decisions = STEP.decide(data, ())
    end = time.perf_counter()
    return end - began, end - signed, set(decisions.drops), decisions.tables["pairs"]


def in_its_own_process(paths: Sequence[Path], folder: Path, workers: int) -> dict[str, Any]:
    """Runs `measure` in a fresh process, and adds the peak of memory in MiB.

    Args:
        paths: The shards.
        folder: Receives the key columns and the results.
        workers: Processes.
    """
    import sys

    folder.mkdir(exist_ok=True)
    (folder / "paths.json").write_text(json.dumps([str(path) for path in paths]))
    process = subprocess.Popen(
        [sys.executable, __file__, "--measure", str(folder), str(workers)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"POLARS_MAX_THREADS": str(workers)},
    )
    peak, watched = 0.0, psutil.Process(process.pid)
    while process.poll() is None:
        # A worker may end between the listing and the reading. Shared pages count twice.
        with contextlib.suppress(psutil.Error):
            peak = max(
                peak,
                sum(one.memory_info().rss for one in (watched, *watched.children(recursive=True)))
                / 2**20,
            )
        time.sleep(0.05)
    assert process.stdout is not None
    result: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
    return result | {"peak_mb": round(peak)}


def measure(folder: Path, workers: int) -> None:
    """The child of `in_its_own_process`."""
    paths = [Path(path) for path in json.loads((folder / "paths.json").read_text())]
    # Loads what both sides have loaded when they begin.
    STEP.extract_keys(pq.read_table(paths[0]).slice(0, 1), lambda image: b"")
    seconds, deciding, dropped, pairs = ours(paths, folder / f"keys-{workers}", workers)
    pairs.write_parquet(folder / "pairs.parquet")
    (folder / "dropped.json").write_text(json.dumps(sorted(dropped)))
    print(
        json.dumps(
            {
                "seconds": seconds,
                "deciding": deciding,
                "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
        )
    )


def peer(texts: Sequence[str]) -> float:
    """datasketch: seconds to sign, insert and query every text."""
    began = time.perf_counter()
    index = datasketch.MinHashLSH(threshold=STEP.threshold, num_perm=128)
    for number, text in enumerate(texts):
        found = re.findall(r"\w+", text.lower())
        minhash = datasketch.MinHash(num_perm=128)
        minhash.update_batch(
            [" ".join(found[at : at + 5]).encode() for at in range(len(found) - 4)]
        )
        # Queried before it is inserted, or every text would find itself.
        index.query(minhash)
        index.insert(str(number), minhash)
    return time.perf_counter() - began


def kernel(folder: Path, texts: Sequence[str]) -> tuple[float, float]:
    """Documents a second of signing alone: our stage, and a bare C loop on the same hashes."""
    library = folder / "kernel.so"
    source = Path(__file__).with_name("minhash_kernel.c")
    subprocess.run(
        ["cc", "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(library)],
        check=True,
    )
    sign = ctypes.CDLL(str(library)).sign
    shingles = shingle(pl.Series(texts))
    out = np.zeros((len(texts), 128), np.uint32)
    a, b = (
        np.random.default_rng(seed).integers(1, 2**62, 128, dtype=np.int64).astype(np.uint64)
        for seed in (1, 2)
    )
    arrays = [
        array.ctypes.data_as(ctypes.c_void_p) for array in (shingles.hashes, shingles.offsets)
    ]
    rest = [array.ctypes.data_as(ctypes.c_void_p) for array in (a, b, out)]
    rates: tuple[list[float], list[float]] = ([], [])
    # The median of five rounds in turns.
    for _ in range(5):
        began = time.perf_counter()
        signatures(shingles)
        middle = time.perf_counter()
        sign(*arrays, ctypes.c_size_t(len(texts)), *rest)
        rates[0].append(len(texts) / (middle - began))
        rates[1].append(len(texts) / (time.perf_counter() - middle))
    return sorted(rates[0])[2], sorted(rates[1])[2]


def quality(
    folder: Path, paths: Sequence[Path], planted: Sequence[tuple[str, str]]
) -> tuple[float, float]:
    """Recall over planted pairs at the threshold, and precision of the pairs that led to a drop.

    Args:
        folder: What `measure` wrote.
        paths: The shards.
        planted: Pairs of ids.
    """
    ids = sorted({id_ for pair in planted for id_ in pair})
    frame = (
        pl.scan_parquet(list(paths))
        .filter(pl.col("id").is_in(ids))
        .select("id", "question")
        .collect()
    )
    texts = dict(frame.iter_rows())
    sets = {id_: shingle(pl.Series([texts[id_]])).of(0) for id_ in ids}
    dropped = set(json.loads((folder / "dropped.json").read_text()))
    wanted = [pair for pair in planted if _jaccard(sets[pair[0]], sets[pair[1]]) >= STEP.threshold]
    found = sum(pair[0] in dropped or pair[1] in dropped for pair in wanted)
    pairs = pl.read_parquet(folder / "pairs.parquet")
    copies = {copy for _, copy in planted} | {source for source, _ in planted}
    right = pairs.filter(
        (pl.col("similarity") >= STEP.threshold)
        & pl.col("dropped").is_in(copies)
        & pl.col("kept").is_in(copies)
    ).height
    return found / len(wanted), right / pairs.height


def _jaccard(one: Any, other: Any) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return float(common / (len(one) + len(other) - common))


def synthetic(count: int) -> list[bytes]:
    """Grainy images of 448 x 448, half JPEG and half PNG, which is the most that a PNG can hold."""
    encoded = []
    for seed in range(count):
        numbers = np.random.default_rng(seed)
        smooth = Image.fromarray(numbers.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(
            (448, 448), Image.Resampling.BICUBIC
        )
        grainy = np.asarray(smooth, np.float32) + numbers.normal(0, 2, (448, 448, 3))
        buffer = io.BytesIO()
        image = Image.fromarray(grainy.clip(0, 255).astype(np.uint8))
        image.save(buffer, **({"format": "JPEG", "quality": 90} if seed % 2 else {"format": "PNG"}))
        encoded.append(buffer.getvalue())
    return encoded


def real(mirror: Path) -> list[bytes]:
    """As many PNGs of PuzzleVQA as JPEGs of AlgoPuzzleVQA, spread over both."""
    kinds = [
        sorted((mirror / "declare-lab" / name).rglob(f"*.{kind}"))
        for name, kind in (("PuzzleVQA", "png"), ("AlgoPuzzleVQA", "jpg"))
    ]
    return [
        path.read_bytes() for paths in kinds for path in paths[:: max(1, len(paths) // 100)][:100]
    ]


def images(encoded: Sequence[bytes], count: int) -> tuple[float, float]:
    """Images a second, in turns of all: both our hashes against imagehash's phash alone."""
    seconds = [0.0, 0.0]
    # The first call compiles.
    image_hashes(encoded[0])
    # In turns, so that a slower minute of the machine counts for both sides.
    for _ in range(max(1, count // len(encoded))):
        began = time.perf_counter()
        for data in encoded:
            image_hashes(data)
        middle = time.perf_counter()
        for data in encoded:
            with Image.open(io.BytesIO(data)) as image:
                imagehash.phash(image)
        seconds[0] += middle - began
        seconds[1] += time.perf_counter() - middle
    done = len(encoded) * max(1, count // len(encoded))
    return done / seconds[0], done / seconds[1]


def texts_of(paths: Sequence[Path], count: int) -> Iterator[str]:
    for path in paths:
        for text in pq.read_table(path, columns=["question"])["question"].to_pylist():
            if count <= 0:
                return
            count -= 1
            yield text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument(
        "--mirror",
        type=Path,
        help="a folder with PuzzleVQA and AlgoPuzzleVQA, to hash real images too",
    )
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(Path(arguments.measure[0]), int(arguments.measure[1]))
        return
    count = 10_000 if arguments.quick else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, planted = corpus(folder / "corpus", count, 0)
        print(
            f"{count:,} documents of "
            f"{sum(path.stat().st_size for path in paths) / 2**20:,.0f} MiB of parquet",
            flush=True,
        )
        rounds = [in_its_own_process(paths, folder / f"round-{number}", 1) for number in range(3)]
        # The median: the first one reads from a cold disk.
        one = sorted(rounds, key=lambda found: float(found["seconds"]))[1]
        rate = count / one["seconds"]
        print(
            f"NearText: {rate:,.0f} documents/s on one core, "
            f"{one['deciding']:.1f} s of it deciding, {one['peak_mb']:,} MB",
            flush=True,
        )
        recall, precision = quality(folder / "round-0", paths, planted)
        print(f"recall {recall:.4f}, precision {precision:.4f}", flush=True)
        texts = list(texts_of(paths, count))
        signing, bare = kernel(folder, texts[:10_000])
        print(f"signing alone: {signing:,.0f} documents/s, a bare C loop {bare:,.0f}", flush=True)
        theirs = count / peer(texts)
        print(f"datasketch: {theirs:,.0f} documents/s", flush=True)
        del texts
        sets = {"synthetic": synthetic(200)} | (
            {"real": real(arguments.mirror)} if arguments.mirror else {}
        )
        seen = {
            name: images(encoded, 1_000 if arguments.quick else 10_000)
            for name, encoded in sets.items()
        }
        for name, (mine, theirs_too) in seen.items():
            print(f"{name} images: {mine:,.0f}/s, imagehash {theirs_too:,.0f}/s", flush=True)
        result: dict[str, Any] = {
            "ratio": round(rate / theirs, 1),
            "docs_per_s": round(rate),
            "peak_mb": one["peak_mb"],
            "recall": round(recall, 4),
            "precision": round(precision, 4),
            "exponent": None,
            "signing_over_c": round(signing / bare, 2),
            "images_ratio": {
                name: round(ours_rate / theirs_rate, 2)
                for name, (ours_rate, theirs_rate) in seen.items()
            },
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}",
        }
        if arguments.full:
            small = in_its_own_process(paths, folder / "round-0", 2)
            many, _ = corpus(folder / "many", 874_000, 1)
            large = in_its_own_process(many, folder / "many", 2)
            result["exponent"] = round(
                math.log(large["seconds"] / small["seconds"]) / math.log(874_000 / count), 3
            )
            result |= {"full_seconds": round(large["seconds"], 1), "full_peak_mb": large["peak_mb"]}
            print(
                f"874,000 documents on two cores: {large['seconds']:.0f} s, "
                f"{large['peak_mb']:,} MB",
                flush=True,
            )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
