"""Builds a plan: its stages in order, each from shards to shards, skipping what is there.

A stage that is whole is cached. One that was interrupted goes on with the shards that its ledger lacks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from omr_data.engine.ask import ask_teacher, open_store, requests_of, unsettled
from omr_data.engine.requests import RequestsTask, make_requests, read_requests
from omr_data.engine.shards import (
    ApplyDecisions,
    AttachAnswers,
    Fused,
    Input,
    KeysTask,
    ReadPart,
    ReadShard,
    ShardTask,
    make_keys,
    make_shard,
)
from omr_data.engine.stages import Cut, Stage, cut
from omr_data.engine.unanswered import drop_stale, stale_stages
from omr_data.errors import OmrError, SourceError, StepError, StoreError
from omr_data.plan import Node, Plan
from omr_data.processes import Mapper
from omr_data.progress import Reporter
from omr_data.source import DatasetLocator, Source
from omr_data.step import AskStep, Columns, Decisions, GlobalStep, Step
from omr_data.store.ledger import Count
from omr_data.store.shards import StageFolder, write_frame
from omr_data.store.workspace import Workspace
from omr_data.teacher import Budget, Estimate, Request


@dataclass(frozen=True, slots=True)
class Built:
    """A plan's stages on disk. `result` are the shards of the data, in order."""

    plan: Plan
    cut: Cut
    folders: tuple[StageFolder, ...]

    @property
    def result(self) -> list[Path]:
        """The shards of the plan's data, in order."""
        return [shard for stage in self.cut.result for shard in self.folders[stage].shards()]

    def counts(self) -> list[Count]:
        """The counts of every source and step of the plan, in its order."""
        found = {count.fingerprint: count for folder in self.folders for count in folder.counts()}
        return [found[node.fingerprint] for node in self.plan.nodes if node.spec is not None]

    def check(self) -> None:
        """Follows every row from the sources to the result. Raises StoreError where rows came from nowhere or vanished."""
        rows_out: dict[str, int] = {}
        for node in self.plan.nodes:
            rows_in = sum(
                rows_out[self.plan.nodes[parent].fingerprint] for parent in self._flows_in(node)
            )
            if node.spec is None:
                rows_out[node.fingerprint] = rows_in
                continue
            count = next(count for count in self.counts() if count.fingerprint == node.fingerprint)
            count.check(self.plan.recipe.name)
            if node.parents and count.rows_in != rows_in:
                raise StoreError(
                    f"{node.name} took {count.rows_in:,} rows, and the steps before it gave {rows_in:,}. Delete its stage and build again."
                )
            rows_out[node.fingerprint] = count.rows_out

    def _flows_in(self, node: Node) -> tuple[int, ...]:
        return node.parents[:1] if isinstance(node.spec, Step) else node.parents


def folders(plan: Plan, workspace: Workspace) -> tuple[Cut, tuple[StageFolder, ...]]:
    """The plan's stages and where they are, built or not."""
    stages = cut(plan)
    return stages, tuple(
        workspace.stage(stage.last.name, stage.fingerprint) for stage in stages.stages
    )


def build(
    plan: Plan,
    workspace: Workspace,
    locator: DatasetLocator,
    mapper: Mapper,
    workers: int,
    reporter: Reporter,
    budget: Budget,
) -> Built:
    """Runs every stage that is not there yet. The workspace must be locked.

    Raises:
        OmrError: whatever a source, step, teacher or the disk raised. Finished shards and paid answers are kept.
    """
    plan.require_ready()
    stages, where = folders(plan, workspace)
    drop_stale(where, stale_stages(stages, where, workspace))
    _check_budgets(stages, where, budget)
    run = _Run(workspace, locator, mapper, workers, reporter, budget, where)
    for number, (stage, folder) in enumerate(zip(stages.stages, where, strict=True), 1):
        label = f"[{number}/{len(stages.stages)}] {stage.last.name}"
        cached = folder.done()
        if not cached:
            run.stage(stage, folder, label)
        reporter.say(f"{label}  {_line(folder)}{'  CACHED' if cached else ''}")
    built = Built(plan, stages, where)
    built.check()
    return built


