"""Identity: what a thing is, apart from how and where it runs.

**Spec**: a frozen dataclass whose identity is its name, its revision and its declared fields.
**NOT_IDENTITY**: marks a field that says where or how fast (a folder, a URL, a price):
`concurrency: int = runtime_field(256)`.
**fingerprint**: the sha256 of a Spec's canonical JSON.

Code, module paths, hardware and time are not part of a fingerprint. Moving code of this package
keeps every cache, and changing what a step does needs a bump of its `revision`; golden step outputs
fail when a bump was forgotten. A class that is defined elsewhere, such as in a recipe, carries the
digest of its source instead (see `omr_data.syntax`).

**A new field never changes an existing fingerprint**: a field whose default is None is left out of
the canonical form while it is None. So a field that is added later must have the default None.

Values with a stable identity: None, bool, int, finite float, str, tuple, range, Enum and Spec.
Anything else is refused when the Spec is constructed, and the message says what to use instead.
"""

import dataclasses
import enum
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar

from omr_data.errors import IdentityError
from omr_data.syntax import PACKAGE, code_digest

Canonical = None | bool | int | float | str | list["Canonical"] | dict[str, "Canonical"]
"""Data that JSON can hold."""

NOT_IDENTITY: Mapping[str, object] = MappingProxyType({"omr_data.not_identity": True})
"""Metadata of a dataclass field that says where or how fast, and not what."""
JSON_TEXT: Mapping[str, object] = MappingProxyType({"omr_data.json_text": True})
"""Metadata of a dataclass field that holds JSON as text."""


def runtime_field(default: Any) -> Any:
    """Declares a field that is not part of identity: a folder, a URL, a price, a limit.

    Two Specs that differ only in such fields share a fingerprint, so their cached results and paid
    answers are shared too. Use it for what may change between two runs of one recipe.

    Args:
        default: The value of the field where none is given. A field without a default is written
            `field(metadata=NOT_IDENTITY)`.
    """
    return dataclasses.field(default=default, metadata=NOT_IDENTITY)


def json_field(default: str | None) -> Any:
    """Declares a field that holds JSON as text. Its identity is what the text says.

    The layout of the text, the order of its keys and 1.0 for 1 do not count. The constructor
    refuses text that is not JSON.

    Args:
        default: The text where none is given.
    """
    return dataclasses.field(default=default, metadata=JSON_TEXT)


