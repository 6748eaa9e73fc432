"""Builds a plan: its stages in order, each from shards to shards.

A stage that is done is **cached**: nothing runs. One that was interrupted continues with the shards
that its ledger lacks. A plan can also be asked what it would cost, without running anything.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from omr_data.engine.ask import ask_teacher, open_store, requests_of, unsettled
from omr_data.engine.decide import decide, take_keys
from omr_data.engine.requests import RequestsTask, make_requests, read_requests
from omr_data.engine.shards import (
    ApplyDecisions,
    AttachAnswers,
    Fused,
    Input,
    ReadPart,
    ReadShard,
    ShardTask,
    make_shard,
)
from omr_data.engine.stages import Cut, Stage, cut
from omr_data.engine.unanswered import drop_stale, stale_stages
from omr_data.errors import OmrError, SourceError, StepError, StoreError
from omr_data.plan import Plan
from omr_data.processes import Mapper
from omr_data.progress import Reporter
from omr_data.source import DatasetLocator, Source
from omr_data.step import AskStep, GlobalStep, Step
from omr_data.store.ledger import Count
from omr_data.store.shards import StageFolder
from omr_data.store.workspace import Workspace
from omr_data.teacher import Budget, Estimate, Request


@dataclass(frozen=True, slots=True)
class Built:
    """A plan whose stages are all on disk."""

    plan: Plan
    """The plan."""
    cut: Cut
    """Its stages."""
    folders: tuple[StageFolder, ...]
    """The folder of each stage."""

    @property
    def result(self) -> list[Path]:
        """The shards of the plan's data, in order."""
        return _shards(self.folders, self.cut.result)

    def counts(self) -> list[Count]:
        """Returns the counts of every source and step of the plan, in its order."""
        # By fingerprint: stages are cut at other places than people read a plan.
        found = {}
        for folder in self.folders:
            found.update({count.fingerprint: count for count in folder.counts()})
        return [found[node.fingerprint] for node in self.plan.nodes if node.spec is not None]

    def check(self) -> None:
        """Follows every row from the sources to the result.

        Each step's own count must add up, and the rows that entered it must be those that came out
        of the steps before it.

        Raises:
            StoreError: Rows appeared from nowhere, or vanished.
        """
        counts = {count.fingerprint: count for count in self.counts()}
        rows_out: list[int] = []
        for node in self.plan.nodes:
            # References of a GlobalStep are compared with, and do not flow into it.
            flows = node.parents[:1] if isinstance(node.spec, Step) else node.parents
            rows_in = sum(rows_out[parent] for parent in flows)
            if node.spec is None:
                rows_out.append(rows_in)
                continue
            count = counts[node.fingerprint]
            count.check(self.plan.recipe.name)
            if flows and count.rows_in != rows_in:
                raise StoreError(
                    f"{node.label} took {count.rows_in:,} rows, and the steps before it gave "
                    f"{rows_in:,}. Delete its stage and build again."
                )
            rows_out.append(count.rows_out)


def folders(plan: Plan, workspace: Workspace) -> tuple[Cut, tuple[StageFolder, ...]]:
    """Returns the plan's stages and the folder of each, built or not.

    Raises:
        StoreError: Another version made the workspace, in a format that this one does not read.
    """
    # First: stages of another format may look whole and hold something else.
    workspace.check_format()
    stages = cut(plan)
    where = [workspace.stage(stage.last.name, stage.fingerprint) for stage in stages.stages]
    return stages, tuple(where)


def build(
    plan: Plan,
    workspace: Workspace,
    locator: DatasetLocator,
    mapper: Mapper,
    workers: int,
    reporter: Reporter,
    budget: Budget,
) -> Built:
    """Runs every stage that is not done yet.

    Args:
        plan: The plan.
        workspace: Where stages, images and rollouts are stored. It must be locked.
        locator: Where datasets are.
        mapper: Runs the work on shards.
        workers: Processes that a teacher may use for work of its own.
        reporter: Where progress is shown.
        budget: What teachers may spend.

    Raises:
        OmrError: Whatever a source, step, teacher or the disk raised. Finished shards and paid
            answers are kept.
    """
    plan.require_ready()
    stages, where = folders(plan, workspace)
    drop_stale(where, stale_stages(stages, where, workspace))
    # Every teacher of the plan, before the first one is asked: a budget that a later one cannot
    # keep would be found out when most of the money is spent.
    for stage, folder in zip(stages.stages, where, strict=True):
        if stage.head is not None and isinstance(stage.head.spec, AskStep) and not folder.done():
            stage.head.spec.get_teacher().check_budget(budget)
    run = _Run(workspace, locator, mapper, workers, reporter, budget, where)
    for number, (stage, folder) in enumerate(zip(stages.stages, where, strict=True), 1):
        # Numbered among all stages, cached ones too, so that equal plans show equal lines.
        label = f"[{number}/{len(stages.stages)}] {stage.last.label}"
        cached = folder.done()
        if not cached:
            run.stage(stage, folder, label)
        mark = "  CACHED" if cached else ""
        reporter.say(f"{label}  {describe_stage(folder)}{mark}")
    built = Built(plan, stages, where)
    # Also where everything was cached: stages of several builds meet here for the first time.
    built.check()
    return built


