"""A plan: a recipe with every identity worked out, as canonical JSON that people can compare.

**Node**: one source, step or union. Its fingerprint is the sha256 of its Spec, its pin and the
fingerprints of its parents, so a change anywhere above a node changes it. A plan lists each node
once, parents first. The fingerprint of a plan is the identity of the release that is made from it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omr_data.errors import OmrError
from omr_data.flow import Flow, SourceNode, StepNode
from omr_data.identity import Canonical, canonical, digest
from omr_data.recipe import Recipe
from omr_data.source import DatasetLocator, Pin, Source

UNION = "union"


@dataclass(frozen=True, slots=True)
class Node:
    """One line of a plan."""

    spec: SourceNode | StepNode | None
    """The source or step. None for a union."""
    parents: tuple[int, ...]
    """Indexes of the nodes that it reads. Those after the first are references of a step."""
    fingerprint: str
    """Its identity, 64 hex digits."""
    pin: Pin
    """The bytes that a source reads. Empty for everything else."""
    problems: tuple[OmrError, ...]
    """Why it cannot be built on this machine. Empty when it can."""
    label: str = ""
    """Its name, told apart from nodes of the same name: "verify.Answers (gsm8k)"."""

    @property
    def name(self) -> str:
        """What the step is called: "rollout.Sample"."""
        return UNION if self.spec is None else self.spec.name

    def to_json(self, index: int) -> dict[str, Any]:
        """Returns the node as plain data; `index` is its place in the plan."""
        line: dict[str, Any] = {
            "node": index,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "parents": list(self.parents),
        }
        if self.spec is not None:
            spec = canonical(self.spec)
            assert isinstance(spec, dict)  # a Spec is canonically an object
            # Its name is that of the node already.
            line |= {key: value for key, value in spec.items() if key != "spec"}
        if isinstance(self.spec, Source):
            line["pin"] = {"commit": self.pin.commit, "digest": self.pin.digest}
        # Left out where there are none: a plan that can be built is the same on every machine.
        if self.problems:
            line["problems"] = [str(problem) for problem in self.problems]
        return line


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe's nodes, parents first. The last one is the data that is released."""

    recipe: Recipe
    """The recipe."""
    nodes: tuple[Node, ...]
    """Its nodes."""

    @property
    def fingerprint(self) -> str:
        """The identity of the release: name, promised rows and data.

        The version is not part of it: a version is a label, and the same data under another label
        is the same data.
        """
        rows = self.recipe.rows
        return digest(
            {"name": self.recipe.name, "rows": canonical(rows), "data": self.nodes[-1].fingerprint}
        )

    def problems(self) -> list[OmrError]:
        """Returns why the plan cannot be built on this machine. Empty when it can."""
        found: list[OmrError] = []
        for node in self.nodes:
            found += node.problems
        return found

    def require_ready(self) -> None:
        """Raises the plan's problem, or one error of the first one's kind that lists them all."""
        problems = self.problems()
        if len(problems) == 1:
            raise problems[0]
        if problems:
            lines = "\n".join(f"  - {problem}" for problem in problems)
            raise type(problems[0])(
                f"{self.recipe.name} cannot be built yet, for {len(problems)} reasons:\n{lines}"
            )

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as plain data, for people to compare and for a release to carry."""
        rows = self.recipe.rows
        return {
            "name": self.recipe.name,
            "version": self.recipe.version,
            "rows": None if rows is None else [rows.start, rows.stop],
            "fingerprint": self.fingerprint,
            "nodes": [node.to_json(index) for index, node in enumerate(self.nodes)],
        }


def make_plan(recipe: Recipe, locator: DatasetLocator) -> Plan:
    """Works out every identity of a recipe.

    A source that cannot be pinned is marked on its node and does not stop the others, so that the
    whole plan can be seen before anything is downloaded.

    Args:
        recipe: The recipe.
        locator: Where datasets are on this machine.
    """
    nodes: list[Node] = []
    by_fingerprint: dict[str, int] = {}
    seen: dict[int, int] = {}

    def visit(flow: Flow) -> int:
        # A flow that several others follow is one object; equal flows written twice are two objects
        # of one fingerprint. Both become one node.
        if id(flow) not in seen:
            parents = tuple(visit(parent) for parent in flow.parents)
            node = make_node(flow, parents, nodes, locator)
            if node.fingerprint not in by_fingerprint:
                by_fingerprint[node.fingerprint] = len(nodes)
                nodes.append(node)
            seen[id(flow)] = by_fingerprint[node.fingerprint]
        return seen[id(flow)]

    data = recipe.data
    assert isinstance(data, Flow)  # Recipe makes it one
    visit(data)
    labeled = zip(nodes, labels([outline(node) for node in nodes]), strict=True)
    return Plan(recipe, tuple(replace(node, label=label) for node, label in labeled))


def make_node(
    flow: Flow, parents: tuple[int, ...], nodes: Sequence[Node], locator: DatasetLocator
) -> Node:
    """Works out the identity of one node.

    Args:
        flow: The source, step or union.
        parents: Indexes of the nodes that it reads.
        nodes: The nodes so far; its parents are among them.
        locator: Where datasets are on this machine.
    """
    pin = Pin()
    problems: list[OmrError] = []
    if isinstance(flow.spec, Source):
        try:
            pin = flow.spec.resolve(locator)
        except OmrError as error:
            problems.append(error)
        # Beside the pin: a person should see both before mending either.
        if (unready := flow.spec.problem()) is not None:
            problems.append(unready)
    identity: dict[str, Canonical] = {
        "spec": UNION,
        "parents": [nodes[parent].fingerprint for parent in parents],
    }
    if flow.spec is not None:
        identity["spec"] = canonical(flow.spec)
    if isinstance(flow.spec, Source):
        # From a mirror, the bytes read are the identity, whatever commit they are said to be.
        identity["pin"] = pin.digest or pin.commit
    return Node(flow.spec, parents, digest(identity), pin, tuple(problems))


@dataclass(frozen=True, slots=True)
class Outline:
    """What the label of a node depends on."""

    name: str
    """Its name."""
    parents: tuple[int, ...]
    """The nodes whose rows flow into it. References are not among them."""
    dataset: str | None
    """What a source reads. None for everything else."""


def outline(node: Node) -> Outline:
    """Returns what the label of a node depends on."""
    if isinstance(node.spec, Source):
        dataset = getattr(node.spec, "dataset", None) or node.name.removesuffix(".Source")
        return Outline(node.name, (), str(dataset))
    # A union's parents all flow into it; those of a step after the first are references.
    if node.spec is None:
        return Outline(node.name, node.parents, None)
    return Outline(node.name, node.parents[:1], None)


def labels(nodes: Sequence[Outline]) -> list[str]:
    """Returns what each node is called: nodes of one name are told apart by dataset.

    "verify.Gold" where there is one of that name, otherwise "verify.Gold (puzzlevqa)" or, after a
    union, "verify.Gold (puzzlevqa + 2)". Nodes that are still called the same are numbered.
    """
    names = Counter(node.name for node in nodes)
    datasets: list[tuple[str, ...]] = []
    found: list[str] = []
    # Parents come first, so their datasets are known when a node is reached.
    for node in nodes:
        above = []
        if node.dataset is not None:
            above.append(node.dataset)
        for parent in node.parents:
            above += datasets[parent]
        datasets.append(tuple(dict.fromkeys(above)))
        label = node.name
        # "gsm8k.Source (gsm8k)" would say nothing that the name does not.
        if names[label] > 1 and above and label != f"{above[0]}.Source":
            others = len(datasets[-1]) - 1
            more = f" + {others}" if others else ""
            label += f" ({above[0]}{more})"
        found.append(label)
    labeled = Counter(found)
    seen: Counter[str] = Counter()
    for place, label in enumerate(found):
        seen[label] += 1
        if labeled[label] > 1:
            found[place] = f"{label} #{seen[label]}"
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists where two plans differ, in words: "rollout.Sample.n: 8 -> 6".

    Args:
        old: A plan as `Plan.to_json` gives it.
        new: Another one.

    Returns:
        One line for each difference. Empty when only the way that equal nodes are joined differs.
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    found = []
    for key, value in before.items():
        if key in after and after[key] != value:
            found.append(f"{key}: {value} -> {after[key]}")
    found += [f"{key} is gone (it was {before[key]})" for key in before if key not in after]
    found += [f"{key} is new ({after[key]})" for key in after if key not in before]
    return found


def _leaves(plan: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value of a plan that has an identity, under a name that says where it is."""
    yield "rows", plan["rows"]
    # Numbered and not labeled: a label names datasets, so adding a dataset would rename nodes that
    # did not change, and hide what did.
    count: Counter[str] = Counter()
    for node in plan["nodes"]:
        name = node["name"]
        count[name] += 1
        label = name
        if count[name] > 1:
            label += f"#{count[name]}"
        yield f"{label}.revision", node.get("revision")
        yield from _flatten(f"{label}.code", node.get("code"))
        yield from _flatten(label, node.get("fields"))
        yield from _flatten(f"{label}.pin", node.get("pin"))


def _flatten(label: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case {"spec": str(name), "revision": revision, "fields": dict(fields)}:
            yield label, f"{name} revision {revision}"
            yield from _flatten(f"{label}.code", value.get("code"))
            for key, item in fields.items():
                yield from _flatten(f"{label}.{key}", item)
        case dict():
            for key, item in value.items():
                yield from _flatten(f"{label}.{key}", item)
        case list():
            for index, item in enumerate(value):
                yield from _flatten(f"{label}[{index}]", item)
        # An absent value and None are the same here: fields that are None may be left out.
        case None:
            return
        case _:
            yield label, value
