"""`omr verify`: compares one response with a gold answer."""

from typing import Annotated

import typer

from omr_data.progress import printable
from omr_data.verifiers import cascade
from omr_data.verifiers.base import AnswerPair


def verify_command(
    response: Annotated[str, typer.Argument(help="The whole response, thinking included.")],
    gold: Annotated[str, typer.Option(help="The gold answer.")],
    option: Annotated[
        list[str] | None, typer.Option(help="The text of an option, in order; may be repeated.")
    ] = None,
    finish_reason: Annotated[
        str, typer.Option(help="How the response ended: stop, or length if it was cut off.")
    ] = "stop",
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print each verifier that was asked, and what it said."),
    ] = False,
) -> None:
    """Compare a response with a gold answer. Prints RIGHT, WRONG or UNDECIDED, and why."""
    # Without --explain only the last line, the verdict, is printed: scripts read it.
    pair = AnswerPair(response, gold, tuple(option or ()), finish_reason)
    lines = cascade.STANDARD.explain(pair)
    if not explain:
        print(printable(lines[-1][1]))
        return
    for name, line in lines:
        print(printable(f"{name:<20} {line}"))
