"""What a thing is, apart from how it runs.

**Spec**: a frozen dataclass whose identity is its name, its hand-bumped `revision` and its declared fields.
**NOT_IDENTITY**: marks a field that says where or how fast (a folder, a URL, a price), and is not part of identity:
`concurrency: int = runtime_field(256)`.
**fingerprint**: the sha256 of a Spec's canonical JSON. Code, module paths, hardware and time never enter it, so moving
code keeps every cache, and changing what a step does needs a bump of its `revision` (golden step outputs catch a forgotten one).

Values with a stable identity: None, bool, int, finite float, str, tuple, range, Enum and Spec. Anything else is refused
when the Spec is constructed, and the message says what to use instead.
"""

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, ClassVar

from omr_data.errors import IdentityError

Canonical = None | bool | int | float | str | list["Canonical"] | dict[str, "Canonical"]

NOT_IDENTITY: Mapping[str, object] = MappingProxyType({"omr_data.not_identity": True})
"""Metadata of a dataclass field that says where or how fast, and not what."""


def runtime_field(default: Any) -> Any:
    """Declares a field that is not part of identity: a folder, a URL, a price, a limit.

    Two Specs that differ only in such fields share a fingerprint, so their cached results and paid
    answers are shared too. Use it for what may change between two runs of one recipe.

    Args:
        default: The value of the field where none is given. A field without a default is written
            `field(metadata=NOT_IDENTITY)`.
    """
    return dataclasses.field(default=default, metadata=NOT_IDENTITY)


@dataclass(frozen=True)
class Spec:
    """Base of everything that is declared: steps, sources, teachers, verifiers.

    A subclass is a frozen dataclass. `name` defaults to "module.Class" by their last words (rollout.Sample);
    set it explicitly to keep identity when a class moves. Bump `revision` whenever behavior changes.
    """

    name: ClassVar[str] = "identity.Spec"
    revision: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = f"{cls.__module__.rpartition('.')[2]}.{cls.__qualname__}"

    def __post_init__(self) -> None:
        canonical(self)


def identity_fields(spec: Spec) -> dict[str, Any]:
    """The declared fields that count, by name, in order of declaration."""
    return {
        f.name: getattr(spec, f.name)
        for f in dataclasses.fields(spec)
        if not NOT_IDENTITY.items() <= f.metadata.items()
    }


def canonical(value: object, where: str = "") -> Canonical:
    """The value as JSON-able data that is equal exactly when the identity is equal.

    A float with a whole value counts as the integer (temperature 1 and 1.0 are one thing).

    Raises:
        IdentityError: the value has no stable identity; the message names the field and what to use instead.
    """
    match value:
        case None | bool() | str():
            return value.value if isinstance(value, enum.Enum) else value
        case enum.Enum():
            return canonical(value.value, where)
        case int():
            return value
        case float():
            if not math.isfinite(value):
                raise IdentityError(
                    f"{where or 'value'} is {value}: JSON has no such number. Use None or a finite number."
                )
            return int(value) if value.is_integer() else value
        case range():
            return {"range": [value.start, value.stop, value.step]}
        case tuple():
            return [canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
        case Spec():
            label = where or value.name
            fields = {
                key: canonical(item, f"{label}.{key}")
                for key, item in identity_fields(value).items()
            }
            return {"spec": value.name, "revision": value.revision, "fields": fields}
    raise IdentityError(
        f"{where or 'value'} holds a {type(value).__qualname__}, which has no stable identity. {_instead(value)}"
    )


def _instead(value: object) -> str:
    match value:
        case list() | set() | frozenset():
            return "Use a tuple."
        case Mapping():
            return (
                "Use a tuple of pairs, or a Spec (a frozen dataclass derived from omr_data.Spec)."
            )
        case PurePath():
            return "A path says where, not what: declare the field as `field(metadata=omr_data.NOT_IDENTITY)`."
        case type():
            return "Use an instance of it that derives from omr_data.Spec."
    if callable(value):
        return "Write it as a method of a Map, Filter or Expand step class (with a name and a revision) and put the step here."
    if hasattr(value, "read"):
        return "Pass the path in a `field(metadata=omr_data.NOT_IDENTITY)`, and open it where it is read."
    return "Use plain values (str, int, float, tuple, range) or a frozen dataclass derived from omr_data.Spec."


def to_json(value: Canonical) -> str:
    """Canonical JSON: sorted keys, no spaces, UTF-8 as is."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Canonical) -> str:
    """sha256 of the canonical JSON, as 64 hex digits."""
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def fingerprint(spec: Spec) -> str:
    """The identity of one Spec on its own, as 64 hex digits."""
    return digest(canonical(spec))
