"""`omr plan`: what a build would do, as a table or as JSON."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from omr_data.cli.common import WORK, Mirror, RecipeFile, Set, Work, load_job
from omr_data.engine.build import Calls, folders, teacher_calls
from omr_data.engine.unanswered import stale_stages
from omr_data.errors import OmrError, RecipeError, UnpinnedError
from omr_data.identity import Spec, canonical, identity_fields
from omr_data.plan import Node, Plan
from omr_data.teacher import Estimate

_STYLES = {"CACHED": "green", "RUN": "yellow"}


def plan_command(
    file: RecipeFile,
    set: Set = None,
    mirror: Mirror = None,
    work: Work = WORK,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show what a build would do: each step CACHED or RUN, and the answers to ask for. Runs nothing."""
    job = load_job(file, set, mirror, work)
    cut, where = folders(job.plan, job.workspace)
    stale = stale_stages(cut, where, job.workspace)
    state = {}
    for number, (stage, folder) in enumerate(zip(cut.stages, where, strict=True)):
        is_cached = folder.done() and number not in stale
        for node in stage.nodes:
            state[node.fingerprint] = "CACHED" if is_cached else "RUN"
    calls = teacher_calls(job.plan, job.workspace)
    if as_json:
        print(json.dumps(plan_json(job.plan, state, calls), indent=1, ensure_ascii=False))
    else:
        # Where there is no terminal, the table is as wide as it needs to be.
        console = Console() if sys.stdout.isatty() else Console(width=160)
        print_plan(console, job.plan, state, calls)
    job.plan.require_ready()


def plan_json(
    plan: Plan, state: Mapping[str, str], calls: Mapping[str, Calls | None]
) -> dict[str, Any]:
    """The plan as plain data, with the state of each node and the calls it would make.

    Args:
        plan: The plan.
        state: CACHED or RUN by node fingerprint.
        calls: Calls of each node that asks a teacher, by fingerprint; None where not known yet.
    """
    described = plan.to_json()
    for line in described["nodes"]:
        found = calls.get(line["fingerprint"])
        line["state"] = state.get(line["fingerprint"], "")
        line["teacher_calls"] = None if found is None else found.attempts
        if found is not None and found.estimate is not None:
            line["estimate"] = dataclasses.asdict(found.estimate)
    return described


def print_plan(
    console: Console, plan: Plan, state: Mapping[str, str], calls: Mapping[str, Calls | None]
) -> None:
    """Prints the plan as a table, parents first.

    Args:
        console: Where it is printed.
        plan: The plan.
        state: CACHED or RUN by node fingerprint.
        calls: Calls of each node that asks a teacher, by fingerprint; None where not known yet.
    """
    recipe = plan.recipe
    console.print(f"{recipe.name} {recipe.version}  plan {plan.fingerprint[:12]}", highlight=False)
    heads = ("", "step", "after", "state", "teacher calls", "what it declares")
    rows = []
    for index, node in enumerate(plan.nodes):
        mark = _problem(node) or state.get(node.fingerprint, "")
        rows.append(
            (
                str(index),
                node.name,
                " ".join(map(str, node.parents)),
                mark,
                _calls(node, calls),
                _declared(node),
            )
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        # Only the last column gives way on a narrow terminal.
        width = (
            None if place == len(heads) - 1 else max(len(head), *(len(row[place]) for row in rows))
        )
        table.add_column(
            head,
            justify="right" if place in (0, 4) else "left",
            min_width=width,
            no_wrap=width is not None,
            overflow="fold",
        )
    for row in rows:
        styled = Text(row[3], style=_STYLES.get(row[3], "red"))
        table.add_row(*(styled if place == 3 else Text(cell) for place, cell in enumerate(row)))
    console.print(table)
    for found in calls.values():
        if found is not None and found.estimate is not None:
            console.print(_expected(found.estimate), highlight=False, soft_wrap=True)


def _expected(estimate: Estimate) -> str:
    tokens = (
        f"about {estimate.prompt_tokens:,} prompt and "
        f"{estimate.completion_tokens:,} completion tokens"
    )
    cost = "no price is given" if estimate.usd is None else f"about ${estimate.usd:,.2f}"
    return f"expected: {estimate.requests:,} requests, {tokens}, {cost}"


def _problem(node: Node) -> str:
    marks: dict[type[OmrError], str] = {UnpinnedError: "UNPINNED", RecipeError: "NO CONVERTER"}
    return ", ".join(marks.get(type(problem), "MISSING") for problem in node.problems)


def _calls(node: Node, calls: Mapping[str, Calls | None]) -> str:
    if node.fingerprint not in calls:
        return ""
    found = calls[node.fingerprint]
    return "not known yet" if found is None else f"{found.attempts:,}"


def _declared(node: Node) -> str:
    if node.spec is None:
        return ""
    usual = {one.name: one.default for one in dataclasses.fields(node.spec)}
    declared = identity_fields(node.spec).items()
    fields = {
        name: value
        for name, value in declared
        if value is not None and not (isinstance(value, Spec) and value == usual[name])
    }
    parts = [f"{name}={_short(value)}" for name, value in fields.items()]
    pin = node.pin.digest or node.pin.commit
    return ", ".join(parts + ([f"@{pin[:12]}"] if pin else []))


def _short(value: object) -> str:
    match value:
        case Spec():
            return str(getattr(value, "model_id", value.name))
        case tuple() if len(value) > 3:
            return f"({len(value)})"
        case str():
            return value if len(value) <= 40 else value[:37] + "..."
    return str(canonical(value))
