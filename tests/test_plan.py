"""Differences between plans are named, and labels tell nodes of one name apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omr_data import Recipe, union
from omr_data.errors import RecipeError, SourceError, UnpinnedError
from omr_data.operators import rollout
from omr_data.plan import Outline, differences, labels, make_plan
from omr_data.sources import gsm8k, puzzlevqa
from omr_data.sources.locator import LocalDatasets
from omr_data.teachers import echo
from tests.engine.tiny import DropLast, Numbers, Odd, Same


def plan_json(data: Any, rows: range | None = None) -> dict[str, Any]:
    return make_plan(Recipe("tiny", "1.0.0", data, rows), LocalDatasets()).to_json()


BASE = Numbers(5).then(Odd(), rollout.Sample(echo.Teacher(), n=2))
OTHERS = {
    "a field": (
        Numbers(6).then(Odd(), rollout.Sample(echo.Teacher(), n=2)),
        ["Numbers.count: 5 -> 6"],
    ),
    "a text": (
        Numbers(5, "b").then(Odd(), rollout.Sample(echo.Teacher(), n=2)),
        ["Numbers.dataset: numbers -> b"],
    ),
    "two fields": (
        Numbers(6).then(Odd(), rollout.Sample(echo.Teacher(), n=3)),
        ["Numbers.count: 5 -> 6", "rollout.Sample.n: 2 -> 3"],
    ),
}


@pytest.mark.parametrize(("other", "words"), OTHERS.values(), ids=OTHERS)
def test_a_changed_field_is_named_with_both_values(other: Any, words: list[str]) -> None:
    assert differences(plan_json(BASE), plan_json(other)) == words


def test_steps_that_come_and_go_are_named() -> None:
    shorter = plan_json(Numbers(5).then(rollout.Sample(echo.Teacher(), n=2)))
    gone = differences(plan_json(BASE), shorter)
    assert [line.split(" is gone (it was ")[0] for line in gone] == ["Odd.revision", "Odd.code"]
    new = differences(shorter, plan_json(BASE))
    assert [line.split(" is new (")[0] for line in new] == ["Odd.revision", "Odd.code"]


def test_promised_rows_and_pins_and_nested_specs_are_compared() -> None:
    one = plan_json(BASE, range(1, 9))
    assert differences(one, plan_json(BASE, range(1, 8))) == ["rows: [1, 9] -> [1, 8]"]
    pinned = plan_json(gsm8k.Source(commit="a" * 40))
    assert f"gsm8k.Source.pin.commit: {'a' * 40} -> {'b' * 40}" in differences(
        pinned, plan_json(gsm8k.Source(commit="b" * 40))
    )
    other = plan_json(Numbers(5).then(Odd(), rollout.Sample(echo.Teacher(answers=("7",)), n=2)))
    found = differences(plan_json(BASE), other)
    assert found
    assert all(line.startswith("rollout.Sample.teacher.") for line in found)


def test_two_steps_of_one_name_are_compared_by_their_place() -> None:
    one = plan_json(union(Numbers(1, "a"), Numbers(2, "b")))
    other = plan_json(union(Numbers(1, "a"), Numbers(3, "b")))
    assert differences(one, other) == ["Numbers#2.count: 2 -> 3"]


leaf = st.integers(0, 3) | st.text("ab", max_size=2)
fields = st.dictionaries(st.sampled_from("xyz"), leaf | st.lists(leaf, max_size=2), max_size=3)
nodes = st.lists(
    st.builds(
        lambda name, revision, fields: {"name": name, "revision": revision, "fields": fields},
        st.sampled_from(["a.A", "b.B"]),
        st.integers(1, 2),
        fields,
    ),
    max_size=3,
)
plans = st.builds(lambda rows, nodes: {"rows": rows, "nodes": nodes}, leaf, nodes)


@given(plans, plans)
def test_differences_are_empty_exactly_for_equal_parts_and_mirror_each_other(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert differences(one, one) == []
    there, back = differences(one, other), differences(other, one)
    assert len(there) == len(back)
    if one["rows"] != other["rows"]:
        assert f"rows: {one['rows']} -> {other['rows']}" in there


def test_a_list_is_compared_item_by_item_and_a_nested_spec_by_name() -> None:
    def spec(name: str, *items: int) -> dict[str, Any]:
        nested = {"spec": name, "revision": 1, "fields": {"items": list(items)}, "code": name}
        return {"rows": None, "nodes": [{"name": "s", "revision": 1, "fields": {"t": nested}}]}

    assert differences(spec("A", 1, 2), spec("B", 1, 3, 4)) == [
        "s.t: A revision 1 -> B revision 1",
        "s.t.code: A -> B",
        "s.t.items[1]: 2 -> 3",
        "s.t.items[2] is new (4)",
    ]


def test_the_identity_of_a_release_is_its_name_its_rows_and_its_data() -> None:
    def fingerprint(name: str = "a", rows: range | None = None, count: int = 2) -> str:
        return make_plan(Recipe(name, "1.0.0", Numbers(count), rows), LocalDatasets()).fingerprint

    found = {fingerprint(), fingerprint("b"), fingerprint(rows=range(3)), fingerprint(count=3)}
    assert len(found) == 4


def test_problems_are_raised_alone_or_listed_together() -> None:
    one = make_plan(Recipe("tiny", "1.0.0", gsm8k.Source()), LocalDatasets())
    with pytest.raises(UnpinnedError, match="^openai/gsm8k has no pinned commit"):
        one.require_ready()
    both = union(gsm8k.Source(), puzzlevqa.Source())
    two = make_plan(Recipe("tiny", "1.0.0", both), LocalDatasets())
    with pytest.raises(UnpinnedError, match=r"cannot be built yet, for 2 reasons:\n  - .*\n  - "):
        two.require_ready()
    assert "problems" in two.to_json()["nodes"][0]
    make_plan(Recipe("tiny", "1.0.0", Numbers(2)), LocalDatasets()).require_ready()
    assert issubclass(UnpinnedError, RecipeError)
    assert not issubclass(SourceError, RecipeError)


def test_references_are_parents_whose_rows_do_not_name_a_step() -> None:
    flow = union(
        Numbers(1, "a").then(Same()), Numbers(2, "b").then(Same(), DropLast((Numbers(3, "c"),)))
    )
    plan = make_plan(Recipe("tiny", "1.0.0", flow.then(Same())), LocalDatasets())
    assert [node.label for node in plan.nodes] == [
        "Numbers (a)",
        "Same (a)",
        "Numbers (b)",
        "Same (b)",
        "Numbers (c)",
        "DropLast",
        "union",
        "Same (a + 1)",
    ]


def test_labels_that_are_still_equal_are_numbered() -> None:
    nodes = [Outline("x.Source", (), "x"), Outline("S", (0,), None), Outline("S", (1,), None)]
    assert labels(nodes) == ["x.Source", "S (x) #1", "S (x) #2"]
    assert labels(nodes[:2]) == ["x.Source", "S"]
    assert labels([]) == []