def describe_stage(folder: StageFolder) -> str:
    """Returns what came out of a stage: "30 rows, 2 dropped  RIGHT 24  WRONG 6"."""
    summary = folder.summary()
    parts = [f"{summary['rows']:,} rows"]
    if dropped := sum(shard["dropped"] for shard in summary["shards"]):
        parts[0] += f", {dropped:,} dropped"
    # The last step of the stage is the one that the line is named after.
    for count in summary["counts"][-1:]:
        parts += [f"{name} {number:,}" for name, number in count["tally"].items()]
    return "  ".join(parts)


@dataclass(frozen=True, slots=True)
class _Run:
    """One build: what every stage of it needs."""

    workspace: Workspace
    """Where everything is stored."""
    locator: DatasetLocator
    """Where datasets are."""
    mapper: Mapper
    """Runs the work on shards."""
    workers: int
    """Processes that a teacher may use."""
    reporter: Reporter
    """Where progress is shown."""
    budget: Budget
    """What teachers may spend."""
    folders: tuple[StageFolder, ...]
    """The folder of each stage of the plan."""

    def stage(self, stage: Stage, folder: StageFolder, label: str) -> None:
        """Makes the shards of a stage that are not whole yet, and finishes it."""
        inputs = self.inputs(stage, folder, label)
        steps: Fused = tuple(
            (node.spec, node.fingerprint) for node in stage.steps if isinstance(node.spec, Step)
        )
        tasks = [ShardTask(folder, number, input, steps) for number, input in enumerate(inputs)]
        missing = [task for task in tasks if not folder.has_shard(task.number)]
        # Results come in any order; each shard has committed itself by then.
        with self.reporter.bar(label, len(missing), "shards") as bar:
            for _ in self.mapper.map(make_shard, missing):
                bar.advance(1)
        if stage.head is not None and isinstance(stage.head.spec, Source):
            # The fingerprint was worked out from the files as they were when the plan was made,
            # and rows were read later. This costs one more digest of local files, about 1 s per
            # GB; those of the Hub are pinned by commit.
            if stage.head.spec.resolve(self.locator) != stage.head.pin:
                # These shards hold rows of both versions of the files, so none can be kept.
                shutil.rmtree(folder.path)
                raise SourceError(
                    f"the files of {stage.head.label} changed while they were read. Nothing of it "
                    "was kept: run the same command again once the files are as they should be."
                )
            check_ids(stage.head.label, folder, len(tasks))
        folder.finish(len(tasks), stage.last.name)

    def inputs(self, stage: Stage, folder: StageFolder, label: str) -> Sequence[Input]:
        """Makes one input for each shard of a stage, in order.

        Args:
            stage: The stage.
            folder: Its folder.
            label: What it is called where progress is shown.
        """
        shards = _shards(self.folders, stage.inputs)
        if stage.head is None:
            return [ReadShard(shard) for shard in shards]
        # A head brings rows in its own way, and what follows it is the same for all.
        fingerprint = stage.head.fingerprint
        match stage.head.spec:
            case Source() as source:
                return self.parts(source, fingerprint)
            case AskStep() as step:
                tables = self.requests(step, shards, folder, label)
                ask_teacher(step, tables, self.workspace, self.workers, self.reporter, self.budget)
                rollouts = self.workspace.rollouts
                return [
                    AttachAnswers(step, fingerprint, shard, rollouts, table)
                    for shard, table in zip(shards, tables, strict=True)
                ]
            case GlobalStep() as step:
                references = [_shards(self.folders, group) for group in stage.references]
                sides = [shards, *references]
                images = self.workspace.images
                take_keys(step, folder, sides, images, self.mapper, self.reporter, label)
                drops = decide(step, folder, sides)
                return [
                    ApplyDecisions(step, fingerprint, shard, of_shard)
                    for shard, of_shard in zip(shards, drops, strict=True)
                ]
        raise StepError(
            f"{stage.head.name} cannot head a stage: it is not a Source, AskStep or GlobalStep."
        )

    def parts(self, source: Source, fingerprint: str) -> list[Input]:
        """Downloads the files of a source, and cuts them into parts."""
        # Here and not when the plan is made: a stage that is cached needs no files at all.
        files = source.download(self.locator)
        try:
            parts = source.parts(files)
        except OmrError:
            raise
        except Exception as error:
            # A library says what is wrong, and rarely in which file.
            more = " ..." if len(files.paths) > 3 else ""
            raise SourceError(
                f"{source.name} cannot read the files in {files.root} "
                f"({', '.join(files.paths[:3])}{more}): {type(error).__name__}: {error}. "
                "A file is damaged, or its layout has changed: fetch it again."
            ) from error
        # Said after the files were read: most notes are about their columns.
        for note in source.notes(files):
            self.reporter.say(f"  {note}")
        # No rows at all are most often a pattern that matches the wrong files.
        if not parts:
            raise SourceError(
                f"{source.name} has no rows to read. Check what it declares, and the files in "
                f"{files.root}."
            )
        return [ReadPart(source, fingerprint, files, part, self.workspace.images) for part in parts]

    def requests(
        self, step: AskStep, shards: Sequence[Path], folder: StageFolder, label: str
    ) -> list[Path]:
        """Writes the requests of an AskStep that are not on disk yet; returns all their files.

        Args:
            step: The step.
            shards: The shards that it reads.
            folder: The folder of its stage.
            label: What the stage is called where progress is shown.
        """
        # Kept in files and not in memory: they are read twice, to ask and to attach the answers.
        tasks = [
            RequestsTask(folder, number, step, shard)
            for number, shard in enumerate(shards)
            if not folder.has_requests(number)
        ]
        with self.reporter.bar(f"{label}: requests", len(tasks), "shards") as bar:
            for _ in self.mapper.map(make_requests, tasks):
                bar.advance(1)
        return [folder.requests(number) for number in range(len(shards))]


