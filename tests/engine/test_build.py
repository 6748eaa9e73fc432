"""A plan is run once, accounts for every row, and refuses what a step must not do."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from omr_data import Expand, Filter, Map, Record, Source, union
from omr_data.engine.build import Built, folders, teacher_calls
from omr_data.engine.stages import cut
from omr_data.errors import BadRow, OmrError, SourceError, StepError, StoreError, TeacherError
from omr_data.operators import rollout
from omr_data.plan import make_plan
from omr_data.recipe import Recipe
from omr_data.source import Files, Part
from omr_data.sources.locator import LocalDatasets
from omr_data.step import BatchMap, Columns, Decisions, Step
from omr_data.store.ledger import write_sealed
from omr_data.store.shards import StageFolder, iter_dropped, read_records
from omr_data.store.workspace import Workspace
from omr_data.teachers import echo
from tests.engine.tiny import DropLast, Forgetful, Numbers, Odd, Said, Same, renamed, run


def ids(built: Built) -> list[str]:
    return [record.id for shard in built.result for record in read_records(shard)]


def test_rows_flow_in_order_and_every_one_is_accounted_for(tmp_path: Path) -> None:
    said = Said()
    built = run(Numbers(7, bad=3).then(Same(), Odd()), tmp_path, said)
    assert ids(built) == ["numbers/2", "numbers/4"]
    source, same, odd = built.counts()
    assert (source.rows_in, source.rows_out, source.dropped) == (7, 4, {"a multiple": 3})
    assert (same.rows_in, same.rows_kept, same.tally) == (4, 4, {"seen": 4})
    assert (odd.rows_in, odd.rows_out, odd.dropped) == (4, 2, {"even": 2})
    assert said.lines == ["[1/1] Odd  2 rows, 5 dropped"]
    assert said.bars == [("[1/1] Odd", 4)]


def test_a_dropped_row_can_be_looked_up_with_its_detail(tmp_path: Path) -> None:
    built = run(Numbers(3, bad=2).then(Odd()), tmp_path)
    rows = list(iter_dropped(built.folders[0]))
    assert [(row["id"], row["step"], row["reason"]) for row in rows] == [
        (":0", "Numbers", "a multiple"),
        ("numbers/1", "Odd", "even"),
        (":2", "Numbers", "a multiple"),
    ]
    assert dict(rows[0]["meta"]) == {"row": '{"number": 0}'}


def test_a_second_build_runs_nothing_and_says_so(tmp_path: Path) -> None:
    data = Numbers(5).then(Same())
    first, said = run(data, tmp_path), Said()
    again = run(data, tmp_path, said)
    assert said.lines == ["[1/1] Same  5 rows  seen 5  CACHED"]
    assert said.bars == []
    assert again.result == first.result


def test_a_union_is_read_in_order_and_shared_nodes_run_once(tmp_path: Path) -> None:
    source, said = Numbers(3), Said()
    built = run(union(source.then(Odd()), source.then(Same(), Map_())), tmp_path, said)
    assert [id_.partition("/")[2] for id_ in ids(built)] == ["0", "2", "x0", "x1", "x2"]
    assert [line.split("  ")[0] for line in said.lines] == [
        "[1/3] Numbers",
        "[2/3] Odd",
        "[3/3] Map_",
    ]


@dataclass(frozen=True)
class Map_(Expand):
    """Gives each row another id, as one step of a branch must."""

    def expand(self, record: Record) -> Sequence[Record]:
        return [replace(record, id=record.id.replace("/", "/x"))]


@dataclass(frozen=True)
class RenamingMap(Map):
    def apply(self, record: Record) -> Record:
        return renamed(record)


@dataclass(frozen=True)
class EmptyMap(Map):
    def apply(self, record: Record) -> Record:
        return None  # type: ignore[return-value]


@dataclass(frozen=True)
class FailingMap(Map):
    def apply(self, record: Record) -> Record:
        raise ZeroDivisionError("by zero")


@dataclass(frozen=True)
class Batched(BatchMap):
    what: str = ""

    def apply_batch(self, records: Sequence[Record]) -> Sequence[Record]:
        made = {
            "reversed": list(reversed(records)),
            "short": records[1:],
            "renamed": [renamed(record) for record in records],
            "none": [None for _ in records],
            "twice": [*records, *records],
        }
        if self.what == "failing":
            raise ZeroDivisionError("by zero")
        return made[self.what]  # type: ignore[return-value]


@dataclass(frozen=True)
class TruthFilter(Filter):
    def reason(self, record: Record) -> str | None:
        return True  # type: ignore[return-value]


@dataclass(frozen=True)
class Empty(Expand):
    def expand(self, record: Record) -> Sequence[Record]:
        return []


@dataclass(frozen=True)
class Mixed(Expand):
    def expand(self, record: Record) -> Sequence[Record]:
        return [record, "text"]  # type: ignore[list-item]


@dataclass(frozen=True)
class Shapeless(Step):
    pass


BAD_STEPS: dict[str, tuple[Step, str]] = {
    "a Map that changes the id": (RenamingMap(), "A Map returns one Record with the same id"),
    "a Map that returns nothing": (EmptyMap(), "returned 'None' for record numbers/0"),
    "a Map that fails": (FailingMap(), "failed on record numbers/0: ZeroDivisionError: by zero"),
    "a BatchMap in another order": (Batched("reversed"), "in the same order"),
    "a BatchMap that leaves one out": (Batched("short"), "for each record"),
    "a BatchMap that changes ids": (Batched("renamed"), "with the same id"),
    "a BatchMap that returns nothing": (Batched("none"), "one Record"),
    "a BatchMap that gives more": (Batched("twice"), "one Record"),
    "a BatchMap that fails": (Batched("failing"), "failed on a batch of 2 records: ZeroDivision"),
    "a Filter that returns a truth value": (TruthFilter(), "or the reason for dropping it"),
    "an Expand that returns nothing": (Empty(), "An Expand returns a non-empty list"),
    "an Expand of something else": (Mixed(), "An Expand returns a non-empty list"),
    "a step of no shape": (Shapeless(), "derive it from Map, Filter or Expand"),
}


@pytest.mark.parametrize(("step", "words"), BAD_STEPS.values(), ids=BAD_STEPS)
def test_a_step_that_breaks_its_contract_is_refused(tmp_path: Path, step: Step, words: str) -> None:
    with pytest.raises(StepError, match=words) as refused:
        run(Numbers(2).then(step), tmp_path)
    assert step.name in str(refused.value)


@dataclass(frozen=True)
class Careful(Map):
    def apply(self, record: Record) -> Record:
        raise StoreError("what the package itself says")


def test_an_error_of_the_package_passes_through_a_step_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="^what the package itself says$"):
        run(Numbers(2).then(Careful()), tmp_path)


@dataclass(frozen=True)
class Twins(Numbers):
    def convert(self, row: Mapping[str, Any], images: Any) -> Record:
        return replace(super().convert(row, images), id=f"twin/{row['number'] // 3}")


def test_two_rows_of_one_source_with_one_id_stop_the_build(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="two rows with the id 'twin/0'"):
        run(Twins(3).then(Same()), tmp_path)


def test_two_sources_with_one_id_stop_a_global_step(tmp_path: Path) -> None:
    both = union(Numbers(2), Numbers(3))
    with pytest.raises(StepError, match="two rows with the id 'numbers/[01]'.*dataset names"):
        run(both.then(DropLast()), tmp_path)


def test_a_global_step_drops_by_id_and_keeps_its_tables(tmp_path: Path) -> None:
    import polars as pl

    said = Said()
    built = run(Numbers(5).then(DropLast((Numbers(2, "known"),)), Same()), tmp_path, said)
    assert ids(built) == ["numbers/2", "numbers/3"]
    folder = built.folders[-1]
    assert built.counts()[2].dropped == {"the last": 1, "known": 2}
    assert folder.tables() == ["ids"]
    assert pl.read_parquet(folder.table("ids"))["id"].to_list() == [
        f"numbers/{n}" for n in range(5)
    ]
    assert ("[3/3] Same: key columns", 4) in said.bars


@dataclass(frozen=True)
class Inventing(DropLast):
    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        return Decisions({"nobody": "invented", "numbers/0": "known"})


@dataclass(frozen=True)
class Undecided(DropLast):
    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        raise ZeroDivisionError("by zero")


@dataclass(frozen=True)
class Keyless(DropLast):
    def extract_keys(self, shard: Any, read_image: Any) -> Any:
        raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Inventing(), "1 of the decided drops name ids that are not in the data"),
        (Undecided(), "Undecided failed while deciding: ZeroDivisionError: by zero"),
        (Keyless(), "Keyless failed on the shard .*: ZeroDivisionError: by zero"),
    ],
    ids=["invented ids", "failing decision", "failing keys"],
)
def test_a_global_step_that_breaks_its_contract_is_refused(
    tmp_path: Path, step: DropLast, words: str
) -> None:
    with pytest.raises(StepError, match=words):
        run(Numbers(3).then(step), tmp_path)


def test_a_teacher_that_leaves_requests_out_is_refused(tmp_path: Path) -> None:
    asked = Numbers(3).then(rollout.Sample(Forgetful(), n=2))
    with pytest.raises(TeacherError, match="each|each attempt|Each attempt must come back once"):
        run(asked, tmp_path)


def test_answers_are_attached_in_order_and_more_can_be_asked_for(tmp_path: Path) -> None:
    few = run(Numbers(3).then(rollout.Sample(echo.Teacher(), n=2)), tmp_path)
    more = run(Numbers(3).then(rollout.Sample(echo.Teacher(), n=4)), tmp_path)
    for built, count in ((few, 2), (more, 4)):
        for shard in built.result:
            for record in read_records(shard):
                assert [response.attempt for response in record.responses] == [*range(count)]
    # The store holds four attempts by now; the recipe of two must not see the others.
    again = run(Numbers(3).then(rollout.Sample(echo.Teacher(), n=2), Same()), tmp_path)
    assert [len(record.responses) for record in read_records(again.result[0])] == [2, 2]


def test_calls_are_unknown_before_the_input_is_built_then_counted_then_none(tmp_path: Path) -> None:
    data = Numbers(3).then(rollout.Sample(echo.Teacher(), n=2))
    plan = make_plan(Recipe("tiny", "1.0.0", data), LocalDatasets())
    workspace = Workspace(tmp_path / "work")
    assert list(teacher_calls(plan, workspace).values()) == [None]
    run(Numbers(3), tmp_path)
    (calls,) = teacher_calls(plan, workspace).values()
    assert calls is not None
    assert calls.attempts == 6
    run(data, tmp_path)
    (calls,) = teacher_calls(plan, workspace).values()
    assert calls is not None
    assert (calls.attempts, calls.estimate) == (0, None)


class StopAfter:
    """A mapper that is interrupted after some tasks, as by Ctrl-C."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks

    def map(self, function: Callable[..., Any], tasks: Iterable[Any]) -> Iterator[Any]:
        yield from map(function, itertools.islice(tasks, self.tasks))
        raise KeyboardInterrupt


