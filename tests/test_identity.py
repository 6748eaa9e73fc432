"""Identity is what the data is: fields and revision, never places, code or number formats."""

import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omr_data.errors import IdentityError
from omr_data.identity import Spec, canonical, fingerprint, json_field, runtime_field, to_json
from omr_data.operators import explode, limits, rollout, verify
from omr_data.teachers import echo, openai_api


@dataclass(frozen=True)
class Limit(Spec):
    name: ClassVar[str] = "test.Limit"
    at_least: float
    tags: tuple[str, ...] = ()
    folder: Path = runtime_field(Path())


@dataclass(frozen=True)
class Holder(Spec):
    value: Any


def test_equal_fields_have_equal_fingerprints() -> None:
    assert fingerprint(Limit(28)) == fingerprint(Limit(28.0))


def test_every_identity_field_changes_the_fingerprint() -> None:
    assert (
        len(
            {
                fingerprint(spec)
                for spec in (Limit(28), Limit(29), Limit(28, ("a",)), Limit(28, ("b",)))
            }
        )
        == 4
    )


def test_a_place_does_not_change_the_fingerprint() -> None:
    assert fingerprint(Limit(28, folder=Path("/a"))) == fingerprint(Limit(28, folder=Path("/b")))


def test_a_bumped_revision_changes_the_fingerprint() -> None:
    @dataclass(frozen=True)
    class Bumped(Limit):
        name: ClassVar[str] = "test.Limit"
        revision: ClassVar[int] = 2

    assert fingerprint(Bumped(28)) != fingerprint(Limit(28))


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (lambda record: record, "Map, Filter or Expand"),
        ([1, 2], "tuple"),
        ({"a": 1}, "tuple of pairs"),
        (Path("x"), "omr_data.NOT_IDENTITY"),
        (float("nan"), "finite"),
        (Limit, "instance"),
        (b"bytes", r"identity\. Use plain values \(str, int"),
    ],
)
def test_a_value_without_identity_is_refused_at_construction_with_advice(
    value: object, advice: str
) -> None:
    with pytest.raises(IdentityError, match=advice) as caught:
        Holder(value)
    assert "Holder.value" in str(caught.value)


def test_an_open_file_is_refused_at_construction(tmp_path: Path) -> None:
    with (
        open(tmp_path / "x", "w") as stream,
        pytest.raises(IdentityError, match="open it where it is read"),
    ):
        Holder(stream)


def test_nested_specs_name_the_path_to_the_fault() -> None:
    with pytest.raises(IdentityError, match=r"Holder\.value\[1\]"):
        Holder((1, {2}))


def test_ranges_and_tuples_are_plain_data() -> None:
    assert canonical((range(2, 8), None, True)) == [{"range": [2, 8, 1]}, None, True]


GOLDEN = Path(__file__).parent / "golden" / "identity.json"
SPECS: dict[str, Spec] = {
    "a step with its defaults": limits.ImageSide(),
    "a step with a field": limits.ImageSide(at_least=56),
    "a nested teacher": rollout.Sample(echo.Teacher(), n=4),
    "a cascade of verifiers": verify.Gold(),
    "a teacher": openai_api.Teacher("tiny", temperature=0.5, extra_body='{"a": [1, null]}'),
    "a step without fields": explode.Right(),
}


@pytest.mark.parametrize("name", SPECS)
def test_fingerprints_never_change_between_versions(name: str) -> None:
    """A fingerprint that changes loses every cache and every paid answer of its users."""
    assert fingerprint(SPECS[name]) == json.loads(GOLDEN.read_bytes())[name]


def test_a_field_that_is_added_later_with_the_default_none_changes_no_fingerprint() -> None:
    @dataclass(frozen=True)
    class Later(limits.ImageSide):
        color: str | None = None

    before, later = canonical(limits.ImageSide()), canonical(Later())
    assert isinstance(before, dict)
    assert isinstance(later, dict)
    assert later["fields"] == before["fields"]
    with_value = canonical(Later(color="red"))
    assert isinstance(with_value, dict)
    assert with_value["fields"] != before["fields"]


def test_none_counts_where_it_is_not_the_default() -> None:
    @dataclass(frozen=True)
    class Warm(Spec):
        temperature: float | None = 1.0

    assert fingerprint(Warm(None)) != fingerprint(Warm())


@dataclass(frozen=True)
class Body(Spec):
    body: str | None = json_field(None)


def test_json_text_is_identified_by_what_it_says() -> None:
    one = fingerprint(Body('{"a":1,"b":[1.0,null]}'))
    assert one == fingerprint(Body('{ "b": [1, null],\n "a": 1.0 }'))
    assert one != fingerprint(Body('{"a":2,"b":[1,null]}'))
    assert fingerprint(Body('"1"')) != fingerprint(Body("1"))


@pytest.mark.parametrize(
    "text", ["{", "", '{"a": NaN}', '{"a": 1, "a": 2}', '"\\ud800"', "[" * 99_999]
)
def test_text_that_is_not_json_is_refused_where_json_is_declared(text: str) -> None:
    with pytest.raises(IdentityError, match=r"Body\.body"):
        Body(text)


def test_half_of_a_surrogate_pair_is_refused_with_its_place() -> None:
    with pytest.raises(
        IdentityError, match=r"Holder\.value\[0\] holds half of a surrogate pair.*character 2"
    ):
        Holder(("ab\ud83d",))


def test_an_enum_counts_as_its_value() -> None:
    class Color(enum.Enum):
        RED = "red"

    class Level(enum.IntEnum):
        LOW = 1

    assert canonical((Color.RED, Level.LOW)) == ["red", 1]


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


def plain(value: object) -> object:
    """The value with what counts as one thing made one: whole floats are integers."""
    if isinstance(value, tuple):
        return ("tuple", *(plain(item) for item in value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (type(value).__name__, value)


@given(values, values)
def test_canonical_forms_are_equal_exactly_when_the_values_are(one: object, other: object) -> None:
    equal = plain(one) == plain(other)
    assert (to_json(canonical(one)) == to_json(canonical(other))) == equal


@given(values)
def test_a_canonical_form_survives_json(value: object) -> None:
    text = to_json(canonical(value))
    assert to_json(json.loads(text)) == text


def test_canonical_json_has_no_number_that_json_has_not() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(float("nan"))
