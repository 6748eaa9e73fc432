"""The part of a GlobalStep that runs in one process.

Its key columns are gathered from all shards, it decides, and its decisions are cut into what each
shard needs.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omr_data.engine.shards import KeysTask, make_keys
from omr_data.errors import OmrError, StepError
from omr_data.processes import Mapper
from omr_data.progress import Reporter
from omr_data.step import Columns, Decisions, GlobalStep
from omr_data.store.images import ImageStore
from omr_data.store.shards import StageFolder, check_shard, write_frame


def take_keys(
    step: GlobalStep,
    folder: StageFolder,
    sides: Sequence[Sequence[Path]],
    images: ImageStore,
    mapper: Mapper,
    reporter: Reporter,
    label: str,
) -> None:
    """Takes the key columns that are not on disk yet.

    Args:
        step: The step.
        folder: The folder of its stage.
        sides: The shards of its data (side 0) and of each reference.
        images: Where the step reads images.
        mapper: Runs the work on shards.
        reporter: Where progress is shown.
        label: What the stage is called there.
    """
    # One task for each shard of each side, in one map: references are often small, and would leave
    # workers idle if they were taken apart.
    tasks = []
    for side, shards in enumerate(sides):
        for number, shard in enumerate(shards):
            if folder.has_keys(side, number):
                # Not read again to take keys, but `decide` may scan the shard itself.
                check_shard(shard)
                continue
            tasks.append(KeysTask(folder, side, number, step, shard, images))
    with reporter.bar(f"{label}: key columns", len(tasks), "shards") as bar:
        for _ in mapper.map(make_keys, tasks):
            bar.advance(1)


def decide(
    step: GlobalStep, folder: StageFolder, sides: Sequence[Sequence[Path]]
) -> Iterator[dict[str, str]]:
    """Runs a GlobalStep whose key columns are on disk, and keeps its tables.

    Args:
        step: The step.
        folder: The folder of its stage.
        sides: The shards of its data (side 0) and of each reference.

    Returns:
        The drops of each shard of the data, in order: reasons by id.

    Raises:
        StepError: Two rows have one id, the step failed, or it decided about rows that are not in
            the data.
    """
    columns = [read_columns(step, folder, side, shards) for side, shards in enumerate(sides)]
    ids = columns[0].keys["id"]
    if ids.n_unique() < len(ids):
        # Decisions name rows by id, so two rows of one id would share a fate.
        twice = ids.filter(ids.is_duplicated())[0]
        raise StepError(
            f"{step.name} was given two rows with the id {twice!r}. Ids must be unique: give the "
            "sources different dataset names."
        )
    try:
        decisions = step.decide(columns[0], columns[1:])
    except OmrError:
        raise
    except Exception as error:
        raise StepError(
            f"{step.name} failed while deciding: {type(error).__name__}: {error}"
        ) from error
    # Written before any shard is: `finish` lists the tables of a stage with their digests.
    for name, table in decisions.tables.items():
        write_frame(folder.table(name), table)
    return drops_by_shard(folder, len(sides[0]), decisions)


def read_columns(
    step: GlobalStep, folder: StageFolder, side: int, shards: Sequence[Path]
) -> Columns:
    """Returns what a GlobalStep sees of one side.

    Args:
        step: The step.
        folder: The folder of its stage.
        side: 0 for the data, 1 and up for the step's references.
        shards: The shards of that side.
    """
    import polars as pl

    paths = [folder.keys(side, number) for number in range(len(shards))]
    # A flow without shards has no schema that polars could scan.
    if not paths:
        return Columns(pl.DataFrame(), pl.LazyFrame(), pl.LazyFrame())
    # Payload columns are dropped before anything is read, so they never enter memory.
    keys = pl.scan_parquet(paths).drop(step.lazy_columns).collect()
    payload = pl.scan_parquet(paths).select("id", *step.lazy_columns)
    return Columns(keys, payload, pl.scan_parquet(list(shards)))


def drops_by_shard(
    folder: StageFolder, shards: int, decisions: Decisions
) -> Iterator[dict[str, str]]:
    """Yields the drops of each shard of the data: reasons by id.

    Args:
        folder: The folder of the step's stage.
        shards: How many shards the data has.
        decisions: What the step decided.

    Raises:
        StepError: A drop names a row that is not in the data.
    """
    import polars as pl

    # Counted down, so that a drop which names no row is noticed without a set of all ids.
    left = len(decisions.drops)
    for number in range(shards):
        ids = pl.read_parquet(folder.keys(0, number), columns=["id"])["id"]
        drops = {id_: decisions.drops[id_] for id_ in ids if id_ in decisions.drops}
        left -= len(drops)
        yield drops
    if left:
        raise StepError(
            f"{folder.path.name}: {left:,} of the decided drops name ids that are not in the data."
        )
