"""The tree that a recipe is made of: sources at the leaves, steps above them, unions that join.

**Flow**: one node of the tree. Building a tree runs nothing; the engine runs it later, from a plan.
**SourceNode**, **StepNode**: what a node may hold. Authors derive from `omr_data.source.Source` and
from the shapes in `omr_data.step`, which derive from these two. They are separate so that
`Source.then` can return a Flow without an import cycle.

    flow = gsm8k.Source().then(verify.Gold(), dedup.Exact())
    both = union(flow, puzzlevqa.Source())
"""

from dataclasses import dataclass

from omr_data.errors import RecipeError
from omr_data.identity import Spec, canonical


@dataclass(frozen=True)
class SourceNode(Spec):
    """Base of `omr_data.source.Source`: a leaf of the tree."""

    def then(self, *steps: "StepNode") -> "Flow":
        """Follows this source with steps, in the order given."""
        return as_flow(self).then(*steps)


@dataclass(frozen=True)
class StepNode(Spec):
    """Base of the step shapes in `omr_data.step`."""

    @property
    def references(self) -> tuple[SourceNode, ...]:
        """Other sources that the step reads, such as benchmarks. Their rows are never released."""
        return ()


@dataclass(frozen=True)
class Flow:
    """A node of the tree: a source, a step over its parent, or a union of several parents."""

    spec: SourceNode | StepNode | None
    """The source or step of this node. None for a union."""
    parents: tuple["Flow", ...] = ()
    """The flows that this node reads: none for a source, one and its references for a step."""

    def then(self, *steps: StepNode) -> "Flow":
        """Follows this flow with steps, in the order given.

        Raises:
            RecipeError: Something else than a step was given, for example a plain function.
            IdentityError: A field of a step has no stable identity.
        """
        flow = self
        for step in steps:
            if not isinstance(step, StepNode):
                raise RecipeError(
                    f"then() takes steps and got {step!r}. Join flows with union() or mix(). "
                    "To use a function, write it as the method of a class that derives from Map, "
                    "Filter or Expand."
                )
            # A subclass may override __post_init__ without calling super: check identity again
            # here, where the traceback still points at the recipe's line.
            canonical(step)
            # References are parents too: they are pinned and enter the fingerprint as data does.
            references = tuple(as_flow(source) for source in step.references)
            flow = Flow(step, (flow, *references))
        return flow


def as_flow(data: Flow | SourceNode) -> Flow:
    """Wraps a source as a flow of one node. A flow is returned as it is.

    Raises:
        RecipeError: `data` is neither a flow nor a source.
    """
    if isinstance(data, SourceNode):
        canonical(data)
        return Flow(data)
    if isinstance(data, Flow):
        return data
    raise RecipeError(
        f"a flow or a source is needed here, and this is {data!r}. Give for example "
        "gsm8k.Source(), or a source followed by steps: gsm8k.Source().then(...)."
    )


def union(*flows: Flow | SourceNode) -> Flow:
    """Joins flows: all rows of the first, then all rows of the second, and so on.

    Args:
        *flows: Flows or sources. Record ids must be unique across them; the engine checks this
            where a global step reads them, and again when a release is written.

    Raises:
        RecipeError: No flow was given.
    """
    if not flows:
        raise RecipeError("union() needs at least one flow.")
    if len(flows) == 1:
        # A union of one would be a node of its own and change every fingerprint below it.
        return as_flow(flows[0])
    # The order counts: it is that of the rows of the release.
    return Flow(None, tuple(as_flow(flow) for flow in flows))
