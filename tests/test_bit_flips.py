"""Single flipped bits: each is noticed before a release is written, or the release is the same."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from omr_data.errors import OmrError
from omr_data.operators import explode, rollout, verify
from omr_data.processes import SerialMapper
from omr_data.release.package import release
from omr_data.release.verify import release_problems
from omr_data.step import Step
from omr_data.store.check import workspace_problems
from omr_data.store.workspace import Workspace
from omr_data.teachers import echo
from tests.engine.tiny import DropLast, Numbers, Odd, Said, Same, run
from tests.omr import digests
from tests.release.test_package import Pictured

STEPS: tuple[Step, ...] = (
    DropLast((Numbers(3, "known"),)),
    rollout.Sample(echo.Teacher(answers=("7", "9", "11")), n=8),
    verify.Answers(),
    explode.Right(),
)
IGNORED = ("lock", "rollouts.sqlite", "rollouts.sqlite-wal", "rollouts.sqlite-shm")
"""Files that hold no data, and the store of rollouts, which has tests of its own."""


def make(folder: Path) -> None:
    """Builds and releases; what is there is used again."""
    built = run(Pictured(12).then(Same(), Odd(), *STEPS), folder)
    workspace = Workspace(folder / "work")
    release(built, workspace, folder / "releases", None, SerialMapper(), Said())


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def outcome(whole: Path, folder: Path, chance: random.Random, again: bool) -> tuple[str, str]:
    """Flips one bit in a copy, builds and releases again; says which file, and what happened."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    files = [
        path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in IGNORED
    ]
    path = chance.choice([path for path in files if path.stat().st_size])
    flip(path, chance.randrange(8 * path.stat().st_size))
    if again:
        # As if the build had been interrupted: it looks at every shard, and releases again.
        for summary in sorted((folder / "work/stages").glob("*/stage.json")):
            if summary != path:
                summary.unlink()
        if folder / "releases" not in path.parents:
            shutil.rmtree(folder / "releases")
    try:
        make(folder)
    except OmrError:
        return path.name, "noticed"
    same = digests(whole / "releases") == digests(folder / "releases")
    return path.name, "harmless" if same else "SILENT"


def trials(tmp_path: Path, number: int) -> Counter[str]:
    whole = tmp_path / "whole"
    make(whole)
    chance = random.Random(0)
    found: Counter[str] = Counter()
    for trial in range(number):
        name, result = outcome(whole, tmp_path / "copy", chance, again=bool(trial % 4))
        assert result != "SILENT", f"trial {trial}: a flipped bit in {name} changed a release"
        found[result] += 1
    return found


@pytest.mark.build
def test_no_flipped_bit_changes_a_release(tmp_path: Path) -> None:
    found = trials(tmp_path, 12)
    assert found["noticed"] > 3


@pytest.mark.slow
def test_none_of_four_hundred_flipped_bits_changes_a_release(tmp_path: Path) -> None:
    found = trials(tmp_path, 400)
    print(found)
    assert found["noticed"] > 150


@pytest.mark.slow
def test_two_hundred_flipped_bits_are_found_by_reading_everything(tmp_path: Path) -> None:
    """`omr check` and `omr verify-release` notice every flip in what they promise to check."""
    make(tmp_path)
    chance = random.Random(1)
    work, releases = tmp_path / "work", tmp_path / "releases/tiny/1.0.0"
    stored = [*(work / "stages").rglob("*"), *(work / "images").rglob("*"), *releases.rglob("*")]
    files = [path for path in sorted(stored) if path.is_file()]
    for _ in range(200):
        path = chance.choice(files)
        data = path.read_bytes()
        flip(path, chance.randrange(8 * len(data)))
        problems = [*workspace_problems(Workspace(work)), *release_problems(releases)]
        path.write_bytes(data)
        if not problems:
            # Between the values of a sealed file, a blank may become another blank.
            assert path.suffix == ".json", path
            assert work in path.parents, path
