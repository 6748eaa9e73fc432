"""Identity of code: a digest of the source of a class, and of everything that it uses.

A class of this package states its behavior by a revision that is bumped by hand. Nobody bumps
revisions in a recipe file, so a class that is defined there is identified by its syntax tree, and
by the definitions that it uses from the same file or from other files, followed transitively:

- Comments, layout, the name of the file and the place of the class in it do not count.
- Of modules of the standard library and of this package, the names that are used count.
- Of other installed packages, the names that are used and the version count.

The digest is worked out from source text alone. Nothing is imported or run for it, and two
processes agree on it whatever was computed at run time. The price: what a module computes when it
is imported, for example from an environment variable, counts only as the expression that computes
it. Make such a value a field of the class.
"""

import ast
import builtins
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from omr_data.errors import IdentityError

PACKAGE = "omr_data"
SOURCE = "__omr_source__"
"""The name under which a module holds the text that it was compiled from, where this package loaded
it. The file may have changed since."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# Contexts follow from the position of a node; the other two do not change what runs.
_NOT_SERIALIZED = ("ctx", "type_comment", "kind")

Use: TypeAlias = tuple[str, tuple[str, ...]]
"""A name that code uses, and the attributes that are taken from it: `np.linalg.norm` is
("np", ("linalg", "norm"))."""
Reference: TypeAlias = int | list[Any]
"""What a use refers to: the number of another definition, or a description of something whose
source is not followed."""


def code_digest(cls: type, module: ModuleType | None) -> str:
    """Returns the digest of a class that is defined outside this package.

    Args:
        cls: The class.
        module: The module that defines it, as it was when the class was made.

    Raises:
        IdentityError: The class has no source, or the class uses variables of a function around it.
    """
    source = module and module_source(module)
    if module is None or source is None:
        raise IdentityError(
            f"{cls.__qualname__} has no source to identify it by: it was typed into a prompt, or "
            "made at run time. Put the class into a file, such as the recipe."
        )
    parsed = parse(source, module.__name__, hasattr(module, "__path__"))
    check_captures(cls, parsed)
    # From the outermost name: a class in another class or function is part of that one's tree.
    graph = _Graph()
    try:
        graph.add(parsed, cls.__qualname__.partition(".")[0])
    except RecursionError as error:
        raise IdentityError(
            f"{cls.__qualname__} uses an expression that is nested too deeply to be read. "
            "Move it into a data file."
        ) from error
    # The qualified name tells apart several classes of one function or class body.
    text = json.dumps([cls.__qualname__, graph.lines], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def module_source(module: ModuleType) -> str | None:
    """Returns the text that a module was compiled from. None where there is none."""
    # What this package loaded comes first; the file on disk may be another text by now.
    if isinstance(text := getattr(module, SOURCE, None), str):
        return text
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):
        return None


def serialize(node: ast.AST) -> list[Any]:
    """Returns a syntax tree as nested lists: the type of a node, then its fields by name.

    Python's own `ast.dump` changes between versions. Here empty fields are left out, so that fields
    which a later version adds change nothing, and constants are written by `ascii`, because `repr`
    depends on the version of Unicode.
    """
    if isinstance(node, ast.Constant):
        return ["Constant", ascii(node.value)]
    line: list[Any] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if name in _NOT_SERIALIZED or value is None or value == []:
            continue
        if isinstance(node, ast.JoinedStr):
            value = joined(value)
        line.append([name, _field(value)])
    return line


def _field(value: object) -> Any:
    if isinstance(value, ast.AST):
        return serialize(value)
    if isinstance(value, list):
        # None stands for something inside a list: `**spread` in a dict, no default of an argument.
        return [_field(item) for item in value]
    return value if value is None else ascii(value)


def joined(values: list[ast.expr]) -> list[ast.expr]:
    """Returns the parts of an f-string, with constants that stand side by side as one."""
    # Versions of Python cut f-strings that are written in pieces at different places.
    parts: list[ast.expr] = []
    for value in values:
        last = parts[-1] if parts else None
        if isinstance(value, ast.Constant) and isinstance(last, ast.Constant):
            parts[-1] = ast.Constant(str(last.value) + str(value.value))
        else:
            parts.append(value)
    return parts


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A module whose source is followed."""

    name: str
    """Its dotted name."""
    package: str
    """The package that relative imports in it start from."""
    body: tuple[ast.stmt, ...]
    """Its statements."""
    touching: dict[str, list[ast.stmt]]
    """By name, the statements that bind it or change its value, in order."""
    stars: tuple[ast.ImportFrom, ...]
    """Its `from x import *` statements."""


