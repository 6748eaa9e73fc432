"""`omr list`: the plugins of this package, found in their folders.

Adding a plugin is adding one file: nothing has to be registered, and this command shows it.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from omr_data.embedders.base import Embedder
from omr_data.identity import Spec
from omr_data.source import Source
from omr_data.sources.hub import HubSource
from omr_data.step import Step
from omr_data.teacher import Teacher
from omr_data.verifiers.base import Verifier


class PluginKind(StrEnum):
    """What can be listed. Each value is the name of a folder of the package."""

    SOURCES = "sources"
    VERIFIERS = "verifiers"
    OPERATORS = "operators"
    TEACHERS = "teachers"
    EMBEDDERS = "embedders"


BASES: Mapping[PluginKind, type[Spec]] = {
    PluginKind.SOURCES: Source,
    PluginKind.VERIFIERS: Verifier,
    PluginKind.OPERATORS: Step,
    PluginKind.TEACHERS: Teacher,
    PluginKind.EMBEDDERS: Embedder,
}
"""What each kind of plugin derives from."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One class that a recipe can use."""

    name: str
    """Its name as a recipe writes it: the file and the class, as in "gsm8k.Source"."""
    summary: str
    """The first sentence of its docstring."""
    type: type[Spec]
    """The class."""


def list_command(
    kind: Annotated[PluginKind, typer.Argument(help="What to list.")],
) -> None:
    """List the sources, verifiers, operators, teachers or embedders of this package."""
    # Names are never broken, since they are copied into recipes; the sentence gives way.
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for plugin in plugins(kind):
        shown.add_row(plugin.name, Text(plugin.summary))
    Console().print(shown)


def plugins(kind: PluginKind) -> Iterator[Plugin]:
    """Yields the plugins of one kind, ordered by file and then as the file has them."""
    # Modules are imported and not searched as text: a class may be made by a decorator, and a file
    # that cannot be imported should fail here and not in a build.
    folder = importlib.import_module(f"omr_data.{kind}")
    for entry in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{entry.name}")
        found = {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, BASES[kind])
        }
        for name, value in found.items():
            # A module also holds classes that it imports. Where the plugin is a folder, its classes
            # are defined in the modules of that folder.
            is_own = f"{value.__module__}.".startswith(f"{module.__name__}.")
            derived = found.get("Source", value)
            is_base_here = derived is not value and issubclass(derived, value)
            if is_own and not is_base_here and not _is_base(value):
                # Docstrings are written for the reference page; one sentence fits a terminal.
                first_paragraph = (value.__doc__ or "").strip().split("\n\n")[0]
                first, period, _ = " ".join(first_paragraph.split()).partition(". ")
                yield Plugin(f"{entry.name}.{name}", first + period.strip(), value)


def _is_base(plugin: type[Spec]) -> bool:
    """Tells whether a class is to be derived from: it is private, or leaves something undefined."""
    abstract = any(
        getattr(getattr(plugin, name), "__isabstractmethod__", False) for name in dir(plugin)
    )
    nameless = issubclass(plugin, HubSource) and not hasattr(plugin, "repo")
    return plugin.__name__.startswith("_") or abstract or nameless
