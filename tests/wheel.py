"""Uses the wheel as a user would, in the environment that `make wheel` has installed it into.

    python -m tests.wheel .venv-wheel/bin/python

What could be missing from a wheel are files beside the code, such as the embedded weights and the
mark that the package is typed. The user's recipe is planned there, and its types are checked.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.omr import environment

RECIPE = """
from omr_data import ALL, Recipe, mix
from omr_data.operators import dedup, verify
from omr_data.sources import synthetic


def recipe() -> Recipe:
    questions = synthetic.Source(count=20).then(verify.Gold(), dedup.Exact())
    return Recipe(name="from-a-wheel", version="1.0.0", data=mix({questions: ALL}))
"""
"""What a user writes on the first day."""
FILES = ("py.typed", "teachers/tiny/weights/model.safetensors")


def run(folder: Path, *command: object) -> str:
    """Runs a command in a folder outside the repository, and returns what it printed.

    Args:
        folder: The current folder.
        *command: The program and its arguments.
    """
    # Without PYTHONPATH, so that the sources beside this file cannot stand in for the wheel.
    given = environment()
    given.pop("PYTHONPATH", None)
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, cwd=folder, env=given, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Imports, plans, and checks the types of a recipe."""
    python = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where = run(folder, python, "-c", "import omr_data; print(omr_data.__path__[0])").strip()
        if not where.startswith(str(python.parents[1])):
            raise SystemExit(f"omr_data was imported from {where}, and not from the wheel.")
        for needed in FILES:
            if not (Path(where) / needed).is_file():
                raise SystemExit(f"The wheel lacks omr_data/{needed}: add it to package-data.")
        (folder / "recipe.py").write_text(RECIPE, encoding="utf-8")
        plan = run(folder, python, "-m", "omr_data.cli", "plan", "recipe.py")
        if "dedup.Exact" not in plan:
            raise SystemExit(f"The plan of a small recipe is not as expected:\n{plan}")
        mypy = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python)
        run(folder, *mypy, "recipe.py")
        print(f"{where}: imported, planned and typed")


if __name__ == "__main__":
    main()
