"""What a plan tells apart, and how it says so. Each test was written for a mutant that survived."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omr_data.errors import OmrError, RecipeError, SourceError, UnpinnedError
from omr_data.flow import Flow, union
from omr_data.operators import limits, rollout
from omr_data.operators.mix import ALL, mix
from omr_data.plan import differences, make_plan
from omr_data.recipe import Recipe
from omr_data.source import DatasetLocator, Pin
from omr_data.sources import synthetic
from omr_data.sources.locator import LocalDatasets
from omr_data.teachers import echo

NUMBERS = synthetic.Source(count=10)


@dataclass(frozen=True)
class Broken(synthetic.Source):
    """A source that is not ready, in one way or in two."""

    fault: str = ""
    unready: str = ""

    def resolve(self, locator: DatasetLocator) -> Pin:
        if self.fault:
            raise UnpinnedError(self.fault)
        return Pin(commit="c" * 40)

    def problem(self) -> OmrError | None:
        return SourceError(self.unready) if self.unready else None


def plan(data: Any, **fields: Any) -> Any:
    return make_plan(Recipe("mine", "1.0.0", data, **fields), LocalDatasets())


def told(old: Any, new: Any, **fields: Any) -> list[str]:
    return differences(plan(old).to_json(), plan(new, **fields).to_json())


def asked(n: int = 8, **fields: Any) -> Flow:
    return NUMBERS.then(rollout.Sample(echo.Teacher(**fields), n=n))


def test_a_changed_field_is_named_by_step_and_field() -> None:
    assert told(asked(8), asked(6)) == ["rollout.Sample.n: 8 -> 6"]
    assert told(NUMBERS, synthetic.Source(count=11)) == ["synthetic.Source.count: 10 -> 11"]
    assert told(NUMBERS, NUMBERS) == []


def test_a_field_of_a_spec_inside_a_step_is_named_by_its_path() -> None:
    found = told(asked(answers=("7", "8")), asked(answers=("7", "9")))
    assert found == ["rollout.Sample.teacher.answers[1]: 8 -> 9"]
    found = told(asked(answers=("7",)), asked(answers=("7", "9")))
    assert found == ["rollout.Sample.teacher.answers[1] is new (9)"]
    found = told(asked(answers=("7", "9")), asked(answers=("7",)))
    assert found == ["rollout.Sample.teacher.answers[1] is gone (it was 9)"]


def test_steps_of_one_name_are_numbered_in_order() -> None:
    twice = NUMBERS.then(limits.ImageSide(at_least=2), limits.ImageSide(at_least=3))
    other = NUMBERS.then(limits.ImageSide(at_least=2), limits.ImageSide(at_least=4))
    assert told(twice, other) == ["limits.ImageSide#2.at_least: 3 -> 4"]
    third = twice.then(limits.ImageSide(at_least=5))
    found = told(twice, third)
    assert found == [
        "limits.ImageSide#3.revision is new (1)",
        "limits.ImageSide#3.at_least is new (5)",
    ]


def test_none_is_nothing_so_that_setting_a_field_is_new() -> None:
    one, other = limits.ImageSide(), limits.ImageSide(at_most=64)
    assert told(NUMBERS.then(one), NUMBERS.then(other)) == ["limits.ImageSide.at_most is new (64)"]


def node(revision: int = 1, fields: Any = None, pin: Any = None) -> dict[str, Any]:
    """A plan of one node, as JSON."""
    line = {"name": "a.Step", "revision": revision, "fields": fields or {}}
    return {"rows": None, "nodes": [line | ({"pin": pin} if pin else {})]}


def test_a_bumped_revision_a_pin_and_promised_rows_are_told() -> None:
    assert differences(node(1), node(2)) == ["a.Step.revision: 1 -> 2"]
    old, new = node(pin={"commit": "c1", "digest": None}), node(pin={"commit": "c2"})
    assert differences(old, new) == ["a.Step.pin.commit: c1 -> c2"]
    assert differences(old | {"rows": [1, 5]}, old | {"rows": [1, 6]}) == ["rows: [1, 5] -> [1, 6]"]
    inner = {"spec": "t.Teacher", "revision": 1, "fields": {"model": "x"}}
    old, new = node(fields={"teacher": inner}), node(fields={"teacher": inner | {"revision": 2}})
    assert differences(old, new) == ["a.Step.teacher: t.Teacher revision 1 -> t.Teacher revision 2"]
    # A plain mapping that only looks like a Spec is told by its own keys.
    old, new = node(fields={"x": {"spec": "s", "y": 1}}), node(fields={"x": {"spec": "s", "y": 2}})
    assert differences(old, new) == ["a.Step.x.y: 1 -> 2"]


values = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
fields_of_a_step = st.dictionaries(st.text("abc", min_size=1, max_size=2), values, max_size=4)


@given(fields_of_a_step, fields_of_a_step)
def test_plans_differ_exactly_where_their_values_do(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> None:
    assert differences(node(fields=old), node(fields=old)) == []
    there = differences(node(fields=old), node(fields=new))
    back = differences(node(fields=new), node(fields=old))
    assert len(there) == len(back)
    assert sum(" is new " in line for line in there) == sum(" is gone " in line for line in back)
    if not there:
        # What has no leaves has no identity either: an empty list, and a mapping without values.
        assert _leaves(old) == _leaves(new)


def _leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = [(f"{path}.{key}", inner) for key, inner in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{number}]", inner) for number, inner in enumerate(value)]
    else:
        return {path: value}
    return {name: leaf for key, inner in items for name, leaf in _leaves(inner, key).items()}


def test_one_problem_is_raised_as_it_is_and_several_are_listed() -> None:
    plan(NUMBERS).require_ready()
    with pytest.raises(UnpinnedError, match="^no commit$"):
        plan(Broken(fault="no commit")).require_ready()
    both = union(Broken(unready="not written"), Broken(count=2, fault="no commit"))
    made = plan(both)
    assert [str(problem) for problem in made.problems()] == ["not written", "no commit"]
    with pytest.raises(SourceError) as refused:
        made.require_ready()
    lines = str(refused.value).splitlines()
    assert "mine cannot be built yet" in lines[0] and "2" in lines[0]
    assert [line.strip(" -") for line in lines[-2:]] == ["not written", "no commit"]


def test_a_source_can_have_two_problems_and_both_are_shown() -> None:
    made = plan(Broken(fault="no commit", unready="not written"))
    assert len(made.problems()) == 2
    assert made.to_json()["nodes"][0]["problems"] == ["no commit", "not written"]
    assert "problems" not in plan(NUMBERS).to_json()["nodes"][0]


def test_equal_flows_are_one_node_however_they_were_written() -> None:
    again = synthetic.Source(count=10).then(limits.ImageSide())
    made = plan(union(NUMBERS.then(limits.ImageSide()), again, NUMBERS))
    assert [one.name for one in made.nodes] == ["synthetic.Source", "limits.ImageSide", "union"]
    assert made.nodes[-1].parents == (1, 1, 0)


def test_a_flow_that_is_used_twice_at_every_level_is_planned_in_a_moment() -> None:
    flow = NUMBERS.then()
    for _ in range(200):
        flow = union(flow, flow)
    assert len(plan(flow).nodes) == 201


def test_the_fingerprint_covers_name_rows_and_data_and_not_the_version() -> None:
    one = make_plan(Recipe("mine", "1.0.0", NUMBERS), LocalDatasets())
    version = make_plan(Recipe("mine", "1.0.1", NUMBERS), LocalDatasets())
    name = make_plan(Recipe("other", "1.0.0", NUMBERS), LocalDatasets())
    rows = make_plan(Recipe("mine", "1.0.0", NUMBERS, range(5)), LocalDatasets())
    assert one.fingerprint == version.fingerprint
    assert len({one.fingerprint, name.fingerprint, rows.fingerprint}) == 3


def test_a_plan_as_json_can_be_written_and_says_what_it_was_made_from() -> None:
    made = plan(mix({Broken(): ALL, NUMBERS: 3}), rows=range(1, 9)).to_json()
    assert json.loads(json.dumps(made)) == made
    assert (made["name"], made["version"], made["rows"]) == ("mine", "1.0.0", [1, 9])
    assert [line["node"] for line in made["nodes"]] == list(range(len(made["nodes"])))
    assert made["nodes"][0]["pin"]["commit"] == "c" * 40
    take = next(line for line in made["nodes"] if line["name"] == "mix.Take")
    assert (take["fields"], take["revision"]) == ({"rows": 3, "seed": 0}, 1)
    union_ = made["nodes"][-1]
    assert union_["name"] == "union" and "fields" not in union_ and "pin" not in union_


PINS: list[Pin] = []


@dataclass(frozen=True)
class Pinned(synthetic.Source):
    """A source whose pin is what a test says."""

    def resolve(self, locator: DatasetLocator) -> Pin:
        return PINS[-1]


def test_the_pin_is_part_of_the_fingerprint_and_the_digest_goes_before_the_commit() -> None:
    prints = []
    for commit, digest in (("a", None), ("b", None), ("a", "d"), ("b", "d"), (None, "d")):
        PINS.append(Pin(commit, digest))
        prints.append(plan(Pinned()).fingerprint)
    # From a mirror, the bytes are what was read, whatever commit they are said to be of.
    assert prints[2] == prints[3] == prints[4]
    assert len(set(prints)) == 3


def test_what_is_not_data_is_refused_before_a_plan() -> None:
    with pytest.raises(RecipeError, match="a flow or a source is needed here"):
        Recipe("mine", "1.0.0", "gsm8k")  # type: ignore[arg-type]