def test_an_interrupted_stage_makes_only_the_shards_that_are_missing(tmp_path: Path) -> None:
    data, said = Numbers(9).then(Same()), Said()
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, mapper=StopAfter(2))
    built = run(data, tmp_path, said)
    assert said.bars == [("[1/1] Same", 3)]
    assert len(ids(built)) == 9


def flip(path: Path, place: float = 0.5) -> None:
    """Changes one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 4
    path.write_bytes(data)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGES = {"flipped": flip, "cut": cut_off, "gone": lambda path: path.unlink()}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", ["shard-00000.parquet", "dropped-00000.parquet"])
def test_a_damaged_shard_of_an_interrupted_stage_is_not_taken_as_done(
    tmp_path: Path, damage: Callable[[Path], None], file: str
) -> None:
    data = Numbers(9).then(Odd())
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, mapper=StopAfter(2))
    (path,) = (tmp_path / "work").rglob(file)
    damage(path)
    with pytest.raises(StoreError, match="missing or was changed after it was written") as refused:
        run(data, tmp_path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_shard_of_a_finished_stage_is_noticed_by_who_reads_it(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run(Numbers(3), tmp_path)
    (path,) = (tmp_path / "work").rglob("shard-00001.parquet")
    damage(path)
    with pytest.raises(StoreError, match="missing or was changed after it was written"):
        run(Numbers(3).then(rollout.Sample(echo.Teacher(), n=1)), tmp_path)


@pytest.mark.parametrize("file", ["keys-0-00000.parquet", "shard-00000.parquet"])
def test_damaged_input_of_an_interrupted_global_step_is_noticed(tmp_path: Path, file: str) -> None:
    data = Numbers(5).then(DropLast())
    run(Numbers(5), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, mapper=StopAfter(2))
    flip(next((tmp_path / "work").rglob(file)))
    with pytest.raises(StoreError, match="was changed after it was written"):
        run(data, tmp_path)


def tamper(folder: StageFolder, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Changes the counts of a finished stage, with a seal that is right."""
    summary = folder.summary()
    change(summary["counts"])
    write_sealed(folder.path / "stage.json", summary)