def _check_budgets(stages: Cut, where: Sequence[StageFolder], budget: Budget) -> None:
    """Every teacher of the plan must be able to keep the budget, before the first one is asked."""
    for stage, folder in zip(stages.stages, where, strict=True):
        if stage.head is not None and isinstance(stage.head.spec, AskStep) and not folder.done():
            stage.head.spec.get_teacher().check_budget(budget)


def _line(folder: StageFolder) -> str:
    summary = folder.summary()
    dropped = sum(shard["dropped"] for shard in summary["shards"])
    tally = "".join(
        f"  {name} {count:,}"
        for name, count in (summary["counts"][-1]["tally"] if summary["counts"] else {}).items()
    )
    return f"{summary['rows']:,} rows" + (f", {dropped:,} dropped" if dropped else "") + tally


@dataclass(frozen=True, slots=True)
class _Run:
    workspace: Workspace
    locator: DatasetLocator
    mapper: Mapper
    workers: int
    reporter: Reporter
    budget: Budget
    folders: tuple[StageFolder, ...]

    def stage(self, stage: Stage, folder: StageFolder, label: str) -> None:
        inputs = self._inputs(stage, folder, label)
        steps: Fused = tuple(
            (node.spec, node.fingerprint) for node in stage.steps if isinstance(node.spec, Step)
        )
        tasks = [ShardTask(folder, number, input, steps) for number, input in enumerate(inputs)]
        missing = [task for task in tasks if not folder.entry(task.number).exists()]
        with self.reporter.bar(label, len(missing), "shards") as bar:
            for _ in self.mapper.map(make_shard, missing):
                bar.advance(1)
        folder.finish(len(tasks), stage.last.name)

    def _inputs(self, stage: Stage, folder: StageFolder, label: str) -> Sequence[Input]:
        shards = [shard for number in stage.inputs for shard in self.folders[number].shards()]
        if stage.head is None:
            return [ReadShard(shard) for shard in shards]
        fingerprint = stage.head.fingerprint
        match stage.head.spec:
            case Source() as source:
                return self._parts(source, fingerprint)
            case AskStep() as step:
                tables = self._requests(step, shards, folder, label)
                ask_teacher(step, tables, self.workspace, self.workers, self.reporter, self.budget)
                return [
                    AttachAnswers(step, fingerprint, shard, self.workspace.rollouts, table)
                    for shard, table in zip(shards, tables, strict=True)
                ]
            case GlobalStep() as step:
                references = [
                    [shard for number in group for shard in self.folders[number].shards()]
                    for group in stage.references
                ]
                drops = self._decide(step, folder, [shards, *references], label)
                return [
                    ApplyDecisions(step, fingerprint, shard, drops[number])
                    for number, shard in enumerate(shards)
                ]
        raise StepError(
            f"{stage.last.name} cannot head a stage: it is no Source, AskStep or GlobalStep."
        )

    def _parts(self, source: Source, fingerprint: str) -> list[Input]:
        files = source.download(self.locator)
        parts = source.parts(files)
        for note in source.notes(files):
            self.reporter.say(f"  {note}")
        if not parts:
            raise SourceError(
                f"{source.name} has no rows to read. Check what it declares, and the files in {files.root}."
            )
        return [ReadPart(source, fingerprint, files, part, self.workspace.images) for part in parts]

    def _requests(
        self, step: AskStep, shards: Sequence[Path], folder: StageFolder, label: str
    ) -> list[Path]:
        tasks = [
            RequestsTask(folder, number, step, shard)
            for number, shard in enumerate(shards)
            if not folder.requests(number).exists()
        ]
        with self.reporter.bar(f"{label}: requests", len(tasks), "shards") as bar:
            for _ in self.mapper.map(make_requests, tasks):
                bar.advance(1)
        return [folder.requests(number) for number in range(len(shards))]

    def _decide(
        self, step: GlobalStep, folder: StageFolder, sides: Sequence[Sequence[Path]], label: str
    ) -> list[dict[str, str]]:
        tasks = [
            KeysTask(folder, side, number, step, shard, self.workspace.images)
            for side, shards in enumerate(sides)
            for number, shard in enumerate(shards)
            if not folder.keys(side, number).exists()
        ]
        with self.reporter.bar(f"{label}: key columns", len(tasks), "shards") as bar:
            for _ in self.mapper.map(make_keys, tasks):
                bar.advance(1)
        columns = [_columns(step, folder, side, shards) for side, shards in enumerate(sides)]
        decisions = _decisions(step, columns)
        for name, table in decisions.tables.items():
            write_frame(folder.table(name), table)
        return list(_per_shard(folder, len(sides[0]), decisions))