@dataclass(frozen=True)
class Spec:
    """Base of everything that is declared: steps, sources, teachers, verifiers.

    A subclass is a frozen dataclass.
    """

    name: ClassVar[str] = "identity.Spec"
    """How the class is called in plans. The default is "module.Class" by their last words
    (rollout.Sample), or "Class" outside this package. Set it to keep identity when a class
    moves."""
    revision: ClassVar[int] = 1
    """Raise it whenever the behavior of the class changes."""
    _defined_in: ClassVar[ModuleType | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Kept now: a recipe that is loaded again replaces the module of its earlier classes.
        cls._defined_in = sys.modules.get(cls.__module__)
        if "name" not in cls.__dict__:
            prefix = f"{cls.__module__.rpartition('.')[2]}." if _is_ours(cls) else ""
            cls.name = prefix + cls.__name__

    def __post_init__(self) -> None:
        canonical(self)


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == PACKAGE


_CODES: dict[type, str] = {}
"""Digests that are worked out already. A class never changes, and reading its source takes a
while."""


def identity_fields(spec: Spec) -> dict[str, Any]:
    """Returns the declared fields that are part of identity, in order of declaration."""
    # Declared fields only: what __post_init__ works out follows from them.
    return {
        field.name: getattr(spec, field.name)
        for field in dataclasses.fields(spec)
        if not NOT_IDENTITY.items() <= field.metadata.items()
    }


def canonical(value: object, where: str = "") -> Canonical:
    """Returns a value as JSON data that is equal exactly when the identity is equal.

    A float with a whole value counts as the integer: temperature 1 and 1.0 are one thing.

    Args:
        value: A value with a stable identity.
        where: What the value is called in a message, such as "rollout.Sample.n".

    Raises:
        IdentityError: The value has no stable identity. The message says what to use instead.
    """
    match value:
        # Before str and int: a StrEnum or IntEnum is one of those as well.
        case enum.Enum():
            return canonical(value.value, where)
        case str():
            return _storable(value, where)
        case None | bool() | int():
            return value
        case float():
            return _number(value, where)
        # An object and not a list: a tuple of the same three numbers is another value.
        case range():
            return {"range": [value.start, value.stop, value.step]}
        case tuple():
            return [canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
        case Spec():
            return canonical_spec(value, where or value.name)
    raise IdentityError(
        f"{where or 'value'} holds a {type(value).__qualname__}, which has no stable identity. "
        f"{what_to_use_instead(value)}"
    )


def canonical_spec(spec: Spec, where: str) -> Canonical:
    """Returns a Spec as JSON data: its name, its revision and its fields. Raises IdentityError."""
    declared = {field.name: field for field in dataclasses.fields(spec)}
    fields: dict[str, Canonical] = {}
    for name, value in identity_fields(spec).items():
        if value is None and declared[name].default is None:
            continue  # see "A new field" in the docstring of this module
        if isinstance(value, str) and JSON_TEXT.items() <= declared[name].metadata.items():
            fields[name] = canonical_json(value, f"{where}.{name}")
        else:
            fields[name] = canonical(value, f"{where}.{name}")
    found: dict[str, Canonical] = {
        "spec": spec.name,
        "revision": spec.revision,
        "fields": fields,
    }
    # Only outside the package: inside it, refactoring must keep every cache.
    cls = type(spec)
    if not _is_ours(cls):
        if cls not in _CODES:
            _CODES[cls] = code_digest(cls, cls._defined_in)
        found["code"] = _CODES[cls]
    return found


def canonical_json(text: str, where: str) -> str:
    """Returns the canonical form of JSON text. Raises IdentityError for text that is not JSON."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # Readers disagree about which of two equal keys counts.
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("an object has one key twice")
        return dict(pairs)

    try:
        parsed = json.loads(text, object_pairs_hook=unique)
        return to_json(_whole_numbers(parsed, where))
    except (ValueError, RecursionError) as error:
        raise IdentityError(
            f"{where} must be JSON text, and {text[:100]!r} is not: {error}."
        ) from error


def _whole_numbers(value: Any, where: str) -> Canonical:
    match value:
        case float():
            return _number(value, where)
        case str():
            return _storable(value, where)
        case list():
            return [_whole_numbers(item, where) for item in value]
        # Keys too: half of a surrogate pair in one could not be hashed.
        case dict():
            return {_storable(key, where): _whole_numbers(value[key], where) for key in value}
    return value  # type: ignore[no-any-return]


def _number(value: float, where: str) -> int | float:
    if not math.isfinite(value):
        raise IdentityError(
            f"{where or 'value'} is {value}: JSON has no such number. Use None or a finite number."
        )
    # People write temperature=1 and 1.0 and mean the same request.
    return int(value) if value.is_integer() else value


def _storable(text: str, where: str) -> str:
    """The text, as a plain str, if it has a UTF-8 form."""
    try:
        text.encode()
    # Found when the Spec is made, where the traceback points at the recipe's line.
    except UnicodeEncodeError as error:
        raise IdentityError(
            f"{where or 'value'} holds half of a surrogate pair ({text[error.start]!r} at "
            f"character {error.start}), which cannot be stored. Remove it."
        ) from error
    return str(text)


def what_to_use_instead(value: object) -> str:
    """Returns advice for a value that has no identity."""
    # Kinds that recipes were seen to hold. A general message would leave people guessing.
    match value:
        case list() | set() | frozenset():
            return "Use a tuple."
        case Mapping():
            return (
                "Use a tuple of pairs, or a Spec (a frozen dataclass derived from omr_data.Spec)."
            )
        case PurePath():
            return (
                "A path says where, not what: declare the field as "
                "`field(metadata=omr_data.NOT_IDENTITY)`."
            )
        case type():
            return "Use an instance of it that derives from omr_data.Spec."
    if callable(value):
        return (
            "Write it as a method of a Map, Filter or Expand step class (with a name and a "
            "revision) and put the step here."
        )
    if hasattr(value, "read"):
        return (
            "Pass the path in a `field(metadata=omr_data.NOT_IDENTITY)`, and open it where it is "
            "read."
        )
    return (
        "Use plain values (str, int, float, tuple, range) or a frozen dataclass derived from "
        "omr_data.Spec."
    )


def to_json(value: Canonical) -> str:
    """Returns canonical JSON: sorted keys, no spaces, UTF-8 as it is."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Canonical) -> str:
    """Returns the sha256 of the canonical JSON, as 64 hex digits."""
    # All 256 bits: keys outlive recipes, and a collision would hand out another question's answer.
    return hashlib.sha256(to_json(value).encode()).hexdigest()


def fingerprint(spec: Spec) -> str:
    """Returns the identity of one Spec on its own, as 64 hex digits."""
    return digest(canonical(spec))
