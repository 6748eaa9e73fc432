"""The goals of style hold for every file that is not listed as still to mend.

Lines, directives, documented arguments and fields, and words are held file by file. Comments are
held over all files together, because a short file of plain declarations needs none. The density of
statements and of conditional expressions is printed by `make style`, and not held: a number that a
reader can argue with should not stop a commit.
"""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

from tests.style.measure import PACKAGE, ROOT, measure

TO_MEND: tuple[str, ...] = ()
"""Files and folders of the package that do not keep the goals yet. It may only become shorter."""

WORDS = {
    r"\blicen[c]e": "license",
    r"\boptimi[s]e|\bnormali[s]e|\brecogni[s]e|\bserial[i]se|\btokeni[s]e|\bsummari[s]e": "-ize",
    r"\bbehavi[o]ur|\bcol[o]ur|\bneighb[o]ur|\bfav[o]ur": "-or",
    r"\bcent[r]e\b": "center",
    # Alone in quotes, it is the name of a column of somebody's dataset.
    r"(?<!\")\bpictur[e]": "image",
    r"\bis n[o] (?!longer\b|more\b|less\b|such\b)": "is not a",
    r"\bso man[y]\b(?! \w+ that)": "how many, or the number",
}
"""Words that the glossary or American spelling replaces, with what to write."""

FILES = sorted(PACKAGE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_to_mend(path: Path) -> bool:
    name = relative(path)
    return any(name == one or name.startswith(f"{one}/") for one in TO_MEND)


KEPT = [path for path in FILES if not is_to_mend(path)]


@pytest.mark.parametrize("path", KEPT, ids=relative)
def test_lines_arguments_and_fields(path: Path) -> None:
    found = measure([path])
    assert not found.long_lines, f"lines over 100 columns: {found.long_lines}"
    assert not found.format_skips, f"the formatter is switched off: {found.format_skips}"
    assert not found.undocumented_arguments, (
        "public functions with three or more arguments describe them under `Args:`: "
        f"{found.undocumented_arguments}"
    )
    assert not found.undocumented_fields, (
        "each field of a dataclass has a docstring below it, and these have none: "
        f"{found.undocumented_fields}"
    )


@pytest.mark.parametrize("path", KEPT, ids=relative)
def test_one_word_for_one_idea_in_american_spelling(path: Path) -> None:
    wrong = [
        f"line {number}: {found[0]!r} (write {instead})"
        for number, text in prose(path.read_text(encoding="utf-8"))
        for pattern, instead in WORDS.items()
        if (found := re.search(pattern, text, re.IGNORECASE))
    ]
    assert not wrong, f"{relative(path)}: {wrong}"


@pytest.mark.parametrize("path", KEPT, ids=relative)
def test_every_module_and_every_public_class_and_function_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = [] if ast.get_docstring(tree) else ["the module"]
    bare += [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare, f"{relative(path)}: no docstring of {bare}"


@pytest.mark.build
def test_comments_say_why_often_enough() -> None:
    found = measure(KEPT)
    assert found.comments_per_100 >= 4
    assert found.long_with_comment >= 0.6


def test_few_private_functions_only_hide_a_name() -> None:
    assert measure(KEPT).called_once < 0.12


def test_what_is_still_to_mend_exists() -> None:
    gone = [name for name in TO_MEND if not (ROOT / name).exists()]
    assert not gone, f"these have moved or are gone; take them off the list: {gone}"


def prose(text: str) -> list[tuple[int, str]]:
    """Comments, docstrings and other strings, with their line numbers. Code is left out: a name
    such as Image.CENTRE belongs to somebody else."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    kinds = (tokenize.COMMENT, tokenize.STRING)
    return [(token.start[0], token.string) for token in tokens if token.type in kinds]


def test_the_measure_sees_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.style.measure.ROOT", tmp_path)
    bad = tmp_path / "bad.py"
    bad.write_text(
        '"""A module."""\n\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Part:\n'
        f"    start: int\n\n\ndef cut(one, two, three):\n    return [{'0, ' * 40}0]  # fmt: skip\n"
    )
    found = measure([bad])
    assert found.long_lines == ["bad.py:12"]
    assert found.format_skips == ["bad.py:12"]
    assert found.undocumented_arguments == ["bad.py:11 cut"]
    assert found.undocumented_fields == ["bad.py:Part.start"]
    assert (found.comments, found.conditional_expressions) == (0, 0)
    assert prose("x = 1  # the licen" + "ce\n")[0][1] == "# the licen" + "ce"
