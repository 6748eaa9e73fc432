"""Measures how the package is written: comments, density, docstrings and names.

    python -m tests.style.measure             the table of the whole package
    python -m tests.style.measure omr_data/train omr_data/flow.py     the table of some of it

A comment counts when it says something: `# noqa`, `# type:` and rulers of dashes do not. A line
that is longer than 100 columns counts wherever it stands. A private function counts as called once
when its name occurs exactly once outside its own definition, in its own file.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "omr_data"
COLUMNS = 100
LONG_FUNCTION = 15
"""Lines from which a function is expected to hold a comment."""
MANY_ARGUMENTS = 3
"""Arguments, without self, from which a public function documents them."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

_DIRECTIVE = re.compile(r"#\s*(noqa|type:|fmt:|pragma)|#[\s\-=]*$|# -{10,}")


@dataclass(slots=True)
class Measures:
    """Counts over some files; the properties are what the goals are about."""

    lines: int = 0
    comments: int = 0
    long_lines: list[str] = field(default_factory=list)
    format_skips: list[str] = field(default_factory=list)
    statements: int = 0
    conditional_expressions: int = 0
    double_comprehensions: int = 0
    functions: int = 0
    long_functions: int = 0
    long_functions_with_comment: int = 0
    private_called_once: list[str] = field(default_factory=list)
    undocumented_arguments: list[str] = field(default_factory=list)
    undocumented_fields: list[str] = field(default_factory=list)

    @property
    def comments_per_100(self) -> float:
        """Comments for each 100 lines."""
        return 100 * self.comments / max(1, self.lines)

    @property
    def long_with_comment(self) -> float:
        """Share of long functions that hold a comment."""
        return self.long_functions_with_comment / max(1, self.long_functions)

    @property
    def called_once(self) -> float:
        """Share of all functions that are private and called once."""
        return len(self.private_called_once) / max(1, self.functions)

    def per_1000(self, count: int) -> float:
        """A count for each 1,000 lines."""
        return 1000 * count / max(1, self.lines)


def measure(paths: Sequence[Path]) -> Measures:
    """Measures files and folders of Python code.

    Args:
        paths: Files, or folders that are searched for `*.py`.
    """
    found = Measures()
    for path in paths:
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in files:
            _add(found, file)
    return found


def _add(found: Measures, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    label = file.resolve().relative_to(ROOT).as_posix()
    lines = text.splitlines()
    tree = ast.parse(text)
    commented = _commented_lines(text)
    found.lines += len(lines)
    found.comments += len(commented)
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            found.long_lines.append(f"{label}:{number}")
        if "fmt: skip" in line or "fmt: off" in line:
            found.format_skips.append(f"{label}:{number}")
    for node in ast.walk(tree):
        found.statements += isinstance(node, ast.stmt) and not _is_docstring(node)
        found.conditional_expressions += isinstance(node, ast.IfExp)
        generators = getattr(node, "generators", ())
        found.double_comprehensions += len(generators) > 1
    names = Counter(re.findall(r"\w+", text))
    for function, owner in _functions(tree):
        _add_function(found, function, owner, label, commented, names)
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef) and _is_dataclass(owner):
            found.undocumented_fields += [f"{label}:{name}" for name in _bare_fields(owner)]


def _add_function(
    found: Measures,
    function: Function,
    owner: str,
    label: str,
    commented: set[int],
    names: Counter[str],
) -> None:
    where = f"{label}:{function.lineno} {owner}{function.name}"
    end = function.end_lineno or function.lineno
    found.functions += 1
    if end - function.lineno + 1 >= LONG_FUNCTION:
        found.long_functions += 1
        found.long_functions_with_comment += any(
            number in commented for number in range(function.lineno, end + 1)
        )
    private = function.name.startswith("_") and not function.name.startswith("__")
    if private and names[function.name] == 2:
        found.private_called_once.append(where)
    public = not function.name.startswith("_") and not owner.startswith("_")
    documented = "Args:" in (ast.get_docstring(function) or "") or _repeats_a_contract(function)
    # The docstring of a command is its --help, which lists the arguments from their `help=`.
    documented |= function.name.endswith("_command")
    if public and _argument_count(function) >= MANY_ARGUMENTS and not documented:
        found.undocumented_arguments.append(where)


def _functions(tree: ast.Module) -> Iterator[tuple[Function, str]]:
    """Functions of the module and methods of its classes, with the class and a dot before them."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node, ""
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, Function):
                    yield member, f"{node.name}."


def _argument_count(function: Function) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def _repeats_a_contract(function: Function) -> bool:
    """Overloads and overrides repeat a contract that is documented elsewhere."""
    return any(
        getattr(decorator, "id", getattr(decorator, "attr", "")) in ("overload", "override")
        for decorator in function.decorator_list
    )


def _commented_lines(text: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and not _DIRECTIVE.match(token.string)
    }


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.dump(decorator) for decorator in node.decorator_list)


def _bare_fields(node: ast.ClassDef) -> Iterator[str]:
    """Public fields of a dataclass that no docstring follows."""
    for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if statement.target.id.startswith("_"):
            continue
        if after is None or not _is_docstring(after):
            yield f"{node.name}.{statement.target.id}"


def table(found: Measures) -> list[tuple[str, str, str]]:
    """Rows of (measure, value, goal), as text."""
    return [
        ("lines", f"{found.lines:,}", ""),
        ("comments / 100 lines", f"{found.comments_per_100:.1f}", "at least 4"),
        ("functions of 15+ lines with a comment", f"{found.long_with_comment:.0%}", "60%"),
        ("statements / 1,000 lines", f"{found.per_1000(found.statements):.0f}", "under 500"),
        (
            "conditional expressions / 1,000 lines",
            f"{found.per_1000(found.conditional_expressions):.1f}",
            "under 9",
        ),
        (
            "comprehensions with two for / 1,000 lines",
            f"{found.per_1000(found.double_comprehensions):.2f}",
            "under 0.5",
        ),
        ("lines over 100 columns", f"{len(found.long_lines)}", "0"),
        ("fmt: skip", f"{len(found.format_skips)}", "0"),
        ("private functions called once, of all", f"{found.called_once:.0%}", "under 12%"),
        (
            "public functions with 3+ undocumented arguments",
            f"{len(found.undocumented_arguments)}",
            "0",
        ),
        ("dataclass fields without a docstring", f"{len(found.undocumented_fields)}", "0"),
    ]


def main() -> None:
    """Prints the table, and with `--list` what falls short."""
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    found = measure([Path(argument) for argument in arguments] or [PACKAGE])
    for name, value, goal in table(found):
        print(f"{name:<50} {value:>9}   {goal}")
    if "--list" in sys.argv:
        for name in (
            "long_lines",
            "format_skips",
            "private_called_once",
            "undocumented_arguments",
            "undocumented_fields",
        ):
            for one in getattr(found, name):
                print(f"{name}: {one}")


if __name__ == "__main__":
    main()