@functools.lru_cache(maxsize=256)
def parse(source: str, name: str, is_package: bool) -> Module:
    """Parses the source of a module.

    Args:
        source: The text.
        name: The dotted name of the module.
        is_package: Whether it is the `__init__` of a package.
    """
    body = ast.parse(source).body
    touching: dict[str, list[ast.stmt]] = {}
    stars = []
    for statement in body:
        # Compound statements count as a whole, so that a condition is part of what it decides.
        for touched in touched_names(statement):
            touching.setdefault(touched, []).append(statement)
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            stars.append(statement)
    package = name
    if not is_package:
        package = name.rpartition(".")[0]
    return Module(name, package, tuple(body), touching, tuple(stars))


class _Graph:
    """Definitions, numbered in the order in which they are reached.

    Numbers stand for names of modules: two files of other names that hold the same definitions give
    the same lines.
    """

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self._numbers: dict[tuple[str, str | None], int] = {}

    def add(self, module: Module, name: str | None) -> int:
        """Adds what a module binds to a name, or all of the module for None; returns its number."""
        key = (module.name, name)
        if key in self._numbers:
            return self._numbers[key]
        number = self._numbers[key] = len(self.lines)
        statements = module.body if name is None else module.touching[name]
        line: list[Any] = [[serialize(statement) for statement in statements]]
        # The place in the list is taken before uses are followed: definitions may be recursive.
        self.lines.append(line)
        references = []
        for root, chain in sorted(_uses(statements)):
            reference = self._resolve(module, root, chain, frozenset())
            if reference is not None:
                references.append([".".join((root, *chain)), reference])
        for statement, alias in _imports(statements):
            references.append([alias.name, self._imported(module, statement, alias, ())])
        line.append(references)
        return number

    def _resolve(
        self, module: Module, name: str, chain: tuple[str, ...], seen: frozenset[tuple[str, str]]
    ) -> Reference | None:
        """What a name of a module refers to. None for a builtin, and for a name that is unbound."""
        if (module.name, name) in seen:
            return None  # two modules import the name from each other
        statements = module.touching.get(name)
        if statements is None:
            return self._from_star(module, name, chain, seen | {(module.name, name)})
        first = statements[0]
        if len(statements) == 1 and isinstance(first, ast.Import | ast.ImportFrom):
            # Followed to where the name is defined, so that moving a definition changes nothing.
            for alias in first.names:
                if _bound_name(first, alias) == name:
                    return self._imported(module, first, alias, chain, seen | {(module.name, name)})
        return self.add(module, name)

    def _from_star(
        self, module: Module, name: str, chain: tuple[str, ...], seen: frozenset[tuple[str, str]]
    ) -> Reference | None:
        for star in module.stars:
            target = _find(_absolute(module, star))
            if isinstance(target, Module):
                found = self._resolve(target, name, chain, seen)
                if found is not None:
                    return found
            # Which names a star brings from elsewhere is not known without importing it.
            elif not hasattr(builtins, name):
                return [*target, name]
        return None

    def _imported(
        self,
        module: Module,
        statement: ast.Import | ast.ImportFrom,
        alias: ast.alias,
        chain: tuple[str, ...],
        seen: frozenset[tuple[str, str]] = frozenset(),
    ) -> Reference:
        """What one name of an import statement refers to."""
        if isinstance(statement, ast.Import):
            # `import a.b` binds a, and `import a.b as c` binds a.b.
            bound = alias.name if alias.asname else alias.name.partition(".")[0]
            return self._module(bound, chain)
        source = _absolute(module, statement)
        target = _find(source)
        if not isinstance(target, Module):
            return [*target, alias.name]
        if alias.name == "*":
            return self.add(target, None)
        found = self._resolve(target, alias.name, chain, seen)
        # What a package does not define may be a submodule of it.
        if found is None:
            return self._module(f"{source}.{alias.name}", chain)
        return found

    def _module(self, name: str, chain: tuple[str, ...]) -> Reference:
        """What an attribute of a module refers to; the whole module where none is taken."""
        target = _find(name)
        if not isinstance(target, Module):
            return list(target)
        if not chain:
            return self.add(target, None)
        found = self._resolve(target, chain[0], chain[1:], frozenset())
        if found is not None:
            return found
        # Neither a name nor a submodule: something is computed, and any of the module may matter.
        if _find(f"{name}.{chain[0]}") == _MISSING:
            return self.add(target, None)
        return self._module(f"{name}.{chain[0]}", chain[1:])


