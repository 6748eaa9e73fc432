"""A plan cut into stages: what is run in one pass over shards, and written once.

**Stage**: a head (a source to read, a GlobalStep's decisions to apply, or an AskStep's answers to attach), followed by the local
steps that are fused with it. Its last node names it. A node ends a stage when its rows are needed whole by something
else: it is the end of the plan, it goes into a GlobalStep, an AskStep or a union, several nodes read it, or it is a checkpoint.
A union is no stage: whoever reads it reads its parts' shards, one after the other.
"""

from collections import Counter
from dataclasses import dataclass

from omr_data.identity import digest
from omr_data.plan import Node, Plan
from omr_data.source import Source
from omr_data.step import AskStep, GlobalStep, Step

Head = Source | GlobalStep | AskStep | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass. `inputs` are indexes of earlier stages; `references` are those of a GlobalStep, one group each."""

    head: Node | None
    steps: tuple[Node, ...]
    inputs: tuple[int, ...]
    references: tuple[tuple[int, ...], ...] = ()

    @property
    def last(self) -> Node:
        """The node that the stage is named after."""
        if self.steps:
            return self.steps[-1]
        assert self.head is not None  # a stage has a head or a step
        return self.head

    @property
    def fingerprint(self) -> str:
        """The identity of what is on disk: the nodes that were fused. Fusing others gives a stage of its own, with its own counts."""
        return digest([node.fingerprint for node in self.nodes])

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes of the stage, in order."""
        return (*(() if self.head is None else (self.head,)), *self.steps)


@dataclass(frozen=True, slots=True)
class Cut:
    """The stages, parents first, and the ones whose shards are the plan's result, in order."""

    stages: tuple[Stage, ...]
    result: tuple[int, ...]


def cut(plan: Plan) -> Cut:
    """Cuts a plan into stages."""
    ends = _ends(plan)
    stages: list[Stage] = []
    of_node: dict[int, int] = {}

    def shards_of(index: int) -> tuple[int, ...]:
        node = plan.nodes[index]
        if node.spec is None:
            return tuple(stage for parent in node.parents for stage in shards_of(parent))
        return (of_node[index],)

    for index, node in enumerate(plan.nodes):
        if node.spec is None or index not in ends:
            continue
        steps: list[Node] = []
        at = index
        while not _is_head(plan.nodes[at]):
            steps.insert(0, plan.nodes[at])
            at = plan.nodes[at].parents[0]
            if at in ends or plan.nodes[at].spec is None:
                stage = Stage(None, tuple(steps), shards_of(at))
                break
        else:
            head = plan.nodes[at]
            inputs = shards_of(head.parents[0]) if head.parents else ()
            stage = Stage(
                head, tuple(steps), inputs, tuple(shards_of(parent) for parent in head.parents[1:])
            )
        of_node[index] = len(stages)
        stages.append(stage)
    return Cut(tuple(stages), shards_of(len(plan.nodes) - 1))


def _is_head(node: Node) -> bool:
    return isinstance(node.spec, Source | GlobalStep | AskStep)


def _ends(plan: Plan) -> set[int]:
    """The nodes whose rows are written."""
    readers = Counter(parent for node in plan.nodes for parent in node.parents)
    ends = {len(plan.nodes) - 1} | {index for index, count in readers.items() if count > 1}
    for index, node in enumerate(plan.nodes):
        if isinstance(node.spec, Step) and node.spec.checkpoint:
            ends.add(index)
        if node.spec is None or isinstance(node.spec, GlobalStep | AskStep):
            ends.update(node.parents)
    return ends
