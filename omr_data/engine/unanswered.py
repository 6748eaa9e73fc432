"""Attempts that a finished step left open: how many a release may have, and what reopens them.

A refused or rejected attempt is settled, so its step is done without it. Two things follow. The
share of such attempts is limited when a release is written. And when `omr rollouts retry` or an
import changes what is settled, the step and everything built on it is stale, and is built again.
"""

import shutil
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from omr_data.engine.ask import count_unsettled, requests_of
from omr_data.engine.requests import Wanted, read_wanted
from omr_data.engine.stages import Cut
from omr_data.errors import ReleaseError
from omr_data.progress import Reporter
from omr_data.step import AskStep
from omr_data.store.ledger import Count
from omr_data.store.rollouts import RolloutStore
from omr_data.store.shards import StageFolder
from omr_data.store.workspace import Workspace
from omr_data.teacher import AttemptStatus

OPEN = (AttemptStatus.REFUSED.value, AttemptStatus.REJECTED.value)
"""What the engine tallies of attempts without an answer."""
OPEN_ONCE = "unanswered"
"""What stages that were built before the statuses tally instead."""


def stale_stages(
    stages: Cut, folders: Sequence[StageFolder], workspace: Workspace
) -> frozenset[int]:
    """The done stages, by index, whose answers changed since: some of their attempts can be asked.

    Stages that read a stale stage are stale too. A step without open attempts is never stale, so
    nearly all of them cost nothing to check.

    Args:
        stages: The plan's stages.
        folders: Where they are.
        workspace: Where the rollouts are.
    """
    stale: set[int] = set()
    for number, (stage, folder) in enumerate(zip(stages.stages, folders, strict=True)):
        # References count as well: what was compared with them changes with them.
        read = set(stage.inputs).union(*stage.references)
        if not folder.done():
            continue
        if read & stale:
            stale.add(number)
        elif stage.head is not None and isinstance(stage.head.spec, AskStep):
            inputs = [folders[index] for index in stage.inputs]
            # The step's own count; fused steps after it have theirs.
            fingerprint = stage.head.fingerprint
            count = next(count for count in folder.counts() if count.fingerprint == fingerprint)
            has_open = any(count.tally[name] for name in (*OPEN, OPEN_ONCE))
            if has_open and is_reopened(stage.head.spec, folder, inputs, workspace.rollouts):
                stale.add(number)
    return frozenset(stale)


def is_reopened(
    step: AskStep, folder: StageFolder, inputs: Sequence[StageFolder], rollouts: Path
) -> bool:
    """Tells whether some attempts of a finished AskStep can be asked again.

    Args:
        step: The step.
        folder: The folder of its stage.
        inputs: The folders of the stages that it reads.
        rollouts: The file of the rollout store.
    """
    # Without a store nothing was reopened: its answers are elsewhere, and asking for all of them
    # again would be a costly surprise.
    if not RolloutStore.is_there(rollouts):
        return False
    shards = list[Path]()
    for one in inputs:
        if one.done():
            shards += one.shards()
    tables = [folder.requests(number) for number in range(len(shards))]
    # Files of requests where all exist: rendering and hashing every prompt again takes minutes.
    wanted: Iterator[Wanted] = chain.from_iterable(map(read_wanted, tables))
    if not all(table.exists() for table in tables):
        wanted = (Wanted(0, one.key, one.attempts) for one in requests_of(step, shards))
    with RolloutStore.read(rollouts) as store:
        return count_unsettled(wanted, store) > 0


def drop_stale(folders: Sequence[StageFolder], stale: frozenset[int]) -> None:
    """Deletes stale stages, the last one first, so that a kill in between leaves no wrong one.

    Args:
        folders: Where the plan's stages are.
        stale: Indexes of stale ones.
    """
    for number in sorted(stale, reverse=True):
        shutil.rmtree(folders[number].path)


def check_unanswered(
    steps: Sequence[tuple[AskStep, Count]], rollouts: Path, reporter: Reporter
) -> None:
    """Checks the share of attempts without an answer, and says how many there are.

    Args:
        steps: The AskSteps of a built plan, with what was counted of each.
        rollouts: The rollout store, for what the server said.
        reporter: Where it is said.

    Raises:
        ReleaseError: A step left more open than it may.
    """
    for step, count in steps:
        numbers = {name: count.tally[name] for name in OPEN if count.tally[name]}
        # Both kinds count: for the rows of the release it does not matter why an answer lacks.
        left = sum(numbers.values())
        if not left:
            continue
        shown = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
        asked = left + count.tally["answers"]
        # Per attempt and record: two records that share a request count twice.
        share = left / asked
        if step.unanswered_at_most >= share:
            reporter.say(f"  {step.name}: attempts without an answer: {shown}")
            continue
        raise ReleaseError(
            f"{step.name}: {left:,} of {asked:,} attempts have no answer ({shown}), which is "
            f"{share:.1%}; it may leave {step.unanswered_at_most:.1%} open. "
            f"{likely_cause(rollouts)}Nothing was released. `omr rollouts failures` lists them. "
            "Mend the cause and ask for them again with `omr rollouts retry`, or allow them with "
            f"unanswered={share:.2g} or more in the step."
        )


def likely_cause(rollouts: Path) -> str:
    """Returns what the server said most often, as a sentence. Empty where nothing is stored."""
    if not RolloutStore.is_there(rollouts):
        return ""
    with RolloutStore.read(rollouts) as store:
        # The largest group comes first, and is most likely the cause.
        settled = [group for group in store.failure_groups() if group.status.settled]
    if not settled:
        return ""
    status = f" with {settled[0].http_status}" if settled[0].http_status else ""
    # One line of at most 200 characters: servers also answer with whole pages of HTML.
    said = " ".join(settled[0].message.split())[:200]
    return f"Most were {settled[0].status.value}{status}: {said}. "
