"""`omr verify`: compares one response, or a file of responses, with gold answers."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from omr_data.errors import VerifyError
from omr_data.progress import printable
from omr_data.verifiers import pairs, tasks
from omr_data.verifiers.base import AnswerPair


def verify_command(
    response: Annotated[
        str | None,
        typer.Argument(help="The whole response, thinking included; left out with --pairs."),
    ] = None,
    gold: Annotated[str | None, typer.Option(help="The gold answer.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="The text of an option, in order; may be repeated.")
    ] = None,
    finish_reason: Annotated[
        str, typer.Option(help="How the response ended: stop, or length if it was cut off.")
    ] = "stop",
    task: Annotated[
        str, typer.Option(help="The kind of answer: maths, choice, box, chart, ...")
    ] = "maths",
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print each verifier that was asked, and what it said."),
    ] = False,
    pairs_file: Annotated[
        Path | None,
        typer.Option("--pairs", metavar="FILE", help="JSON lines of pairs to verify instead."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the verdicts of --pairs are written.")
    ] = None,
    response_column: Annotated[str, typer.Option(help="Column of the response.")] = "response",
    gold_column: Annotated[str, typer.Option(help="Column of the gold answer.")] = "gold",
    options_column: Annotated[str, typer.Option(help="Column of the options.")] = "options",
) -> None:
    """Compare responses with gold answers. Prints RIGHT, WRONG or UNDECIDED, and why.

    One response ends with exit code 0 for RIGHT, 1 for WRONG and 3 for UNDECIDED.
    """
    if pairs_file is not None:
        columns = pairs.PairColumns(response_column, gold_column, options_column)
        _verify_file(pairs_file, out, columns, task)
        return
    if response is None or gold is None:
        raise VerifyError("give a response and --gold, or a file of them with --pairs FILE.")
    pair = AnswerPair(response, gold, tuple(option or ()), finish_reason, task=task)
    # Without --explain only the last line, the verdict, is printed: scripts read it.
    steps = tasks.STANDARD.explain(pair)
    if explain:
        for name, line in steps:
            print(printable(f"{name:<20} {line}"))
    else:
        print(printable(steps[-1][1]))
    raise typer.Exit(pairs.EXIT_CODES[tasks.STANDARD.verify(pair).outcome])


def _verify_file(path: Path, out: Path | None, columns: pairs.PairColumns, task: str) -> None:
    """Verifies a file, writes the verdicts as JSON lines, and prints how many there are of each."""
    found: Counter[str] = Counter()
    lines: list[str] = []
    if not path.is_file():
        raise VerifyError(f"{path} does not exist. --pairs takes a file of JSON lines.")
    with path.open(encoding="utf-8", errors="surrogatepass") as file:
        for row, pair in pairs.read_pairs(file, columns, task):
            verdict = tasks.STANDARD.verify(pair)
            found[verdict.outcome] += 1
            lines.append(pairs.verdict_line(row, verdict))
    # Verdict lines are JSON with everything beyond ASCII escaped, so a terminal can take them.
    if out is None:
        print("\n".join(lines))
        return
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print("  ".join(f"{name} {count:,}" for name, count in sorted(found.items())))
