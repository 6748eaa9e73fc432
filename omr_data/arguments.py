"""Arguments from the command line, read by the types that the code declares: `--set n=12`."""

import difflib
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from omr_data.errors import OmrError

_READERS: dict[Any, Callable[[str], Any]] = {
    int: lambda text: int(text.replace("_", "")),
    float: float,
    str: str,
    bool: {"true": True, "false": False}.__getitem__,
    Path: Path,
}


def pairs(arguments: Sequence[str] | None, error: type[OmrError]) -> dict[str, str]:
    """Returns NAME=VALUE texts as a mapping.

    Args:
        arguments: The texts.
        error: What is raised for a text without an equals sign: each caller has its own kind.
    """
    found = {}
    for argument in arguments or ():
        # Values may hold equals signs of their own, as addresses do.
        name, equals, value = argument.partition("=")
        if not equals:
            raise error(
                f"--set takes NAME=VALUE, and got {argument!r}. "
                "Write for example --set rollouts=12."
            )
        found[name] = value
    return found


def read_values(
    where: str, declared: Mapping[str, Any], given: Mapping[str, str], error: type[OmrError]
) -> dict[str, Any]:
    """Returns the given values, by the declared types.

    Types may be int, float, str, bool, Path, one of some words (Literal), several values (tuple,
    written with commas), or None, written as `none`.

    Args:
        where: What the arguments are for, to begin a message with.
        declared: The type of each argument.
        given: The text of each argument that was given.
        error: What is raised for a name that is not declared, or a value of another type.
    """
    values = {}
    for name, text in given.items():
        if name not in declared:
            # Most wrong names are slips of one letter.
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f"It has {', '.join(declared) or 'none'}."
            if near:
                hint = f"Did you mean {near[0]}?"
            raise error(f"{where} has no argument {name!r}. {hint}")
        try:
            values[name] = _read(declared[name], text)
        except (ValueError, KeyError) as fault:
            kind = declared[name]
            # The origin of a plain class is None; only plain classes have a short name.
            shown = str(kind)
            if get_origin(kind) is Literal:
                shown = " or ".join(map(str, get_args(kind)))
            elif get_origin(kind) is None:
                shown = str(getattr(kind, "__name__", kind))
            raise error(f"{where}: {name}={text!r} cannot be read as {shown}.") from fault
        except TypeError as fault:
            raise error(
                f"{where}: the argument {name} has type {declared[name]!r}, which cannot be "
                "given on the command line."
            ) from fault
    return values


def _read(kind: Any, text: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        # Only "X or None" is read: of two types, a text may fit both.
        kinds = [one for one in get_args(kind) if one is not type(None)]
        if len(kinds) != 1:
            raise TypeError
        if text == "none":
            return None
        return _read(kinds[0], text)
    if get_origin(kind) is Literal:
        return {str(one): one for one in get_args(kind)}[text]
    # An empty part is dropped, so that an empty text gives an empty tuple.
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], part) for part in text.split(",") if part)
    if kind not in _READERS:
        raise TypeError
    return _READERS[kind](text)
