"""The application `omr`: the table of its commands, and how it ends.

Each module beside this one holds a group of commands and what they print. A command loads a recipe
file, works out its plan, and calls the part of the package that does the work.
"""

import io
import sys
from typing import Annotated

import typer

import omr_data
from omr_data.cli import (
    build,
    check,
    init,
    inspect,
    listing,
    pins,
    plan,
    rollouts,
    show,
    teacher,
    train,
    verify,
)
from omr_data.errors import OmrError
from omr_data.progress import printable

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

app = typer.Typer(
    help="Make multimodal-reasoning training data: plan, build, release.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # A bug prints Python's own traceback: the framed one wraps lines and fills logs.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"omr-data {omr_data.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            # Eager, so that it works without a command.
            is_eager=True,
            callback=_print_version,
            help="Print the version and stop.",
        ),
    ] = False,
) -> None:
    """Make multimodal-reasoning training data: plan, build, release."""


# The order here is the order of `omr --help`. Commands are registered here and not by decorators
# in their modules, so that importing a module has no side effect and one place lists them all.
app.command("init")(init.init_command)
app.command("inspect")(inspect.inspect_command)
app.command("plan")(plan.plan_command)
app.command("build")(build.build_command)
app.command("release")(build.release_command)
app.command("show")(show.show_command)
app.command("pin")(pins.pin_command)
app.command("verify")(verify.verify_command)
app.command("check")(check.check_command)
app.command("verify-release")(check.verify_release_command)
app.command("eval")(train.eval_command)
app.command("list")(listing.list_command)
app.add_typer(rollouts.app, name="rollouts")
app.add_typer(teacher.app, name="teacher")
app.add_typer(train.app, name="train")


STOPPED = "Stopped. What was finished is kept: the same command goes on from there."


def main() -> None:
    """Runs the console script. An error of this package, and Ctrl-C, print no traceback."""
    for stream in (sys.stdout, sys.stderr):
        # A locale such as C cannot show every character of a row. An escape in its place is better
        # than a command that fails after an hour of work because it cannot print its result.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except OmrError as error:
        print(f"{type(error).__name__}: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        # Typer turns Ctrl-C into this exit code and prints nothing.
        if end.code == INTERRUPTED:
            print(STOPPED, file=sys.stderr)
        raise