def test_a_ledger_whose_steps_do_not_fit_each_other_is_refused(tmp_path: Path) -> None:
    data = Numbers(5).then(DropLast(), Same())
    built = run(data, tmp_path)

    def more(counts: list[dict[str, Any]]) -> None:
        counts[0] |= {"rows_in": 6, "rows_kept": 5}

    tamper(built.folders[1], more)
    with pytest.raises(StoreError, match="DropLast took 6 rows, and the steps before it gave 5"):
        run(data, tmp_path)


def test_a_ledger_that_does_not_add_up_is_refused(tmp_path: Path) -> None:
    data = Numbers(5).then(Odd())
    built = run(data, tmp_path)

    def fewer(counts: list[dict[str, Any]]) -> None:
        counts[1]["rows_kept"] -= 1

    tamper(built.folders[0], fewer)
    with pytest.raises(StoreError, match="Odd took 5 rows, kept 2 and dropped 2, which does not"):
        run(data, tmp_path)


@dataclass(frozen=True)
class Broken(Numbers):
    where: str = ""

    def parts(self, files: Files) -> Sequence[Part]:
        if self.where == "parts":
            raise ValueError("not a parquet file")
        if self.where == "none":
            return []
        if self.where == "refused":
            raise BadRow("refused", "in its own words")
        return super().parts(files)

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        yield from super().rows(files, part)
        if self.where == "rows":
            raise ValueError("page checksum")

    def convert(self, row: Mapping[str, Any], images: Any) -> Record:
        if self.where == "convert":
            raise KeyError("question")
        return super().convert(row, images)


