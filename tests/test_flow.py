"""Building a flow runs nothing and refuses what cannot work."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from omr_data.errors import IdentityError, RecipeError
from omr_data.flow import Flow, as_flow, union
from omr_data.records import Record
from omr_data.source import Files, Images, Part, Source
from omr_data.step import Filter, Map
from tests.builders import record


@dataclass(frozen=True)
class Numbers(Source):
    """A source that fails when it is read: a flow must not read it."""

    count: int = 3

    def parts(self, files: Files) -> Sequence[Part]:
        raise AssertionError("building a flow has read a source")

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        raise AssertionError("building a flow has read a source")

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        raise AssertionError("building a flow has read a source")


@dataclass(frozen=True)
class Same(Map):
    """A step that fails when it is run: a flow must not run it."""

    label: str = ""

    def apply(self, record: Record) -> Record:
        raise AssertionError("building a flow has run a step")


@dataclass(frozen=True)
class Compares(Same):
    """A step with references."""

    @property
    def references(self) -> tuple[Source, ...]:
        return (Numbers(10), Numbers(20))


@dataclass(frozen=True)
class Careless(Filter):
    """A step that overrides __post_init__ without super, so that nothing checks its fields."""

    keep: Any = field(default=None)

    def __post_init__(self) -> None:
        pass

    def reason(self, record: Record) -> str | None:
        return None


@dataclass(frozen=True)
class CarelessSource(Numbers):
    """A source that does the same."""

    options: Any = None

    def __post_init__(self) -> None:
        pass


def test_then_adds_one_node_for_each_step_in_order() -> None:
    flow = Numbers().then(Same("a"), Same("b")).then(Same("c"))
    labels = []
    while flow.parents:
        labels.append(flow.spec.label)  # type: ignore[union-attr]
        (flow,) = flow.parents
    assert labels == ["c", "b", "a"]
    assert flow == Flow(Numbers())
    assert flow.parents == ()


def test_then_without_steps_is_the_source_itself() -> None:
    assert Numbers().then() == as_flow(Numbers()) == Flow(Numbers())


def test_a_flow_is_a_value_that_can_be_followed_twice() -> None:
    base = Numbers().then(Same("a"))
    assert base.then(Same("b")) != base.then(Same("c"))
    assert base == Numbers().then(Same("a"))


def test_the_references_of_a_step_stand_behind_its_rows() -> None:
    flow = Numbers().then(Compares())
    assert [parent.spec for parent in flow.parents] == [Numbers(), Numbers(10), Numbers(20)]


@pytest.mark.parametrize("step", [lambda record: record, Same, record(), Numbers(), None])
def test_what_is_not_a_step_is_refused_and_the_message_says_what_to_do(step: Any) -> None:
    with pytest.raises(RecipeError, match="derives from Map, Filter or Expand") as refused:
        Numbers().then(Same(), step)
    assert repr(step) in str(refused.value)
    assert "union() or mix()" in str(refused.value)


def test_a_field_without_identity_is_refused_even_where_a_step_checks_nothing() -> None:
    with pytest.raises(IdentityError, match=r"Careless\.keep"):
        Numbers().then(Careless(keep=print))
    with pytest.raises(IdentityError, match=r"CarelessSource\.options"):
        CarelessSource(options=[1]).then(Same())
    assert Numbers().then(Careless(keep="all")).spec == Careless(keep="all")


@pytest.mark.parametrize("data", ["gsm8k", None, Same(), [Numbers()]])
def test_what_is_not_a_flow_or_a_source_is_refused(data: Any) -> None:
    for use in (as_flow, union, lambda one: union(Numbers(), one)):
        with pytest.raises(RecipeError, match="a flow or a source is needed here") as refused:
            use(data)
        assert repr(data) in str(refused.value)
        assert "gsm8k.Source()" in str(refused.value)


def test_a_union_keeps_the_order_of_its_parts() -> None:
    one, other = Numbers(1), Numbers(2).then(Same())
    assert union(one, other) == Flow(None, (Flow(one), other))
    assert union(one, other) != union(other, one)


def test_a_union_of_one_is_that_one_and_changes_no_fingerprint() -> None:
    flow = Numbers().then(Same())
    assert union(flow) is flow
    assert union(Numbers()) == Flow(Numbers())


def test_a_union_of_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"union\(\) needs at least one flow"):
        union()
