"""`omr pin`: looks up the commits of a recipe's Hub datasets."""

from omr_data.cli.common import WORK, RecipeFile, Set, load_job
from omr_data.sources.hub import HubSource
from omr_data.sources.locator import look_up_pins, read_pins


def pin_command(file: RecipeFile, set: Set = None) -> None:
    """Look up the commit of each Hub dataset of a recipe that has none, and write it to pins.json. Needs the Hub."""
    job = load_job(file, set, None, WORK)
    repos = [
        node.spec.repo
        for node in job.plan.nodes
        if isinstance(node.spec, HubSource) and node.spec.commit is None
    ]
    path = file.parent / "pins.json"
    before = read_pins(path)
    for repo, commit in look_up_pins(sorted({*repos}), path).items():
        print(f"{repo}  {commit}{'' if repo in before else '  new'}")
