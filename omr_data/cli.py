"""The command line: `omr plan | build | release | show | pin | verify | rollouts | teacher | train | eval`.

Each command loads a recipe file, works out its plan, and hands it to the part of the package that does the work.
"""

import importlib.util
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from omr_data import display
from omr_data.arguments import pairs
from omr_data.engine.build import Built, Calls, build, folders, teacher_calls
from omr_data.errors import MissingExtra, OmrError, RecipeError, TrainError
from omr_data.plan import Plan, make_plan
from omr_data.processes import Mapper, mapper
from omr_data.progress import reporter
from omr_data.recipe import load, load_in_worker
from omr_data.release.package import check_drift, release
from omr_data.sources.hub import HubSource
from omr_data.sources.locator import LocalDatasets, look_up_pins, read_pins
from omr_data.store.atomic import write_text
from omr_data.store.replay import export_rollouts, import_rollouts
from omr_data.store.rollouts import RolloutStore
from omr_data.store.workspace import Workspace
from omr_data.teacher import Budget
from omr_data.verifiers import cascade
from omr_data.verifiers.base import AnswerPair

app = typer.Typer(
    help="Make multimodal-reasoning training data: plan, build, release.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe's Python file.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="An argument of the recipe; may be repeated."),
]
Mirror = Annotated[
    Path | None,
    typer.Option(
        envvar="OMR_HUB_MIRROR",
        help="A folder of datasets in Hub layout that stands in for the Hub.",
    ),
]
Work = Annotated[Path, typer.Option(help="The workspace: stages, images and paid rollouts.")]
Releases = Annotated[Path, typer.Option(help="Where releases are.")]
Workers = Annotated[
    int, typer.Option(min=1, help="Worker processes. The result does not depend on it.")
]

WORK = Path(".omr")
RELEASES = Path("releases")
WORKERS = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class RecipeJob:
    """A recipe file with its plan on this machine."""

    file: Path
    locator: LocalDatasets
    plan: Plan
    workspace: Workspace

    def prose(self) -> str | None:
        """The hand-written card: cards/<name>.md beside the recipe, or beside its folder."""
        for folder in (self.file.parent / "cards", self.file.resolve().parent.parent / "cards"):
            path = folder / f"{self.plan.recipe.name}.md"
            if path.is_file():
                return path.read_text()
        return None


def _job(file: Path, arguments: Sequence[str] | None, mirror: Path | None, work: Path) -> RecipeJob:
    recipe = load(file, pairs(arguments, RecipeError))
    locator = LocalDatasets(mirror, read_pins(file.parent / "pins.json"), str(file))
    return RecipeJob(file, locator, make_plan(recipe, locator), Workspace(work))