_MISSING = ("missing",)


def _find(name: str) -> Module | tuple[str, ...]:
    """A module by its dotted name: parsed, or described where its source is not followed."""
    top = name.partition(".")[0]
    # Without a version: behavior of the standard library is stable enough to share caches over.
    if top in sys.stdlib_module_names:
        return ("standard library", name)
    if top == PACKAGE:
        # By its last word only: moving code inside this package keeps every cache.
        return (PACKAGE, name.rpartition(".")[2])
    loaded = sys.modules.get(name)
    spec = getattr(loaded, "__spec__", None)
    if loaded is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return _MISSING
    if spec is None or spec.origin is None:
        return _MISSING if spec is None else ("namespace",)
    return module_from_spec(name, spec, loaded)


def module_from_spec(
    name: str, spec: importlib.machinery.ModuleSpec, loaded: ModuleType | None
) -> Module | tuple[str, ...]:
    """Returns a module that was found: parsed, or described where its source is not followed.

    Args:
        name: Its dotted name.
        spec: Where it is.
        loaded: The module, where it is imported already.
    """
    origin = Path(str(spec.origin))
    if {"site-packages", "dist-packages"} & set(origin.parts):
        return ("installed", *distribution_of(name.partition(".")[0]), name)
    if origin.suffix != ".py":
        # A compiled module beside the recipe: its bytes are the only source there is.
        content = origin.read_bytes() if origin.is_file() else b""
        return ("compiled", hashlib.sha256(content).hexdigest())
    text = loaded and module_source(loaded)
    if text is None:
        text = importlib.util.decode_source(origin.read_bytes())
    return parse(text, name, spec.submodule_search_locations is not None)


@functools.cache
def distribution_of(top: str) -> tuple[str, str]:
    """Returns the name and version of the installed package that a module belongs to."""
    # Import names differ from package names: PIL is installed by Pillow.
    names = importlib.metadata.packages_distributions().get(top, [top])
    name = sorted(names)[0]
    try:
        return name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return name, "unknown"


