"""A plan cut into stages: what runs in one pass over shards, and is written once.

A **stage** is a head followed by the local steps that are fused with it. The head is a source to
read, a GlobalStep whose decisions are applied, or an AskStep whose answers are attached.

A node ends a stage when its rows are needed whole by something else: it is the end of the plan, it
feeds a GlobalStep, an AskStep or a union, several nodes read it, or it is a checkpoint. A union is
not a stage of its own: whatever reads it reads the shards of its parents, one after the other.
"""

from collections import Counter
from dataclasses import dataclass

from omr_data.identity import digest
from omr_data.plan import Node, Plan
from omr_data.source import Source
from omr_data.step import AskStep, GlobalStep, Step


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass over shards."""

    head: Node | None
    """The source, GlobalStep or AskStep that it starts with. None if it continues another stage."""
    steps: tuple[Node, ...]
    """The local steps, in order."""
    inputs: tuple[int, ...]
    """Indexes of the earlier stages whose shards it reads, in order."""
    references: tuple[tuple[int, ...], ...] = ()
    """Indexes of the stages of each reference of a GlobalStep."""

    @property
    def last(self) -> Node:
        """The node that the stage is named after."""
        return self.nodes[-1]

    @property
    def fingerprint(self) -> str:
        """The identity of what is on disk.

        It covers which nodes were fused, because the ledger of a stage holds the counts of all of
        them: fusing other nodes gives another ledger.
        """
        return digest([node.fingerprint for node in self.nodes])

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of the stage, in order."""
        head = () if self.head is None else (self.head,)
        return (*head, *self.steps)


@dataclass(frozen=True, slots=True)
class Cut:
    """A plan's stages."""

    stages: tuple[Stage, ...]
    """The stages, parents first."""
    result: tuple[int, ...]
    """Indexes of the stages whose shards are the plan's data, in order."""


def cut(plan: Plan) -> Cut:
    """Cuts a plan into stages."""
    ends = stage_ends(plan)
    stages: list[Stage] = []
    of_node: dict[int, int] = {}

    def stages_of(index: int) -> tuple[int, ...]:
        """The stages whose shards hold the rows of a node."""
        node = plan.nodes[index]
        if node.spec is not None:
            return (of_node[index],)
        # A union in a union is read as its parents, in order, to any depth.
        return sum((stages_of(parent) for parent in node.parents), ())

    for index, node in enumerate(plan.nodes):
        if node.spec is None or index not in ends:
            continue
        # From the end of the stage upwards, until a head or the end of another stage.
        steps: list[Node] = []
        at = index
        while not isinstance(plan.nodes[at].spec, Source | GlobalStep | AskStep):
            steps.insert(0, plan.nodes[at])
            at = plan.nodes[at].parents[0]
            if at in ends:
                stage = Stage(None, tuple(steps), stages_of(at))
                break
        else:
            head = plan.nodes[at]
            inputs = stages_of(head.parents[0]) if head.parents else ()
            references = tuple(stages_of(parent) for parent in head.parents[1:])
            stage = Stage(head, tuple(steps), inputs, references)
        of_node[index] = len(stages)
        stages.append(stage)
    return Cut(tuple(stages), stages_of(len(plan.nodes) - 1))


def stage_ends(plan: Plan) -> set[int]:
    """Returns the indexes of the nodes whose rows are written, and of all unions."""
    readers = Counter[int]()
    for node in plan.nodes:
        readers.update(node.parents)
    # A node that several others read is written, where running it twice would cost more.
    ends = {len(plan.nodes) - 1} | {index for index, count in readers.items() if count > 1}
    for index, node in enumerate(plan.nodes):
        if node.spec is None:
            ends.add(index)
        if isinstance(node.spec, Step) and node.spec.checkpoint:
            ends.add(index)
        # What these read must be on disk: whole for a GlobalStep, and to ask about for an AskStep.
        if node.spec is None or isinstance(node.spec, GlobalStep | AskStep):
            ends.update(node.parents)
    return ends
