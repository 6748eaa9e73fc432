"""`omr pin`: looks up the commits of a recipe's Hub datasets."""

from omr_data.cli.common import WORK, RecipeFile, SetOption, load_job
from omr_data.sources.hub import HubSource, Source
from omr_data.sources.locator import look_up_pins, read_pins


def pin_command(file: RecipeFile, set: SetOption = None) -> None:
    """Look up the commits of a recipe's datasets on the Hub, and write them to pins.json.

    The file stands beside the recipe. Commits that it has already are kept.
    """
    job = load_job(file, set, None, WORK)
    # A commit that the recipe itself names needs no pin. A mirror is not asked: it has no commits.
    repos = [
        node.spec.repo
        for node in job.plan.nodes
        if isinstance(node.spec, HubSource | Source) and node.spec.commit is None
    ]
    # Old pins are kept: to take a new commit is a choice, made by deleting its line.
    path = file.parent / "pins.json"
    before = read_pins(path)
    for repo, commit in look_up_pins(sorted({*repos}), path).items():
        status = "" if repo in before else "  new"
        print(f"{repo}  {commit}{status}")
