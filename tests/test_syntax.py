"""Code outside the package is identified by what it does: its syntax tree, and all that it uses."""

import importlib
import json
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omr_data import Filter, Record
from omr_data.errors import IdentityError
from omr_data.identity import Spec, canonical, fingerprint
from omr_data.recipe import load_module

HEAD = """
from dataclasses import dataclass
from omr_data import Filter, Record
"""
WORDS = """
@dataclass(frozen=True)
class Words(Filter):
    at_most: int = 3
    def reason(self, record: Record) -> str | None:
        return None if len(record.question.split()) <= self.at_most else "long"
"""


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which modules can be imported, as from a recipe's own folder on PYTHONPATH."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def code(folder: Path, text: str, name: str = "mine.py", cls: str = "Words") -> str:
    """The fingerprint of a class with its defaults, from a file of this text."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    return fingerprint(getattr(load_module(path), cls)())


def test_two_files_of_one_name_with_classes_of_opposite_meaning_are_told_apart(
    tmp_path: Path,
) -> None:
    opposite = WORDS.replace("<=", ">")
    assert code(tmp_path / "a", HEAD + WORDS) != code(tmp_path / "b", HEAD + opposite)


def test_editing_a_class_changes_its_fingerprint_in_one_process(tmp_path: Path) -> None:
    before = code(tmp_path, HEAD + WORDS)
    assert code(tmp_path, HEAD + WORDS.replace('"long"', '"too long"')) != before
    assert code(tmp_path, HEAD + WORDS) == before


def test_a_class_that_was_loaded_keeps_its_identity_when_its_file_is_edited(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(HEAD + WORDS, encoding="utf-8")
    old = load_module(path).Words
    path.write_text(HEAD + WORDS.replace("<=", ">"), encoding="utf-8")
    new = load_module(path).Words
    assert fingerprint(new()) != fingerprint(old())


SAME = {
    "a comment": HEAD + "# Short ones.\n" + WORDS,
    "layout": HEAD + WORDS.replace(" <= ", "  <=  ").replace("= 3", "=(3)"),
    "quotes": HEAD + WORDS.replace('"long"', "'long'"),
    "other definitions": HEAD + "LIMIT = 3\ndef helper(): return 1\n" + WORDS,
    "another place": HEAD + WORDS + "\nclass Other: pass\n",
    "an import it does not use": HEAD + "import json\n" + WORDS,
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_what_changes_nothing_changes_no_fingerprint(tmp_path: Path, text: str) -> None:
    assert code(tmp_path, text) == code(tmp_path, HEAD + WORDS)


def test_the_name_and_place_of_the_file_are_not_part_of_the_identity(tmp_path: Path) -> None:
    names = ("mine.py", "other/place.py", "ünïcode.py")
    assert len({code(tmp_path, HEAD + WORDS, name) for name in names}) == 1


def test_moving_the_class_to_a_module_of_its_own_changes_nothing(beside: Path) -> None:
    inline = code(beside, HEAD + WORDS)
    (beside / "shared_words.py").write_text(HEAD + WORDS, encoding="utf-8")
    assert code(beside, "from shared_words import Words\n", "user.py") == inline


USING = {
    "a function": ("def split(text): return text.split()", ".split(' ')"),
    "a constant": ("WORDS = ['a', 'b']\ndef split(text): return WORDS", "'b', 'c'"),
    "a class": ("class Splitter:\n    n = 1\nsplit = Splitter", "n = 2"),
    "a default": ("N = 1\ndef split(text, n=N): return n", "N = 2"),
    "a base class": ("class Base: n = 1\nclass split(Base): pass", "n = 2"),
    "a decorator": ("def wrap(f): return f\n@wrap\ndef split(text): return text", "return None"),
    "a lambda": ("split = lambda text: text.split()", ".split(' ')"),
    "a mutated list": ("W = []\nW.append('a')\ndef split(text): return W", "append('b')"),
    "a filled table": ("T = {}\nT['a'] = 1\ndef split(text): return T", "['a'] = 2"),
    "a loop": ("T = {}\nfor n in (1, 2):\n    T[n] = n\nsplit = T.get", "(1, 3)"),
    "a condition": ("if True:\n    def split(t): return 1\nelse:\n    split = None", "if False:"),
    "an augmented name": ("N = 1\nN += 1\ndef split(text): return N", "N += 2"),
    "an f-string": ("A = 1\ndef split(text): return f'{A}:{text!r}'", "A = 2"),
    "a comprehension": ("A = [1]\ndef split(text): return [x for x in A]", "A = [2]"),
    "a walrus": ("A = 1\ndef split(text): return (n := A)", "A = 2"),
    "recursion": ("def one(t): return split(t)\ndef split(t): return one(t) or 1", "or 2"),
}


def changed(text: str, edit: str) -> str:
    """The text with one edit: what most resembles it is replaced by it."""
    replaced = {
        ".split(' ')": ".split()",
        "'b', 'c'": "'a', 'b'",
        "n = 2": "n = 1",
        "N = 2": "N = 1",
        "return None": "return f\n",
        "append('b')": "append('a')",
        "['a'] = 2": "['a'] = 1",
        "(1, 3)": "(1, 2)",
        "if False:": "if True:",
        "N += 2": "N += 1",
        "A = 2": "A = 1",
        "A = [2]": "A = [1]",
        "or 2": "or 1",
    }[edit]
    assert replaced in text
    return text.replace(replaced, edit + ("\n" if replaced.endswith("\n") else ""), 1)


USER = WORDS.replace("record.question.split()", "split(record.question)")


@pytest.mark.parametrize(("helper", "edit"), USING.values(), ids=USING)
def test_a_change_in_what_the_class_uses_changes_it(tmp_path: Path, helper: str, edit: str) -> None:
    before = code(tmp_path, f"{HEAD}{helper}\n{USER}")
    assert code(tmp_path, f"{HEAD}{changed(helper, edit)}\n{USER}") != before
    assert code(tmp_path, f"{HEAD}{helper}\nUNUSED = 1\n{USER}") == before


IMPORTS = {
    "from": ("from helpers_a import split", "split"),
    "as": ("from helpers_a import split as cut", "cut"),
    "module": ("import helpers_a", "helpers_a.split"),
    "star": ("from helpers_a import *", "split"),
    "try": (
        "try:\n    from helpers_a import split\nexcept ImportError:\n    split = None",
        "split",
    ),
    "package": ("import kit.parts", "kit.parts.split"),
    "submodule": ("from kit import parts", "parts.split"),
    "re-exported": ("from kit import split", "split"),
}


@pytest.mark.parametrize(("statement", "call"), IMPORTS.values(), ids=IMPORTS)
def test_helpers_in_other_files_are_followed(beside: Path, statement: str, call: str) -> None:
    def write(body: str) -> str:
        for name in [name for name in sys.modules if name.split(".")[0] in ("helpers_a", "kit")]:
            del sys.modules[name]
        helper = f"SIZE = 1\ndef split(text):\n    return {body}\n"
        (beside / "kit").mkdir(exist_ok=True)
        (beside / "helpers_a.py").write_text(helper, encoding="utf-8")
        (beside / "kit" / "parts.py").write_text(helper, encoding="utf-8")
        (beside / "kit" / "__init__.py").write_text("from .parts import split\n", encoding="utf-8")
        user = WORDS.replace("record.question.split()", f"{call}(record.question)")
        # Other lengths each time: compiled files are told apart by time in seconds and size.
        return code(beside, f"{HEAD}{statement}\n{user}")

    before = write("text.split()")
    assert write("text.split(' ', SIZE)") != before
    assert write("text.split()  # the same") == before


def test_an_import_inside_a_method_is_followed(beside: Path) -> None:
    inside = WORDS.replace(
        "        return", "        from helpers_b import split\n        return", 1
    ).replace("record.question.split()", "split(record.question)")
    (beside / "helpers_b.py").write_text("def split(t): return t.split()\n", encoding="utf-8")
    before = code(beside, HEAD + inside)
    sys.modules.pop("helpers_b", None)
    (beside / "helpers_b.py").write_text("def split(t): return list(t)\n", encoding="utf-8")
    assert code(beside, HEAD + inside) != before


def test_what_a_helper_module_holds_besides_does_not_count(beside: Path) -> None:
    user = "import helpers_c\n" + WORDS.replace("record.question.split()", "helpers_c.split(1)")
    (beside / "helpers_c.py").write_text("def split(t): return 1\n", encoding="utf-8")
    before = code(beside, HEAD + user)
    sys.modules.pop("helpers_c", None)
    (beside / "helpers_c.py").write_text("X = 1\n\ndef split(t): return 1\n", encoding="utf-8")
    assert code(beside, HEAD + user) == before


def test_swapping_two_helpers_of_one_name_is_noticed(beside: Path) -> None:
    (beside / "h1.py").write_text("def split(t): return 1\n", encoding="utf-8")
    (beside / "h2.py").write_text("def split(t): return 2\n", encoding="utf-8")
    user = WORDS.replace("record.question.split()", "(a(1), b(1))")
    straight = "from h1 import split as a\nfrom h2 import split as b\n"
    crossed = "from h2 import split as a\nfrom h1 import split as b\n"
    assert code(beside, HEAD + straight + user) != code(beside, HEAD + crossed + user)


def test_two_modules_that_import_a_name_from_each_other_end(beside: Path) -> None:
    (beside / "c1.py").write_text("def f(): pass\n", encoding="utf-8")
    (beside / "c2.py").write_text("from c1 import f\n", encoding="utf-8")
    importlib.import_module("c2")
    sys.modules["c1"].__dict__["__omr_source__"] = "from c2 import f\n"
    user = WORDS.replace("record.question.split()", "f()")
    assert code(beside, HEAD + "from c2 import f\n" + user)


def test_names_of_installed_packages_count_with_their_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omr_data import syntax

    text = HEAD + "import numpy as np\n" + WORDS.replace("len(", "np.size(")
    before = code(tmp_path, text)
    monkeypatch.setattr(syntax, "distribution_of", lambda top: (top, "99.0"))
    assert code(tmp_path, text) != before
    # One that the class does not use does not count.
    unused = HEAD + "import numpy as np\n" + WORDS
    assert code(tmp_path, unused) == code(tmp_path, HEAD + WORDS)


def test_one_import_for_another_is_noticed(tmp_path: Path) -> None:
    user = WORDS.replace("len(", "size(")
    one = code(tmp_path, HEAD + "from math import floor as size\n" + user)
    other = code(tmp_path, HEAD + "from math import ceil as size\n" + user)
    third = code(tmp_path, HEAD + "from numpy import ceil as size\n" + user)
    assert len({one, other, third}) == 3


def test_a_parameter_of_the_same_name_as_a_global_does_not_use_it(tmp_path: Path) -> None:
    local = WORDS.replace("(self, record: Record)", "(self, record: Record, limit: int = 1)")
    user = local.replace("self.at_most else", "limit else")
    before = code(tmp_path, f"{HEAD}limit = 1\n{user}")
    assert code(tmp_path, f"{HEAD}limit = 2\n{user}") == before


def test_a_class_without_source_says_to_put_it_into_a_file() -> None:
    scope: dict[str, object] = {"__name__": "prompt"}
    exec(HEAD + WORDS, scope)
    with pytest.raises(IdentityError, match="Put the class into a file"):
        scope["Words"]()  # type: ignore[operator]


def test_a_class_made_at_run_time_is_refused() -> None:
    made = dataclass(frozen=True)(type("Made", (Spec,), {"__module__": __name__}))
    with pytest.raises(IdentityError, match="Write it as a class statement in a file"):
        made()


def make(limit: int) -> type[Spec]:
    @dataclass(frozen=True)
    class Local(Spec):
        def limit(self) -> int:
            return limit

    return Local


def make_through_helper(limit: int) -> type[Spec]:
    def helper() -> int:
        return limit

    @dataclass(frozen=True)
    class Local(Spec):
        def limit(self) -> int:
            return helper()

    return Local


@pytest.mark.parametrize("maker", [make, make_through_helper])
def test_a_class_that_takes_variables_of_a_function_is_refused(maker: object) -> None:
    with pytest.raises(IdentityError, match="'limit', a variable of the function around it"):
        maker(3)()  # type: ignore[operator]


def test_a_local_class_that_takes_none_is_identified_like_any_other() -> None:
    @dataclass(frozen=True)
    class Short(Filter):
        def reason(self, record: Record) -> str | None:
            return None

    assert canonical(Short())["code"]  # type: ignore[index, call-overload]


ATOMS = ("1", "2", "'a'", "None", "x", "y", "x.real", "[x]", "{x: y}", "{**x}", "f'{x}'", "f'{x}a'")
expressions = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.tuples(inner, st.sampled_from((" + ", " - ", " or ", ", ")), inner).map(
        lambda parts: f"({''.join(parts)})"
    ),
    max_leaves=4,
)


@given(expressions, expressions)
def test_classes_share_a_fingerprint_exactly_when_their_trees_are_equal(
    tmp_path_factory: pytest.TempPathFactory, one: str, other: str
) -> None:
    import ast

    folder = tmp_path_factory.mktemp("code")
    text = (
        "from dataclasses import dataclass\nfrom omr_data.identity import Spec\n"
        + textwrap.dedent(
            """
        @dataclass(frozen=True)
        class Words(Spec):
            def value(self, x, y):
                return {}
        """
        )
    )
    same = ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
    first = code(folder, text.replace("{}", one, 1), "a.py")
    second = code(folder, "# moved\n\n" + text.replace("{}", other, 1), "b.py")
    assert (first == second) == same


GOLDEN = Path(__file__).parent / "golden" / "syntax.json"


def test_every_python_version_gives_the_same_digests(tmp_path: Path) -> None:
    """The golden digests are of source with every statement, and hold for Python 3.11 to 3.14."""
    text = (Path(__file__).parent / "fixtures" / "every_statement.py").read_text(encoding="utf-8")
    found = {
        "Everything": code(tmp_path, text, cls="Everything"),
        "Words": code(tmp_path, HEAD + WORDS),
    }
    assert found == json.loads(GOLDEN.read_bytes())
