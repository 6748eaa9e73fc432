"""Identity is what the data is: declared fields and revision, never places, code or number formats."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from omr_data.errors import IdentityError
from omr_data.identity import Spec, canonical, fingerprint, runtime_field


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


def test_the_fingerprint_never_changes_between_versions() -> None:
    assert (
        fingerprint(Limit(0.5, ("a",)))
        == "91d6f4b654486b1fb95c219b68ec4c4e8ba356442db53b4014aef6cfa6f54bd9"
    )


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (lambda record: record, "Map, Filter or Expand"),
        ([1, 2], "tuple"),
        ({"a": 1}, "tuple of pairs"),
        (Path("x"), "omr_data.NOT_IDENTITY"),
        (float("nan"), "finite"),
        (Limit, "instance"),
    ],
)
def test_a_value_without_identity_is_refused_at_construction_with_advice(
    value: object, advice: str
) -> None:
    with pytest.raises(IdentityError, match=advice) as caught:
        Holder(value)
    assert "test_identity.Holder.value" in str(caught.value)


def test_an_open_file_is_refused_at_construction(tmp_path: Path) -> None:
    with (
        open(tmp_path / "x", "w") as stream,
        pytest.raises(IdentityError, match="open it where it is read"),
    ):
        Holder(stream)


def test_nested_specs_name_the_path_to_the_fault() -> None:
    with pytest.raises(IdentityError, match=r"test_identity\.Holder\.value\[1\]"):
        Holder((1, {2}))


def test_ranges_and_tuples_are_plain_data() -> None:
    assert canonical((range(2, 8), None, True)) == [{"range": [2, 8, 1]}, None, True]