@app.command("plan")
def plan_command(
    file: RecipeFile,
    set: Set = None,
    mirror: Mirror = None,
    work: Work = WORK,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show what a build would do: each step CACHED or RUN, and the answers to ask for. Runs nothing."""
    job = _job(file, set, mirror, work)
    cut, where = folders(job.plan, job.workspace)
    state = {
        node.fingerprint: "CACHED" if folder.done() else "RUN"
        for stage, folder in zip(cut.stages, where, strict=True)
        for node in stage.nodes
    }
    calls = teacher_calls(job.plan, job.workspace)
    if as_json:
        lines = [
            line
            | {"state": state.get(line["fingerprint"], "")}
            | _asked(calls.get(line["fingerprint"]))
            for line in job.plan.to_json()["nodes"]
        ]
        print(json.dumps(job.plan.to_json() | {"nodes": lines}, indent=1, ensure_ascii=False))
    else:
        display.plan(_console(), job.plan, state, calls)
    job.plan.require_ready()


def _asked(calls: Calls | None) -> dict[str, object]:
    if calls is None:
        return {"teacher_calls": None}
    return {"teacher_calls": calls.attempts} | (
        {"estimate": asdict(calls.estimate)} if calls.estimate else {}
    )


@app.command("build")
def build_command(
    file: RecipeFile,
    set: Set = None,
    mirror: Mirror = None,
    work: Work = WORK,
    releases: Releases = RELEASES,
    workers: Workers = WORKERS,
    budget: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Pause when so much is spent, like 500usd.")
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=0, help="Pause after so many requests.")
    ] = None,
) -> None:
    """Build a recipe and release it. What is already there is not made again, and no paid answer is asked for twice."""
    job = _job(file, set, mirror, work)
    limit = Budget(_dollars(budget), max_requests)
    job.plan.require_ready()
    check_drift(job.plan, releases)
    console = Console(stderr=True)
    with job.workspace.lock(), _mapper(job, workers) as processes:
        built = build(
            job.plan, job.workspace, job.locator, processes, workers, reporter(console), limit
        )
        folder = release(built, job.workspace, releases, job.prose(), processes, reporter(console))
    display.released(Console(), folder)


def _dollars(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"\$?(\d+(?:\.\d+)?)(?:usd)?", text.strip().lower())
    if match is None:
        raise RecipeError(
            f"--budget takes US dollars, and got {text!r}. Write for example --budget 500usd."
        )
    return float(match[1])


@app.command("release")
def release_command(
    file: RecipeFile,
    set: Set = None,
    mirror: Mirror = None,
    work: Work = WORK,
    releases: Releases = RELEASES,
    workers: Workers = WORKERS,
) -> None:
    """Release what is built already, and refuse what is not."""
    job = _job(file, set, mirror, work)
    job.plan.require_ready()
    cut, where = folders(job.plan, job.workspace)
    left = [
        stage.last.name
        for stage, folder in zip(cut.stages, where, strict=True)
        if not folder.done()
    ]
    if left:
        raise RecipeError(
            f"{job.plan.recipe.name} is not built yet: {', '.join(left)} did not run. `omr build {file}` builds and releases it."
        )
    with job.workspace.lock(), _mapper(job, workers) as processes:
        built = Built(job.plan, cut, where)
        folder = release(
            built, job.workspace, releases, job.prose(), processes, reporter(Console(stderr=True))
        )
    display.released(Console(), folder)


def _mapper(job: RecipeJob, workers: int) -> AbstractContextManager[Mapper]:
    return mapper(workers, load_in_worker, job.file.resolve())


@app.command("show")
def show_command(
    file: RecipeFile,
    set: Set = None,
    mirror: Mirror = None,
    work: Work = WORK,
    step: Annotated[
        str | None,
        typer.Option(help="A step of the plan, like verify.Answers; the last one if not given."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")] = 3,
    id: Annotated[str | None, typer.Option(help="Only rows whose id starts so.")] = None,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Show rows that were dropped, with the reason.")
    ] = False,
    table: Annotated[
        str | None, typer.Option(help="Show a table that the step made, like pairs.")
    ] = None,
) -> None:
    """Show rows of a built step, the rows it dropped, or a table it made."""
    job = _job(file, set, mirror, work)
    cut, where = folders(job.plan, job.workspace)
    built = [
        (stage, folder) for stage, folder in zip(cut.stages, where, strict=True) if folder.done()
    ]
    chosen = [
        (stage, folder)
        for stage, folder in built
        if step is None or step in (node.name for node in stage.nodes)
    ]
    if not chosen:
        names = list(dict.fromkeys(node.name for stage, _ in built for node in stage.nodes))
        raise RecipeError(
            f"no step {step or ''} of {file} is built. Built are: {', '.join(names) or 'none; run `omr build` first'}."
        )
    console = Console()
    if dropped:
        display.dropped(console, [folder for _, folder in chosen], step, id or "", rows)
    elif table is not None:
        display.table(console, chosen[-1][1], table, rows)
    else:
        display.records(console, [chosen[-1]] if step is None else chosen, id or "", rows)


@app.command("pin")
def pin_command(file: RecipeFile, set: Set = None) -> None:
    """Look up the commit of each Hub dataset of a recipe that has none, and write it to pins.json. Needs the Hub."""
    job = _job(file, set, None, WORK)
    repos = [
        node.spec.repo
        for node in job.plan.nodes
        if isinstance(node.spec, HubSource) and node.spec.commit is None
    ]
    path = file.parent / "pins.json"
    before = read_pins(path)
    for repo, commit in look_up_pins(sorted({*repos}), path).items():
        print(f"{repo}  {commit}{'' if repo in before else '  new'}")


@app.command("verify")
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
    pair = AnswerPair(response, gold, tuple(option or ()), finish_reason)
    for name, line in cascade.STANDARD.explain(pair)[0 if explain else -1 :]:
        print(f"{name:<20} {line}" if explain else line)


rollouts_app = typer.Typer(
    help="The store of paid answers: what it holds, and parquet in and out.", no_args_is_help=True
)
app.add_typer(rollouts_app, name="rollouts")
File = Annotated[Path, typer.Argument(metavar="FILE", help="A parquet file.")]


@rollouts_app.command("stats")
def rollouts_stats(work: Work = WORK) -> None:
    """What the store holds: answers, requests, failures and tokens, by model."""
    path = Workspace(work).rollouts
    with RolloutStore.read(path) as store:
        display.rollouts(Console(), path, store.stats())


@rollouts_app.command("export")
def rollouts_export(file: File, work: Work = WORK) -> None:
    """Write every answer to a parquet file, which replays releases on another machine without a teacher."""
    with RolloutStore.read(Workspace(work).rollouts) as store:
        rows, requests = export_rollouts(store, file)
    print(f"{rows:,} rollouts of {requests:,} requests in {file}")


@rollouts_app.command("import")
def rollouts_import(file: File, work: Work = WORK) -> None:
    """Put the answers of an exported file into the store, after checking every key."""
    workspace = Workspace(work)
    with workspace.lock(), RolloutStore.write(workspace.rollouts) as store:
        rows, new = import_rollouts(store, file)
    print(f"{rows:,} rollouts in {file}, {new:,} new in {workspace.rollouts}")


teacher_app = typer.Typer(help="The embedded teacher.", no_args_is_help=True)
app.add_typer(teacher_app, name="teacher")


@teacher_app.callback()
def teacher_callback() -> None:
    """Keeps `serve` a command of its own."""


@teacher_app.command("serve")
def teacher_serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8000,
) -> None:
    """Serve the embedded teacher as an OpenAI-compatible server, to try the HTTP path with a real model."""
    _need("train", "torch", "transformers")
    _need("view", "starlette", "uvicorn")
    from omr_data.teachers.tiny.serve import serve

    serve(host, port)


train_app = typer.Typer(
    help="Train a model on a release. Under torchrun: torchrun --nproc-per-node 8 -m omr_data.cli train ...",
    no_args_is_help=True,
)
app.add_typer(train_app, name="train")
Data = Annotated[
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


@train_app.command("sft")
def train_sft(
    data: Data,
    preset: Annotated[str, typer.Option(help="tiny-sft or omr-7b-sft.")],
    out: Out,
    set: Setting = None,
    show: Show = False,
) -> None:
    """Supervised fine-tuning. The same command goes on after a kill."""
    _need("train", "torch", "transformers")
    from omr_data.train import settings, sft

    chosen = settings.changed(settings.preset(settings.SFT, preset), pairs(set, TrainError))
    print(json.dumps(settings.as_json(chosen), indent=1)) if show else display.trained(
        _first(), sft.train(chosen, data, out)
    )


@train_app.command("gspo")
def train_gspo(
    data: Data,
    preset: Annotated[str, typer.Option(help="tiny-gspo or omr-7b-gspo.")],
    out: Out,
    set: Setting = None,
    show: Show = False,
) -> None:
    """Reinforcement learning with verified rewards: gspo, or with --set loss= grpo or dapo. The same command goes on after a kill."""
    _need("train", "torch", "transformers")
    from omr_data.train import gspo, settings

    chosen = settings.changed(settings.preset(settings.GSPO, preset), pairs(set, TrainError))
    print(json.dumps(settings.as_json(chosen), indent=1)) if show else display.trained(
        _first(), gspo.train(chosen, data, out)
    )


@app.command("eval")
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
    _need("train", "torch", "transformers")
    from omr_data.train import evaluate, settings

    chosen = settings.changed(settings.Eval(model=model), pairs(set, TrainError))
    if Path(data).exists() or "@" in data:
        problems, bad = evaluate.release_problems(data), None
    else:
        source = evaluate.named_source(data, pairs(of, TrainError))
        problems, bad = evaluate.source_problems(
            source, LocalDatasets(mirror, read_pins(Path("pins.json")), data)
        )
    score, answered = evaluate.evaluate(chosen, problems, data, bad)
    if out is not None and os.environ.get("RANK", "0") == "0":
        write_text(
            out,
            json.dumps(
                score.to_json() | {"answered": [asdict(one) for one in answered]},
                indent=1,
                ensure_ascii=False,
            ),
        )
    display.score(_first(), score)


def _need(extra: str, *modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(module, extra)


def _first() -> Console:
    """Standard output of the first process that torchrun started, or of the only one."""
    return Console(quiet=os.environ.get("RANK", "0") != "0")


def _console() -> Console:
    """Standard output; as wide as a table needs where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def main() -> None:
    """The console script. Errors of this package are one clear line, without a traceback."""
    try:
        app()
    except OmrError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "Stopped. Finished shards and every answer are kept: the same command goes on from here.",
            file=sys.stderr,
        )
        sys.exit(130)


if __name__ == "__main__":
    main()
