"""Makes the mutants of a file: mutmut's changes, written into the source one at a time."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.mutators import mutation_operators


@dataclass(frozen=True, slots=True)
class Mutant:
    """One file with one change."""

    path: str
    """The changed file, relative to the repository."""
    number: int
    """Its position among the mutants of its file, from 0."""
    first_line: int
    """The first line of the statement that holds the change, from 1."""
    last_line: int
    """The last line of that statement."""
    source: str
    """The whole text of the file, with the change."""
    diff: str
    """What changed, as a unified diff."""

    @property
    def changed(self) -> tuple[str, str]:
        """The lines before and after, without indentation, by which an equivalent is known."""
        lines = self.diff.splitlines()[2:]
        before = "\n".join(line[1:].strip() for line in lines if line.startswith("-"))
        after = "\n".join(line[1:].strip() for line in lines if line.startswith("+"))
        return before, after


def mutants(root: Path, path: str) -> Iterator[Mutant]:
    """Yields every mutant of one file, in the order of the source.

    Args:
        root: The repository.
        path: The file, relative to it.
    """
    text = (root / path).read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(text))
    visitor = _Visitor()
    wrapper.visit(visitor)
    seen = {text}
    number = 0
    for node, replacement, lines in visitor.found:
        source = wrapper.module.deep_replace(node, replacement).code
        # Two operators can make one text: dropping the only argument, and replacing it.
        if source in seen or not _compiles(source):
            continue
        seen.add(source)
        yield Mutant(path, number, lines[0], lines[1], source, _diff(path, text, source))
        number += 1


class _Visitor(cst.CSTVisitor):
    """Collects (node, replacement, lines of the statement) for every change.

    Left out are changes that a test should not notice:
    - annotations, type aliases and imports for type checking, which run nothing;
    - the words of error messages: a test names the kind of error and a telling part of its message,
      and a test that repeats every word of every message would only stand in the way;
    - `strict` of zip, and assertions, which are checks themselves;
    - the change of case of a string beside the change of its text: one change a string is enough.
    """

    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[cst.CSTNode, cst.CSTNode, tuple[int, int]]] = []
        self._statements: list[cst.CSTNode] = []
        self._raising = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        if self._runs_nothing(node):
            return False
        if isinstance(node, cst.BaseSmallStatement | cst.BaseCompoundStatement | cst.ExceptHandler):
            self._statements.append(node)
        self._raising += isinstance(node, cst.Raise)
        self._collect(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self._raising -= isinstance(original_node, cst.Raise)
        if self._statements and self._statements[-1] is original_node:
            self._statements.pop()

    def _collect(self, node: cst.CSTNode) -> None:
        is_text = isinstance(node, cst.BaseString)
        if is_text and self._raising:
            return
        for kind, operator in mutation_operators:
            if not isinstance(node, kind):
                continue
            for replacement in operator(node):
                if not _only_unsets_strict(node, replacement):
                    self.found.append((node, replacement, self._lines(node)))
                if is_text:
                    break

    def _lines(self, node: cst.CSTNode) -> tuple[int, int]:
        inner = self.get_metadata(PositionProvider, node, None)
        statement = self._statements[-1] if self._statements else node
        outer = self.get_metadata(PositionProvider, statement, None)
        if isinstance(statement, cst.BaseCompoundStatement):
            # The condition of an `if` or the head of a `for`, and not its whole body.
            outer = inner
        place = outer or inner
        return (place.start.line, place.end.line) if place else (0, 0)

    def _runs_nothing(self, node: cst.CSTNode) -> bool:
        checks_types = m.If(test=m.Name("TYPE_CHECKING"))
        is_main = m.If(test=m.Comparison(left=m.Name("__name__")))
        if m.matches(node, checks_types | is_main | m.Annotation() | m.Assert() | m.Import()):
            return True
        if isinstance(node, cst.ImportFrom | cst.Decorator):
            return True
        if m.matches(node, m.Arg(keyword=m.Name("strict"))):
            return True
        if isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString):
            return True
        if m.matches(node, m.Assign(targets=[m.AssignTarget(m.Name("__all__"))])):
            return True
        return isinstance(node, cst.Assign) and _is_type_alias(node.value) and not self._in_body()

    def _in_body(self) -> bool:
        return any(isinstance(one, cst.FunctionDef) for one in self._statements)


def _is_type_alias(value: cst.BaseExpression) -> bool:
    """Recognizes `Literal["a", "b"]`, `Callable[...]`, `A | B` and TypeVar("T")."""
    union = m.BinaryOperation(operator=m.BitOr())
    return m.matches(value, m.Subscript() | union | m.Call(func=m.Name("TypeVar")))


def _only_unsets_strict(node: cst.CSTNode, replacement: cst.CSTNode) -> bool:
    if not m.matches(node, m.Call(func=m.Name("zip"))):
        return False
    return _without_strict(node) == _without_strict(replacement)


def _without_strict(call: cst.CSTNode) -> list[str]:
    assert isinstance(call, cst.Call)
    kept = [one for one in call.args if one.keyword is None or one.keyword.value != "strict"]
    return [cst.Module([]).code_for_node(one.value) for one in kept]


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _diff(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), path, path, lineterm="", n=2
    )
    return "\n".join(lines)
