"""Builds the wheel, installs it in a folder elsewhere and uses it there: python -m tests.wheel.

The package is imported from that folder, with the dependencies of this environment: what could be
missing from a wheel are files of the package itself, such as the embedded weights.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.omr import ROOT

RECIPE = """
from omr_data import ALL, Recipe, mix
from omr_data.operators import dedup, verify
from omr_data.sources import synthetic


def recipe() -> Recipe:
    questions = synthetic.Source(count=20).then(verify.Gold(), dedup.Exact())
    return Recipe(name="from-a-wheel", version="1.0.0", data=mix({questions: ALL}))
"""
"""What a user writes on the first day."""


def run(*command: object, folder: Path, packages: Path) -> str:
    """Runs a command as a user elsewhere would, and returns what it printed.

    Args:
        command: The program and its arguments.
        folder: The current folder.
        packages: Where the wheel is installed.
    """
    # A folder on PYTHONPATH goes before the editable install of this environment.
    environment = os.environ | {"PYTHONPATH": str(packages), "MYPYPATH": str(packages)}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Builds, installs, imports, plans, and checks the types of a recipe."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packages, work = folder / "packages", folder / "work"
        packages.mkdir()
        work.mkdir()
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        wheels = folder / "wheels"
        # From a copy, because setuptools leaves a folder `build` beside the sources.
        copy = folder / "copy"
        shutil.copytree(ROOT / "omr_data", copy / "omr_data")
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, copy)
        run(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, copy, folder=work, packages=packages)
        (wheel,) = wheels.glob("*.whl")
        run(
            *pip,
            "install",
            "--no-deps",
            "--target",
            packages,
            wheel,
            folder=work,
            packages=packages,
        )
        where = run(
            sys.executable,
            "-c",
            "import omr_data; print(omr_data.__file__)",
            folder=work,
            packages=packages,
        )
        if not where.startswith(str(packages)):
            raise SystemExit(f"omr_data was imported from {where}, and not from the wheel.")
        for needed in ("py.typed", "teachers/tiny/weights/model.safetensors"):
            if not (packages / "omr_data" / needed).is_file():
                raise SystemExit(f"The wheel lacks omr_data/{needed}: add it to package-data.")
        (work / "recipe.py").write_text(RECIPE, encoding="utf-8")
        plan = run(
            sys.executable,
            "-m",
            "omr_data.cli",
            "plan",
            "recipe.py",
            folder=work,
            packages=packages,
        )
        if "dedup.Exact" not in plan:
            raise SystemExit(f"The plan of a small recipe is not as expected:\n{plan}")
        run(sys.executable, "-m", "mypy", "--strict", "recipe.py", folder=work, packages=packages)
        print(f"{wheel.name}: imported, planned and typed outside the repository")


if __name__ == "__main__":
    main()