@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        ("parts", SourceError, "cannot read the files in .*ValueError: not a parquet file"),
        ("rows", SourceError, "cannot read .*, rows 0 to 1: ValueError: page checksum"),
        ("none", SourceError, "has no rows to read"),
        ("convert", StepError, "convert failed on row 0 of Broken: KeyError: 'question'"),
        ("refused", BadRow, "^refused: in its own words$"),
    ],
)
def test_a_source_that_fails_is_an_error_that_says_where(
    tmp_path: Path, where: str, error: type[OmrError], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(Broken(3, where=where), tmp_path)


@dataclass(frozen=True)
class Growing(Numbers):
    """Rows of a file that is written to while it is read."""

    folder: str = ""

    def resolve(self, locator: Any) -> Any:
        return locator.resolve_local(Path(self.folder), ("*.txt",))

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        with (Path(self.folder) / "a.txt").open("a") as stream:
            stream.write("more")
        return super().rows(files, part)


def test_files_that_change_while_they_are_read_keep_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("some")
    with pytest.raises(SourceError, match="the files of Growing changed while they were read"):
        run(Growing(3, folder=str(tmp_path / "data")), tmp_path)
    assert list((tmp_path / "work/stages").iterdir()) == []


def test_an_older_workspace_is_refused_with_the_way_to_keep_its_answers(tmp_path: Path) -> None:
    (tmp_path / "work/stages").mkdir(parents=True)
    with pytest.raises(StoreError, match="has format 1 .*omr rollouts export"):
        run(Numbers(3), tmp_path)
    plan = make_plan(Recipe("tiny", "1.0.0", Numbers(3)), LocalDatasets())
    with pytest.raises(StoreError, match="reads format 2"):
        folders(plan, Workspace(tmp_path / "work"))


@dataclass(frozen=True)
class Checkpoint(Same):
    checkpoint = True  # type: ignore[misc]


def test_a_plan_is_cut_where_rows_are_needed_whole() -> None:
    one, two = Numbers(3), Numbers(4, "more")
    flow = union(one.then(Odd()), one.then(Same()), two).then(
        Same(), DropLast((two,)), Odd(), Checkpoint(), Same()
    )
    plan = make_plan(Recipe("tiny", "1.0.0", flow), LocalDatasets())
    stages = cut(plan)
    shape = [
        (
            "+".join(node.name for node in stage.nodes),
            None if stage.head is None else stage.head.name,
            stage.inputs,
            stage.references,
        )
        for stage in stages.stages
    ]
    assert shape == [
        ("Numbers", "Numbers", (), ()),
        ("Odd", None, (0,), ()),
        ("Same", None, (0,), ()),
        ("Numbers", "Numbers", (), ()),
        ("Same", None, (1, 2, 3), ()),
        ("DropLast+Odd+Checkpoint", "DropLast", (4,), ((3,),)),
        ("Same", None, (5,), ()),
    ]
    assert stages.result == (6,)
    assert [stage.last.name for stage in stages.stages][-2:] == ["Checkpoint", "Same"]
    assert len({stage.fingerprint for stage in stages.stages}) == 7


def test_a_union_at_the_end_is_released_part_by_part() -> None:
    plan = make_plan(
        Recipe("tiny", "1.0.0", union(Numbers(3), Numbers(4, "more").then(Odd()))), LocalDatasets()
    )
    assert cut(plan).result == (0, 1)


def test_a_source_is_its_own_stage_name() -> None:
    assert isinstance(Numbers(), Source)
