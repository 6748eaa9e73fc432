"""A plan is a recipe with every identity worked out: its nodes parents first, each once, as canonical JSON.

**Node**: one source, step or union with its fingerprint: sha256 of its Spec, its pin and its parents' fingerprints, so
that a change anywhere above it changes it. The plan's own fingerprint is what a release is made from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omr_data.errors import OmrError
from omr_data.flow import Flow, SourceNode, StepNode
from omr_data.identity import Canonical, canonical, digest
from omr_data.recipe import Recipe
from omr_data.source import DatasetLocator, Pin, Source

UNION = "union"


@dataclass(frozen=True, slots=True)
class Node:
    """One line of a plan. `parents` are indexes of earlier nodes; `problems` say why it cannot be built here, if so."""

    spec: SourceNode | StepNode | None
    parents: tuple[int, ...]
    fingerprint: str
    pin: Pin
    problems: tuple[OmrError, ...]

    @property
    def name(self) -> str:
        """What the step is called: "rollout.Sample"."""
        return UNION if self.spec is None else self.spec.name


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe's nodes, parents first; the last one is the data that is released."""

    recipe: Recipe
    nodes: tuple[Node, ...]

    @property
    def fingerprint(self) -> str:
        """The identity of the release: name, promised rows and data. The version is its label, and no part of it."""
        rows = self.recipe.rows
        return digest(
            {"name": self.recipe.name, "rows": canonical(rows), "data": self.nodes[-1].fingerprint}
        )

    def problems(self) -> list[OmrError]:
        """Why the plan cannot be built on this machine; empty when it can."""
        return [problem for node in self.nodes for problem in node.problems]

    def require_ready(self) -> None:
        """Raises the problem if there is one, or one error of the first one's kind that lists them all."""
        problems = self.problems()
        if len(problems) == 1:
            raise problems[0]
        if problems:
            lines = "\n".join(f"  - {problem}" for problem in problems)
            raise type(problems[0])(
                f"{self.recipe.name} cannot be built yet, for {len(problems)} reasons:\n{lines}"
            )

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data, for people to diff and for a release to carry."""
        rows = self.recipe.rows
        return {
            "name": self.recipe.name,
            "version": self.recipe.version,
            "rows": None if rows is None else [rows.start, rows.stop],
            "fingerprint": self.fingerprint,
            "nodes": [_node_json(node, index) for index, node in enumerate(self.nodes)],
        }


def make_plan(recipe: Recipe, locator: DatasetLocator) -> Plan:
    """Works out every identity. What cannot be pinned is marked on its node, so that the whole plan can still be seen."""
    nodes: list[Node] = []
    by_fingerprint: dict[str, int] = {}
    seen: dict[int, int] = {}

    def visit(flow: Flow) -> int:
        if id(flow) not in seen:
            parents = tuple(visit(parent) for parent in flow.parents)
            node = _node(flow, parents, nodes, locator)
            if node.fingerprint not in by_fingerprint:
                by_fingerprint[node.fingerprint] = len(nodes)
                nodes.append(node)
            seen[id(flow)] = by_fingerprint[node.fingerprint]
        return seen[id(flow)]

    data = recipe.data
    assert isinstance(data, Flow)  # Recipe makes it one
    visit(data)
    return Plan(recipe, tuple(nodes))


def _node(
    flow: Flow, parents: tuple[int, ...], nodes: Sequence[Node], locator: DatasetLocator
) -> Node:
    pin = Pin()
    problems: list[OmrError] = []
    if isinstance(flow.spec, Source):
        try:
            pin = flow.spec.resolve(locator)
        except OmrError as error:
            problems.append(error)
        if (unready := flow.spec.problem()) is not None:
            problems.append(unready)
    identity: dict[str, Canonical] = {
        "spec": UNION if flow.spec is None else canonical(flow.spec),
        "parents": [nodes[parent].fingerprint for parent in parents],
    }
    if isinstance(flow.spec, Source):
        # From a mirror, the bytes read are the identity, whatever commit they are said to be.
        identity["pin"] = pin.digest or pin.commit
    return Node(flow.spec, parents, digest(identity), pin, tuple(problems))


def _node_json(node: Node, index: int) -> dict[str, Any]:
    line: dict[str, Any] = {
        "node": index,
        "name": node.name,
        "fingerprint": node.fingerprint,
        "parents": list(node.parents),
    }
    if node.spec is not None:
        spec = canonical(node.spec)
        assert isinstance(spec, dict)  # a Spec is canonically an object
        line |= {"revision": spec["revision"], "fields": spec["fields"]}
    if isinstance(node.spec, Source):
        line["pin"] = {"commit": node.pin.commit, "digest": node.pin.digest}
    if node.problems:
        line["problems"] = [str(problem) for problem in node.problems]
    return line


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Where two plans (as JSON) differ, in words: "rollout.Sample.n: 8 -> 6". Empty when only the order of equal parts does."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    found = [
        f"{key}: {before[key]} -> {after[key]}"
        for key in before
        if key in after and before[key] != after[key]
    ]
    found += [f"{key} is gone (it was {before[key]})" for key in before if key not in after]
    found += [f"{key} is new ({after[key]})" for key in after if key not in before]
    return found


def _leaves(plan: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "rows", plan["rows"]
    count: dict[str, int] = {}
    for node in plan["nodes"]:
        count[node["name"]] = number = count.get(node["name"], 0) + 1
        label = node["name"] + (f"#{number}" if number > 1 else "")
        yield f"{label}.revision", node.get("revision")
        yield from _flatten(f"{label}", node.get("fields"))
        yield from _flatten(f"{label}.pin", node.get("pin"))


def _flatten(label: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case {"spec": str(name), "revision": revision, "fields": dict(fields)}:
            yield label, f"{name} revision {revision}"
            for key, item in fields.items():
                yield from _flatten(f"{label}.{key}", item)
        case dict():
            for key, item in value.items():
                yield from _flatten(f"{label}.{key}", item)
        case list():
            for index, item in enumerate(value):
                yield from _flatten(f"{label}[{index}]", item)
        case None:
            return
        case _:
            yield label, value
