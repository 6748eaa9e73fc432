"""What the command line prints: plans, releases, records, dropped rows and tables."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from omr_data.engine.build import Calls
from omr_data.engine.stages import Stage
from omr_data.errors import OmrError, RecipeError, UnpinnedError
from omr_data.identity import Spec, canonical, identity_fields
from omr_data.plan import Node, Plan
from omr_data.records import Record, Response
from omr_data.store.ledger import read_json
from omr_data.store.rollouts import RolloutStats
from omr_data.store.shards import StageFolder, iter_dropped, read_records
from omr_data.teacher import Estimate

if TYPE_CHECKING:
    from omr_data.train.evaluate import Score

_STYLES = {"CACHED": "green", "RUN": "yellow"}


def plan(
    console: Console, plan: Plan, state: Mapping[str, str], calls: Mapping[str, Calls | None]
) -> None:
    """The plan as a table, parents first."""
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
    tokens = f"about {estimate.prompt_tokens:,} prompt and {estimate.completion_tokens:,} completion tokens"
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


def released(console: Console, folder: Path) -> None:
    """What a release holds, and how to load it."""
    manifest = read_json(folder / "manifest.json")
    console.print(
        f"{manifest['name']} {manifest['version']}: {manifest['rows']:,} rows in {folder}",
        highlight=False,
    )
    for line in manifest["by_source"]:
        console.print(
            f"  {line['source']}: {line['rows']:,} rows of {line['questions']:,} questions ({line['license']})",
            highlight=False,
        )
    console.print(
        f"Load it: datasets.load_dataset({str(folder)!r}, split='train')",
        highlight=False,
        soft_wrap=True,
    )


def trained(console: Console, folder: Path) -> None:
    """Where a trained model is, and what to do with it."""
    console.print(
        f"the model is in {folder}; its curves in {folder.parent / 'curves.png'}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"Measure it: omr eval {folder} RELEASE", highlight=False, soft_wrap=True)


def score(console: Console, score: "Score") -> None:
    """The measures of a model, a line each."""
    shown = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=f"{score.model} on {score.data}",
        title_justify="left",
    )
    for column, justify in (("", "left"), ("", "right"), ("95% interval", "left")):
        shown.add_column(column, justify="left" if justify == "left" else "right", no_wrap=True)
    lines = [
        ("accuracy", score.accuracy),
        *((f"pass@{k}", share) for k, share in score.pass_at.items()),
    ]
    if len(score.by_source) > 1:
        lines += [(f"accuracy, {source}", share) for source, share in score.by_source.items()]
    for name, share in lines:
        shown.add_row(name, f"{share.value:.3f}", f"{share.low:.3f} to {share.high:.3f}")
    console.print(shown)
    left_out = "".join(f", {count:,} left out: {reason}" for reason, count in score.skipped.items())
    console.print(
        f"{score.answers:,} answers to {score.questions:,} questions, {score.undecided:.1%} undecided{left_out}",
        highlight=False,
    )


def rollouts(console: Console, path: Path, stats: RolloutStats) -> None:
    """What a rollout store holds."""
    console.print(
        f"{path} holds {stats.rollouts:,} rollouts of {stats.requests:,} requests, {stats.failures:,} failed attempts"
    )
    console.print(
        f"  {stats.prompt_tokens:,} prompt tokens, {stats.completion_tokens:,} completion tokens"
    )
    for model, count in stats.models.items():
        console.print(f"  {model}: {count:,}", markup=False)


def records(
    console: Console, stages: Sequence[tuple[Stage, StageFolder]], prefix: str, rows: int
) -> None:
    """Some records as they left a stage."""
    found = (
        record
        for _, folder in stages
        for shard in folder.shards()
        for record in read_records(shard)
        if record.id.startswith(prefix)
    )
    shown = list(islice(found, rows))
    if not shown:
        raise RecipeError(f"no row there has an id that starts with {prefix!r}.")
    for record in shown:
        console.print(_record(record))


def _record(record: Record) -> Text:
    text = Text(record.id, style="bold")
    text.append(f"  {record.source}, {record.license}\n", style="dim")
    text.append(record.question + "\n", style="default")
    for number, option in enumerate(record.options):
        text.append(f"  ({chr(ord('A') + number)}) {option}\n", style="default")
    rate = "" if record.pass_rate is None else f"   pass rate {record.pass_rate:.2f}"
    images = "".join(f"   {image.width}x{image.height} {image.format}" for image in record.images)
    text.append(f"  answer: {record.answer}{rate}{images}\n", style="cyan")
    for response in record.responses:
        text.append_text(_response(response))
    return text


def _response(response: Response) -> Text:
    verdict = response.verdict
    outcome = "not verified" if verdict is None else verdict.outcome
    style = {"RIGHT": "green", "WRONG": "red"}.get(outcome, "yellow")
    text = Text(f"  #{response.attempt} ", style="default")
    text.append(f"{outcome:<9}", style=style)
    text.append(f" {_clip(response.text, 300)}", style="default")
    if verdict is not None:
        text.append(f"\n     {verdict.verifier}: {verdict.reason}", style="dim")
    return text.append("\n")


def _clip(text: str, length: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def dropped(
    console: Console, folders: Sequence[StageFolder], step: str | None, prefix: str, rows: int
) -> None:
    """Dropped rows with their step and reason, and how many there are of each."""
    found: list[dict[str, Any]] = []
    counts: dict[tuple[str, str], int] = {}
    for row in _dropped_rows(folders, step, prefix):
        counts[row["step"], row["reason"]] = counts.get((row["step"], row["reason"]), 0) + 1
        if len(found) < rows:
            found.append(row)
    if not counts:
        console.print("Nothing was dropped there.")
        return
    for (name, reason), count in counts.items():
        console.print(Text(f"{count:>8,}  {name}: {reason}"))
    for row in found:
        detail = f" ({row['detail']})" if row["detail"] else ""
        console.print(Text(f"\n{row['id']}  {row['step']}: {row['reason']}{detail}", style="bold"))
        console.print(Text(f"  {_clip(row['question'] or dict(row['meta']).get('row', ''), 300)}"))
        if row["answer"]:
            console.print(Text(f"  answer: {row['answer']}", style="cyan"))
        for response in row["responses"][:3]:
            console.print(
                Text(
                    f"  #{response['attempt']} {(response['verdict'] or {}).get('outcome', '')} {_clip(response['text'], 200)}"
                )
            )


def _dropped_rows(
    folders: Sequence[StageFolder], step: str | None, prefix: str
) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for row in iter_dropped(folder):
            if (step is None or row["step"] == step) and row["id"].startswith(prefix):
                yield row


def table(console: Console, folder: StageFolder, name: str, rows: int) -> None:
    """The first rows of a table that a step made."""
    import polars as pl

    path = folder.table(name)
    if not path.exists():
        raise RecipeError(
            f"{folder.path.name} has no table {name!r}. It has: {', '.join(folder.tables()) or 'none'}."
        )
    frame = pl.read_parquet(path)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in frame.columns:
        shown.add_column(column, overflow="fold")
    for row in frame.head(rows).iter_rows():
        shown.add_row(*(Text(_clip(str(value), 120)) for value in row))
    console.print(shown)
    console.print(f"{min(rows, frame.height):,} of {frame.height:,} rows", highlight=False)
