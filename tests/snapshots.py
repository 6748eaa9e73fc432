"""Texts that users rely on, written down: python -m tests.snapshots.

tests/golden/api.txt holds the public names of the modules that authors of plugins import, with
their signatures and fields. tests/golden/help/*.txt holds `--help` of every command, 80 columns
wide. A change of either is a change for users: read the difference, and note it in CHANGELOG.md.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import click
import typer

from omr_data.cli import app
from tests.omr import ROOT

GOLDEN = ROOT / "tests" / "golden"
API = GOLDEN / "api.txt"
HELP = GOLDEN / "help"
MODULES = ("__init__", "flow", "source", "step", "teacher", "records")
COLUMNS = 80


def api_text() -> str:
    """Returns the public API, one line a name. It is read from the source and not from the running
    classes, so that it is the same for every version of Python."""
    lines = []
    for module in MODULES:
        name = "omr_data" if module == "__init__" else f"omr_data.{module}"
        tree = ast.parse((ROOT / "omr_data" / f"{module}.py").read_text(encoding="utf-8"))
        lines += [name, *_public(tree, exported=module == "__init__"), ""]
    return "\n".join(lines)


def _public(tree: ast.Module, exported: bool) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield f"    class {node.name}({', '.join(map(ast.unparse, node.bases))})"
            yield from _members(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield f"    {_signature(node)}"
        elif isinstance(node, ast.ImportFrom) and exported:
            yield from (f"    {alias.name} from {node.module}" for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not _is_private(node):
            yield f"    {ast.unparse(node)}"


def _members(node: ast.ClassDef) -> Iterator[str]:
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
            kind = "".join(f"@{ast.unparse(one)} " for one in member.decorator_list)
            yield f"        {kind}{_signature(member)}"
        elif isinstance(member, ast.AnnAssign) and not _is_private(member):
            yield f"        {ast.unparse(member)}"


def _signature(function: ast.FunctionDef) -> str:
    result = "" if function.returns is None else f" -> {ast.unparse(function.returns)}"
    return f"def {function.name}({ast.unparse(function.args)}){result}"


def _is_private(node: ast.Assign | ast.AnnAssign) -> bool:
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    return ast.unparse(target).startswith("_")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yields every command and group of commands with its path, such as "omr train sft"."""
    waiting: list[tuple[str, click.Command]] = [("omr", typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop(0)
        yield path, command
        inner: dict[str, click.Command] = getattr(command, "commands", {})
        waiting += [(f"{path} {name}", one) for name, one in inner.items()]


def help_texts() -> dict[str, str]:
    """Returns the help of every command by its file's name: "omr train sft" is omr-train-sft."""
    texts = {}
    for path, command in commands():
        for one in command.params:
            if one.name == "workers":
                # The default is the number of processors of this machine.
                one.default = 2
        context = click.Context(
            command, info_name=path, terminal_width=COLUMNS, max_content_width=COLUMNS
        )
        texts[path.replace(" ", "-")] = command.get_help(context) + "\n"
    return texts


def main() -> None:
    """Writes all snapshots, and removes those of commands that are gone."""
    API.write_text(api_text(), encoding="utf-8")
    HELP.mkdir(parents=True, exist_ok=True)
    texts = help_texts()
    for path in HELP.glob("*.txt"):
        if path.stem not in texts:
            path.unlink()
    for name, text in texts.items():
        Path(HELP / f"{name}.txt").write_text(text, encoding="utf-8")
    print(f"{API.name} and {len(texts)} help texts written")


if __name__ == "__main__":
    main()
