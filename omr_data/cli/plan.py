"""`omr plan`: what a build would do, as a table or as JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from omr_data.cli.common import (
    WORK,
    Mirror,
    RecipeFile,
    SetOption,
    WorkOption,
    load_job,
    print_json,
    wrap,
)
from omr_data.cli.problems import require_ready
from omr_data.engine.build import Calls, folders, teacher_calls
from omr_data.engine.unanswered import stale_stages
from omr_data.errors import OmrError, RecipeError, UnpinnedError
from omr_data.identity import Spec, canonical, identity_fields
from omr_data.plan import Node, Plan
from omr_data.progress import printable

_STYLES = {"CACHED": "green", "RUN": "yellow"}


def plan_command(
    file: RecipeFile,
    set: SetOption = None,
    mirror: Mirror = None,
    work: WorkOption = WORK,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show what a build would do. Runs nothing.

    Each step is CACHED or RUN, and each one that asks a teacher says how many answers it would ask
    for. Exit code 1 and a list of problems where the recipe cannot be built here.
    """
    job = load_job(file, set, mirror, work)
    cut, where = folders(job.plan, job.workspace)
    stale = stale_stages(cut, where, job.workspace)
    # Steps of one stage are written in one pass, so they are cached or run together.
    state: dict[str, str] = {}
    for number, (stage, folder) in enumerate(zip(cut.stages, where, strict=True)):
        is_cached = folder.done() and number not in stale
        stage_state = "CACHED" if is_cached else "RUN"
        state.update((node.fingerprint, stage_state) for node in stage.nodes)
    calls = teacher_calls(job.plan, job.workspace)
    if as_json:
        print_json(plan_json(job.plan, state, calls))
    else:
        print_plan(Console(), job.plan, state, calls)
    require_ready(job)


def plan_json(
    plan: Plan, state: Mapping[str, str], calls: Mapping[str, Calls | None]
) -> dict[str, Any]:
    """The plan as plain data, with the state of each node and the calls it would make.

    Args:
        plan: The plan.
        state: CACHED or RUN by node fingerprint.
        calls: Calls of each node that asks a teacher, by fingerprint; None where not known yet.
    """
    # State and calls are facts of this machine, added beside what the release will carry.
    described = plan.to_json()
    for line in described["nodes"]:
        line["state"] = state.get(line["fingerprint"], "")
        line["teacher_calls"] = None
        if (found := calls.get(line["fingerprint"])) is not None:
            line["teacher_calls"] = found.attempts
            if found.estimate is not None:
                line["estimate"] = dataclasses.asdict(found.estimate)
    return described


def print_plan(
    console: Console, plan: Plan, state: Mapping[str, str], calls: Mapping[str, Calls | None]
) -> None:
    """Prints the plan as a table, parents first. What a step declares follows on lines of its own.

    Args:
        console: Where it is printed.
        plan: The plan.
        state: CACHED or RUN by node fingerprint.
        calls: Calls of each node that asks a teacher, by fingerprint; None where not known yet.
    """
    recipe = plan.recipe
    console.print(f"{recipe.name} {recipe.version}  plan {plan.fingerprint[:12]}", highlight=False)
    heads = ("#", "step", "after", "state", "answers to ask for")
    rows = [heads]
    for index, node in enumerate(plan.nodes):
        # A problem hides the state: a step that cannot be built is neither cached nor run.
        shown = problem_marks(node) or state.get(node.fingerprint, "")
        asked = ""
        if node.fingerprint in calls:
            # Not known before the source is built: how many rows it has decides.
            found = calls[node.fingerprint]
            asked = "not known yet" if found is None else f"{found.attempts:,}"
        rows.append((str(index), node.label, ranges(node.parents), shown, asked))
    # Columns are padded by hand: a table of rich narrows every column on a narrow terminal, and
    # then cuts the one that matters most, the state.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    margin = " " * (widths[0] + 4)
    console.print(Text(_line(heads, widths), style="bold"), soft_wrap=True)
    for row, node in zip(rows[1:], plan.nodes, strict=True):
        line = Text(_line(row, widths))
        if row[3]:
            line.highlight_words([row[3]], _STYLES.get(row[3], "red"))
        console.print(line, soft_wrap=True)
        for declared in wrap(printable(declared_fields(node)), console.width, margin):
            console.print(Text(declared, style="dim"), soft_wrap=True)
    print_estimates(console, calls)


def print_estimates(console: Console, calls: Mapping[str, Calls | None]) -> None:
    """Prints what asking is expected to take, for each teacher that can tell."""
    for found in calls.values():
        if found is None or found.estimate is None:
            continue
        estimate = found.estimate
        # Prices are given in the recipe; a price list in the package would soon be wrong.
        cost = "no price is given"
        if estimate.usd is not None:
            cost = f"about ${estimate.usd:,.2f}"
        console.print(f"expected: {estimate.requests:,} requests, {cost},", highlight=False)
        console.print(
            f"  about {estimate.prompt_tokens:,} prompt tokens "
            f"and {estimate.completion_tokens:,} completion tokens",
            highlight=False,
            soft_wrap=True,
        )


def ranges(numbers: Sequence[int]) -> str:
    """Writes numbers briefly: (7, 8, 9, 12) as "7-9 12". A step can have twelve benchmarks."""
    runs: list[list[int]] = []
    # Parents come in the order of the plan, so that only the last run can grow.
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join("-".join(map(str, sorted({run[0], run[-1]}))) for run in runs)


def problem_marks(node: Node) -> str:
    """Says in a few words why a node cannot be built here. Empty where it can."""
    # Exact types: UnpinnedError is a RecipeError too, and has another remedy.
    marks: dict[type[OmrError], str] = {UnpinnedError: "UNPINNED", RecipeError: "NO CONVERTER"}
    found = [marks.get(type(problem), "MISSING") for problem in node.problems]
    return ", ".join(dict.fromkeys(found))


def declared_fields(node: Node) -> str:
    """Lists the fields of a step and the pin of a source, without what every plan would repeat."""
    if node.spec is None:
        return ""
    usual = {one.name: one.default for one in dataclasses.fields(node.spec)}
    parts = []
    for name, value in identity_fields(node.spec).items():
        is_usual = isinstance(value, Spec) and value == usual[name]
        # Teachers have a dozen sampling parameters that are left to the server.
        if value is None or value == () or is_usual:
            continue
        parts.append(f"{name}={_short(value)}")
    pin = node.pin.digest or node.pin.commit
    if pin:
        parts.append(f"@{pin[:12]}")
    return ", ".join(parts)


def _short(value: object) -> str:
    # A line of the table, and not the identity: `omr plan --json` has every value in full.
    match value:
        case Spec():
            return str(getattr(value, "model_id", value.name))
        case tuple() if len(value) > 3:
            return f"{len(value)} values"
        case tuple():
            return f"({', '.join(map(_short, value))})"
        case str() if len(value) > 40:
            return f"{value[:37]}..."
        case str():
            return value
    return str(canonical(value))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Pads the cells of one line: numbers to the right, words to the left."""
    # The number of the step and the answers to ask for are numbers.
    sides = (">", "<", "<", "<", ">")
    padded = [
        f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()