def _columns(step: GlobalStep, folder: StageFolder, side: int, shards: Sequence[Path]) -> Columns:
    import polars as pl

    paths = [folder.keys(side, number) for number in range(len(shards))]
    if not paths:
        return Columns(pl.DataFrame(), pl.LazyFrame(), pl.LazyFrame())
    light = pl.scan_parquet(paths).drop(step.lazy_columns).collect()
    return Columns(
        light,
        pl.scan_parquet(paths).select("id", *step.lazy_columns),
        pl.scan_parquet(list(shards)),
    )


def _decisions(step: GlobalStep, columns: Sequence[Columns]) -> Decisions:
    ids = columns[0].keys["id"]
    if ids.n_unique() < len(ids):
        twice = ids.filter(ids.is_duplicated())[0]
        raise StepError(
            f"{step.name} was given two rows with the id {twice!r}. Ids must be unique: rename one source's dataset."
        )
    try:
        decisions = step.decide(columns[0], columns[1:])
    except OmrError:
        raise
    except Exception as error:
        raise StepError(
            f"{step.name} failed while deciding: {type(error).__name__}: {error}"
        ) from error
    return decisions


def _per_shard(folder: StageFolder, shards: int, decisions: Decisions) -> Iterator[dict[str, str]]:
    import polars as pl

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


@dataclass(frozen=True, slots=True)
class Calls:
    """What one AskStep of a plan would ask for now: attempts, and what they are expected to take where that costs something."""

    attempts: int
    estimate: Estimate | None = None


def teacher_calls(plan: Plan, workspace: Workspace) -> dict[str, Calls | None]:
    """For each AskStep of the plan, by fingerprint: what it would ask for now.

    None stands for a step whose input is not built yet.
    """
    stages, where = folders(plan, workspace)
    stale = stale_stages(stages, where, workspace)
    calls: dict[str, Calls | None] = {}
    for number, (stage, folder) in enumerate(zip(stages.stages, where, strict=True)):
        if stage.head is None or not isinstance(stage.head.spec, AskStep):
            continue
        fingerprint = stage.head.fingerprint
        if folder.done() and number not in stale:
            calls[fingerprint] = Calls(0)
        elif all(where[index].done() and index not in stale for index in stage.inputs):
            shards = [shard for index in stage.inputs for shard in where[index].shards()]
            calls[fingerprint] = _calls(stage.head.spec, shards, folder, workspace.rollouts)
        else:
            calls[fingerprint] = None
    return calls


def _calls(step: AskStep, shards: Sequence[Path], folder: StageFolder, rollouts: Path) -> Calls:
    """Counts and estimates in one pass. A plan writes nothing, so it keeps no requests."""
    tables = [folder.requests(number) for number in range(len(shards))]
    if all(table.exists() for table in tables):
        requests: Iterator[Request] = (one for table in tables for one in read_requests(table))
    else:
        requests = requests_of(step, shards)
    attempts = 0

    def counted() -> Iterator[Request]:
        nonlocal attempts
        for batch in unsettled(requests, step.get_teacher().batch, store):
            for request in batch:
                attempts += len(request.attempts)
                yield request

    with open_store(rollouts) as store:
        left = counted()
        estimate = step.get_teacher().estimate(left)
        # A teacher that costs nothing does not look at them, and they have to be counted.
        for _ in left:
            pass
    return Calls(attempts, estimate if attempts else None)
