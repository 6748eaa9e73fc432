"""The application `omr`: the table of its commands, and how it ends.

Each module beside this one holds a group of commands and what they print. A command loads a recipe
file, works out its plan, and calls the part of the package that does the work.
"""

import sys

import typer

from omr_data.cli import build, pins, plan, rollouts, show, teacher, train, verify
from omr_data.errors import OmrError

app = typer.Typer(
    help="Make multimodal-reasoning training data: plan, build, release.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

# The order here is the order of `omr --help`. Commands are registered here and not by decorators
# in their modules, so that importing a module has no side effect and one place lists them all.
app.command("plan")(plan.plan_command)
app.command("build")(build.build_command)
app.command("release")(build.release_command)
app.command("show")(show.show_command)
app.command("pin")(pins.pin_command)
app.command("verify")(verify.verify_command)
app.command("eval")(train.eval_command)
app.add_typer(rollouts.app, name="rollouts")
app.add_typer(teacher.app, name="teacher")
app.add_typer(train.app, name="train")


def main() -> None:
    """The console script. Errors of this package are one clear line, without a traceback."""
    try:
        app()
    except OmrError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "Stopped. Finished shards and every answer are kept: "
            "the same command goes on from here.",
            file=sys.stderr,
        )
        sys.exit(130)
