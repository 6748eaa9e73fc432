"""`omr train sft`, `omr train gspo` and `omr eval`: train a model on a release, and measure it.

Everything that needs torch is imported inside the commands: the other commands work without it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from omr_data.arguments import pairs
from omr_data.cli.common import Mirror, main_console, require_extra
from omr_data.errors import TrainError
from omr_data.sources import prompts
from omr_data.sources.locator import LocalDatasets, read_pins
from omr_data.store.atomic import write_text

if TYPE_CHECKING:
    from omr_data.train.evaluate import Score

app = typer.Typer(
    help="Train a model on a release. "
    "Under torchrun: torchrun --nproc-per-node 8 -m omr_data.cli train ...",
    no_args_is_help=True,
)
ReleaseName = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE", help="A release's folder, or organization/name@version on the Hub."
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        help="The run's folder: checkpoints, metrics.jsonl, curves.png, and the model at the end."
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting other than the preset's; may be repeated."
    ),
]
Show = Annotated[bool, typer.Option("--show", help="Print every setting and stop.")]


@app.command("sft")
def sft_command(
    data: ReleaseName,
    preset: Annotated[str, typer.Option(help="tiny-sft or omr-7b-sft.")],
    out: Out,
    set: Setting = None,
    show: Show = False,
) -> None:
    """Supervised fine-tuning. The same command goes on after a kill."""
    require_extra("train", "torch", "transformers")
    from omr_data.train import settings, sft

    chosen = settings.changed(settings.preset(settings.SFT, preset), pairs(set, TrainError))
    if show:
        print(json.dumps(settings.as_json(chosen), indent=1))
    else:
        print_model(main_console(), sft.train(chosen, data, out))


@app.command("gspo")
def gspo_command(
    data: ReleaseName,
    preset: Annotated[str, typer.Option(help="tiny-gspo or omr-7b-gspo.")],
    out: Out,
    set: Setting = None,
    show: Show = False,
) -> None:
    """Reinforcement learning with verified rewards.

    The loss is GSPO, or with --set loss=grpo or loss=dapo another. After a kill, the same command
    goes on from the last checkpoint.
    """
    require_extra("train", "torch", "transformers")
    from omr_data.train import gspo, settings

    chosen = settings.changed(settings.preset(settings.GSPO, preset), pairs(set, TrainError))
    if show:
        print(json.dumps(settings.as_json(chosen), indent=1))
    else:
        print_model(main_console(), gspo.train(chosen, data, out))


def eval_command(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A folder, a Hub id, or tiny for the embedded model."),
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A release, or the name of a source like synthetic or gsm8k."
        ),
    ],
    of: Annotated[
        list[str] | None,
        typer.Option(
            "--of", metavar="NAME=VALUE", help="An argument of the source, like split=test."
        ),
    ] = None,
    set: Setting = None,
    mirror: Mirror = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the score and every answer to this JSON file.")
    ] = None,
) -> None:
    """Measure a model: accuracy and pass@k with intervals, greedy or sampled."""
    require_extra("train", "torch", "transformers")
    from omr_data.train import evaluate, settings
    from omr_data.train.release import PolicyPrompt, open_release

    chosen = settings.changed(settings.Eval(model=model), pairs(set, TrainError))
    # Rows of a source that cannot be read are counted in the score; a release has none.
    bad: Mapping[str, int] | None = None
    # A name like "gsm8k" is a source. Releases are folders, or "organization/name@version".
    if Path(data).exists() or "@" in data:
        asked = open_release(data).prompts()
    else:
        source = prompts.named_source(data, pairs(of, TrainError))
        locator = LocalDatasets(mirror, read_pins(Path("pins.json")), data)
        questions, bad = prompts.read_questions(source, locator)
        asked = [PolicyPrompt.from_record(one.record, one.images) for one in questions]
    score, results = evaluate.evaluate(chosen, asked, data, bad)
    # Under torchrun every process comes here with the same score; one of them writes it.
    if out is not None and os.environ.get("RANK", "0") == "0":
        report = score.to_json() | {"answered": [asdict(one) for one in results]}
        write_text(out, json.dumps(report, indent=1, ensure_ascii=False))
    print_score(main_console(), score)


def print_model(console: Console, folder: Path) -> None:
    """Prints where a trained model is, and what to do with it."""
    curves = folder.parent / "curves.png"
    console.print(
        f"the model is in {folder}; its curves in {curves}", highlight=False, soft_wrap=True
    )
    console.print(f"Measure it: omr eval {folder} RELEASE", highlight=False, soft_wrap=True)


def print_score(console: Console, score: "Score") -> None:
    """Prints the measures of a model, a line each."""
    shown = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title=f"{score.model} on {score.data}",
        title_justify="left",
    )
    shown.add_column("", justify="left", no_wrap=True)
    shown.add_column("", justify="right", no_wrap=True)
    shown.add_column("95% interval", justify="left", no_wrap=True)
    # Three digits: with a thousand questions the interval is wider than the third.
    lines = [("accuracy", score.accuracy)]
    lines += [(f"pass@{k}", share) for k, share in score.pass_at.items()]
    # Intervals are always shown: a score without one invites comparing noise.
    # With one source its accuracy is the first line already.
    if len(score.by_source) > 1:
        lines += [(f"accuracy, {source}", share) for source, share in score.by_source.items()]
    for name, share in lines:
        shown.add_row(name, f"{share.value:.3f}", f"{share.low:.3f} to {share.high:.3f}")
    console.print(shown)
    left_out = "".join(f", {count:,} left out: {reason}" for reason, count in score.skipped.items())
    console.print(
        f"{score.answers:,} answers to {score.questions:,} questions, "
        f"{score.undecided:.1%} undecided, {score.left_out:.1%} do not count (cut off){left_out}",
        highlight=False,
    )
