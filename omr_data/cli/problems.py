"""Why a plan cannot be built here: problems grouped by kind, each kind with one thing to do.

A recipe of thirty datasets can have thirty problems of one kind. Listed one by one they hide the
single command that solves them all, so datasets with the same problem share one paragraph.
"""

import shlex

from omr_data.cli.common import RecipeJob, wrap
from omr_data.errors import UnpinnedError

WIDTH = 80
"""Columns of a message. It does not follow the terminal, so that logs and tests show the same."""

_DATASET = "DATASET"
"""Stands in a shared message for the dataset that differs."""


def require_ready(job: RecipeJob) -> None:
    """Raises an error when the plan of a recipe cannot be built on this machine.

    Raises:
        OmrError: The problem itself where there is one, otherwise an error of the first problem's
            kind, whose message groups all of them.
    """
    problems = job.plan.problems()
    if len(problems) == 1:
        raise problems[0]
    if problems:
        paragraphs = [f"{job.plan.recipe.name} cannot be built yet."]
        for message, datasets in grouped(job).items():
            if len(datasets) == 1:
                message = message.replace(_DATASET, datasets[0])
            lines = wrap(message, WIDTH, "  ", "- ")
            if len(datasets) > 1:
                lines += wrap(f"{len(datasets)} datasets: {', '.join(datasets)}", WIDTH, "  ")
            paragraphs.append("\n".join(lines))
        raise type(problems[0])("\n\n".join(paragraphs))


def grouped(job: RecipeJob) -> dict[str, list[str]]:
    """Returns the datasets with a problem by message, in the order of the plan.

    In the message, the word DATASET stands for the dataset.
    """
    groups: dict[str, list[str]] = {}
    for node in job.plan.nodes:
        repo = getattr(node.spec, "repo", node.name)
        for problem in node.problems:
            # A commit that is written in the recipe is not looked up: that problem stays as it is.
            if isinstance(problem, UnpinnedError) and getattr(node.spec, "commit", None) is None:
                message = (
                    f"{_DATASET} has no pinned commit. This looks up every missing commit on the "
                    f"Hub: `{pin_line(job)}`. Without the Hub, give a mirror folder with "
                    "--mirror DIR."
                )
            else:
                named = str(problem).replace(f"{node.name} ({repo})", _DATASET)
                message = named.replace(repo, _DATASET)
            datasets = groups.setdefault(message, [])
            # One dataset can be two nodes of a plan: its train split, and its test split to
            # decontaminate against.
            if repo not in datasets:
                datasets.append(repo)
    return groups


def pin_line(job: RecipeJob) -> str:
    """Returns the command that pins a recipe, with what decides which datasets it reads."""
    arguments = [f"--set {shlex.quote(argument)}" for argument in job.arguments]
    return " ".join(["omr pin", shlex.quote(str(job.file)), *arguments])
