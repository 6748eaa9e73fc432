"""Switches promises off one by one, to see which tests notice: python -m tests.mutants.faults."""

import ast
import os
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.mutants import trial
from tests.mutants.__main__ import copy_repository

FAULTS = Path(__file__).parent / "faults.toml"


def broken(text: str, fault: Mapping[str, str]) -> str | None:
    """Returns the source with the fault, or None where what it names is not there any more.

    Args:
        text: The source of the file.
        fault: One entry of faults.toml.
    """
    if "before" in fault:
        return text.replace(fault["before"], fault["after"]) if fault["before"] in text else None
    owner, _, name = fault["function"].rpartition(".")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and node.name == owner:
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == name:
                    return _with_body(text, member, fault["body"])
    return None


def _with_body(text: str, function: ast.FunctionDef, body: str) -> str:
    lines = text.splitlines(keepends=True)
    first, last = function.body[0].lineno - 1, function.end_lineno
    indent = " " * function.body[0].col_offset
    lines[first:last] = [textwrap.indent(body, indent) + "\n"]
    return "".join(lines)


def main() -> None:
    """Tries every fault, or those whose description holds all words given."""
    listed = tomllib.loads(FAULTS.read_text(encoding="utf-8"))["fault"]
    words = sys.argv[1:]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="omr-faults-") as folder:
        copy = copy_repository(Path(folder) / "copy")
        for fault in listed:
            if not all(word in fault["what"] for word in words):
                continue
            result = _try(copy, fault)
            missed += result != "caught"
            print(f"{result:<12} {fault['what']}", flush=True)
    raise SystemExit(1 if missed else 0)


def _try(copy: Path, fault: Mapping[str, str]) -> str:
    file = copy / fault["file"]
    original = file.read_text(encoding="utf-8") if file.is_file() else ""
    text = broken(original, fault)
    if text is None:
        return "STALE"
    tests = [path for path in fault["tests"] if (copy / path).exists()]
    if not tests:
        return "NO TESTS"
    file.write_text(text, encoding="utf-8")
    try:
        child = trial.start(copy, tests)
        _, status = os.waitpid(child, 0)
        trial.stop(child)
    finally:
        file.write_text(original, encoding="utf-8")
    # 4 and 5 are pytest's codes for arguments without tests: nothing has been caught then.
    return "NOT CAUGHT" if os.waitstatus_to_exitcode(status) in (0, 4, 5) else "caught"


if __name__ == "__main__":
    main()