def _shards(folders: Sequence[StageFolder], stages: Sequence[int]) -> list[Path]:
    """The shards of some stages, one stage after the other."""
    found: list[Path] = []
    for stage in stages:
        found += folders[stage].shards()
    return found


def check_ids(label: str, folder: StageFolder, shards: int) -> None:
    """Raises SourceError when two rows of a source have one id.

    Later steps and the release check this as well, across sources. Here it costs one column of the
    shards, and is found before a teacher is paid.

    Args:
        label: What the source is called in the plan.
        folder: The folder of its stage.
        shards: How many shards it has.
    """
    import polars as pl

    paths = [folder.shard(number) for number in range(shards)]
    ids = pl.scan_parquet(paths).select("id").collect()["id"]
    if ids.n_unique() < len(ids):
        twice = ids.filter(ids.is_duplicated())[0]
        raise SourceError(
            f"{label} gives two rows with the id {twice!r}. Ids must be unique: give each row "
            "something of its own in the id, such as the path of its file and its line."
        )


@dataclass(frozen=True, slots=True)
class Calls:
    """What one AskStep of a plan would ask for now."""

    attempts: int
    """Attempts that are not stored yet."""
    estimate: Estimate | None = None
    """What they are expected to take, where that costs something."""


def teacher_calls(plan: Plan, workspace: Workspace) -> dict[str, Calls | None]:
    """Works out what each AskStep of the plan would ask for now.

    Returns:
        The calls by the fingerprint of the step's node. None before the step's input is built.
    """
    # None and not a guess: how many rows reach a step is known when the steps before it have run.
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
            shards = _shards(where, stage.inputs)
            calls[fingerprint] = step_calls(stage.head.spec, shards, folder, workspace.rollouts)
        else:
            calls[fingerprint] = None
    return calls


def step_calls(step: AskStep, shards: Sequence[Path], folder: StageFolder, rollouts: Path) -> Calls:
    """Counts and estimates what one AskStep would ask for, in one pass.

    Args:
        step: The step.
        shards: The shards that it reads.
        folder: The folder of its stage.
        rollouts: The file of the rollout store.
    """
    tables = [folder.requests(number) for number in range(len(shards))]
    # A plan writes nothing, so requests that a build has not kept yet are made and forgotten.
    requests: Iterator[Request] = requests_of(step, shards)
    if all(table.exists() for table in tables):
        requests = chain.from_iterable(map(read_requests, tables))
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