def _absolute(module: Module, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    relative = "." * statement.level + (statement.module or "")
    return importlib.util.resolve_name(relative, module.package)


def _bound_name(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    if alias.asname:
        return alias.asname
    # `import a.b` binds a; `from a import b` binds b.
    if isinstance(statement, ast.Import):
        return alias.name.partition(".")[0]
    return alias.name


def _imports(
    statements: Iterable[ast.stmt],
) -> Iterator[tuple[ast.Import | ast.ImportFrom, ast.alias]]:
    """The imports in some statements, at any depth. `from __future__` is syntax, not a module."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    yield node, alias


def _bound(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that some statements bind in their own scope."""
    found: set[str] = set()
    declared: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
                continue  # its body is a scope of its own
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                # Its targets are its own; a walrus in it binds outside.
                walruses = [sub for sub in ast.walk(node) if isinstance(sub, ast.NamedExpr)]
                found |= {walrus.target.id for walrus in walruses}
                continue
            case ast.Import() | ast.ImportFrom():
                found |= {_bound_name(node, alias) for alias in node.names}
            case ast.Name(ctx=ast.Store() | ast.Del()):
                found.add(node.id)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                found.add(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                found.add(name)
            case ast.Global() | ast.Nonlocal():
                declared |= set(node.names)
        stack += ast.iter_child_nodes(node)
    return found - declared


def touched_names(statement: ast.stmt) -> set[str]:
    """Returns the names of a module whose value a statement of it binds or may change.

    `WORDS.append("x")` and `TABLE["a"] = 1` are part of what WORDS and TABLE are.
    """
    found = _bound([statement])
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return found
    for node in ast.walk(statement):
        if isinstance(node, ast.Expr | ast.AugAssign | ast.Delete):
            found |= {root for root, _ in _uses([node])}
        if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            found |= {root for root, _ in _uses([node.value])}
    return found


def _uses(nodes: Iterable[ast.AST]) -> set[Use]:
    """The names that code takes from the module around it."""
    visitor = _UseVisitor()
    for node in nodes:
        visitor.visit(node)
    return visitor.found


class _UseVisitor(ast.NodeVisitor):
    """Collects uses. Annotations are skipped: they name types, and run nothing."""

    def __init__(self) -> None:
        self.found: set[Use] = set()
        self._scopes: list[set[str]] = []

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, _FUNCTIONS):
            self._function(node)
        elif isinstance(node, _COMPREHENSIONS):
            targets = _bound(generator.target for generator in node.generators)
            self._inside(targets, ast.iter_child_nodes(node))
        elif isinstance(node, ast.Attribute):
            self._attribute(node)
        elif isinstance(node, ast.Name):
            self._use(node, ())
        elif isinstance(node, ast.AnnAssign):
            for child in (node.target, node.value):
                if child is not None:
                    self.visit(child)
        else:
            # Class bodies are no scope for the methods in them, so nothing is pushed for those.
            self.generic_visit(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        # Decorators and defaults are evaluated outside: `def f(x=x)` uses the x around it.
        defaults = [default for default in node.args.kw_defaults if default is not None]
        outside = [*node.args.defaults, *defaults, *getattr(node, "decorator_list", ())]
        for child in outside:
            self.visit(child)
        arguments = {
            argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)
        }
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        self._inside(arguments | _bound(body), body)

    def _inside(self, bound: set[str], nodes: Iterable[ast.AST]) -> None:
        self._scopes.append(bound)
        for node in nodes:
            self.visit(node)
        self._scopes.pop()

    def _attribute(self, node: ast.Attribute) -> None:
        chain = [node.attr]
        value = node.value
        while isinstance(value, ast.Attribute):
            chain.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            self._use(value, tuple(reversed(chain)))
        else:
            self.visit(value)

    def _use(self, node: ast.Name, chain: tuple[str, ...]) -> None:
        # A name that is only bound here does not use what it was bound to before. `x += 1` is.
        if not any(node.id in scope for scope in self._scopes):
            self.found.add((node.id, chain))


def check_captures(cls: type, module: Module) -> None:
    """Raises IdentityError for a class that is not in the source, or takes variables of a
    function."""
    around: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    bodies: list[ast.AST] = list(module.body)
    found: list[ast.AST] = []
    for name in cls.__qualname__.split("."):
        if name == "<locals>":
            continue
        found = [node for node in _definitions(bodies) if node.name == name]
        around += [one for one in found if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
        bodies = [child for node in found for child in ast.iter_child_nodes(node)]
    if not any(isinstance(node, ast.ClassDef) for node in found):
        raise IdentityError(
            f"{cls.__qualname__} is not defined under that name in {module.name}, so it cannot be "
            "identified. Write it as a class statement in a file."
        )
    local: set[str] = set()
    helpers: dict[str, ast.AST] = {}
    # Imports in a function are followed like any others, so they are no captured variables.
    for function in around:
        arguments = {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)}
        local |= arguments | _bound(function.body)
        local -= {_bound_name(*one) for one in _imports(function.body)}
        helpers |= {node.name: node for node in _definitions(function.body)}
    # A class or function of the same function is in the tree already; its own uses are checked too.
    pending, checked = list(found), set()
    while pending:
        for name, _ in _uses([pending.pop()]):
            if name in local and name not in helpers:
                raise IdentityError(
                    f"{cls.__qualname__} uses {name!r}, a variable of the function around it, "
                    "which no fingerprint can hold. Move the class out of the function, and make "
                    f"{name!r} a field of it."
                )
            if name in helpers and name not in checked:
                checked.add(name)
                pending.append(helpers[name])


def _definitions(
    nodes: Iterable[ast.AST],
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The functions and classes that are defined in some statements, also inside `if` and `try`."""
    stack = list(nodes)
    while stack:
        node = stack.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            stack += ast.iter_child_nodes(node)
