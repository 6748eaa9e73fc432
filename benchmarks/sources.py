"""Rows per second of files.Source, and whether reading is linear, beside `datasets`.

    python benchmarks/sources.py                        25,000 and 100,000 rows of each format
    python benchmarks/sources.py 25000 1000000          the growth from 25 thousand to a million

Rows are short questions with an answer. One process reads everything, and its processor time is
measured, so that rates are per core and other work on the machine counts little. Files are written
to a temporary folder before the clock starts. "records" converts rows to Records; "with shard" also
makes the Arrow table of each part. The growth exponent is log(time ratio) / log(row ratio): 1 is
linear.
"""

import csv
import io
import json
import math
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from omr_data.records import check_marks, to_table
from omr_data.sources import files
from omr_data.sources.locator import LocalDatasets
from omr_data.store.images import ImageStore, RowImages

KINDS = ("jsonl", "json", "csv", "parquet", "tar")
LOADERS = {"jsonl": "json", "json": "json", "csv": "csv", "parquet": "parquet"}
"""What `datasets` calls each format. Its webdataset reader needs other columns."""


def write(folder: Path, count: int) -> None:
    """Writes the same rows in every format."""
    rows = [
        {
            "question": f"What is the sum of {number} and {number + 1}? Explain in a few words.",
            "answer": str(2 * number + 1),
            "topic": "sum",
        }
        for number in range(count)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "rows.json").write_text(json.dumps(rows))
    with open(folder / "rows.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    # One row group is the worst case: no part can be read without what is before it.
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=count)
    with tarfile.open(folder / "rows.tar", "w") as archive:
        for number, row in enumerate(rows):
            data = json.dumps(row).encode()
            member = tarfile.TarInfo(f"{number:08}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def read(path: Path, with_shard: bool, work: Path) -> int:
    """Reads a file as a worker does; returns the number of records."""
    source = files.Source(path, dataset="rows", license="CC0-1.0")
    found = source.download(LocalDatasets())
    images = RowImages(found.root, ImageStore(work))
    total = 0
    for part in source.parts(found):
        records = [check_marks(source.convert(row, images)) for row in source.rows(found, part)]
        total += len(records)
        if with_shard:
            to_table(records)
    return total


def seconds(work: Callable[[], int], expected: int, repeats: int) -> float:
    """The best processor time of a few runs. Other work only ever makes a run slower."""
    best = math.inf
    for _ in range(repeats):
        start = time.process_time()
        found = work()
        best = min(best, time.process_time() - start)
        assert found == expected
    return best


def loaded(path: Path, kind: str) -> int:
    """Loads a file with `datasets`, and goes through its rows as Python values."""
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset(
            LOADERS[kind], data_files=str(path), split="train", cache_dir=cache
        )
        return sum(1 for _ in rows)


def main() -> None:
    """Prints a line for each format and number of rows, then the growth of each format."""
    counts = [int(argument) for argument in sys.argv[1:]] or [25_000, 100_000]
    times: dict[tuple[str, int], float] = {}
    print(f"{'rows':>9} {'format':<8} {'records/s':>10} {'with shard/s':>13} {'datasets/s':>11}")
    for count in counts:
        # Long runs vary less, and one of a million rows takes minutes.
        repeats = 1 if count > 100_000 else 3
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder, count)
            for kind in KINDS:
                path = folder / f"rows.{kind}"
                alone = seconds(lambda at=path, work=folder: read(at, False, work), count, repeats)
                shard = seconds(lambda at=path, work=folder: read(at, True, work), count, repeats)
                times[kind, count] = alone
                other = "-"
                if kind in LOADERS:
                    took = seconds(lambda at=path, of=kind: loaded(at, of), count, 1)
                    other = f"{count / took:,.0f}"
                print(
                    f"{count:>9,} {kind:<8} {count / alone:>10,.0f} {count / shard:>13,.0f} "
                    f"{other:>11}",
                    flush=True,
                )
    for kind in KINDS if len(counts) > 1 else ():
        ratio = times[kind, counts[-1]] / times[kind, counts[0]]
        exponent = math.log(ratio) / math.log(counts[-1] / counts[0])
        print(f"{kind:<8} grows with exponent {exponent:.2f} from {counts[0]:,} to {counts[-1]:,}")


if __name__ == "__main__":
    main()
