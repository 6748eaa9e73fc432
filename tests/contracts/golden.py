"""Writes the golden outputs of steps: python -m tests.contracts.golden [NAME ...].

Refuses to write another output for the same input at the same revision: a step whose result changes
must get a new `revision`, because results of the old behavior are in people's caches.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from omr_data.step import Step
from tests.contracts.steps import FIXTURES, GOLDEN, read_fixture, run, step_classes


def output(cls: type[Step], folder: Path) -> dict[str, Any]:
    """Runs all cases of a step.

    Args:
        cls: The step.
        folder: An empty folder for shards.

    Returns:
        What its golden file should hold.
    """
    fixture = read_fixture(cls)
    cases = {}
    for number, (name, step) in enumerate(fixture.cases.items()):
        result = run(step, fixture, folder / str(number), [fixture.records])
        cases[name] = result.to_json(fixture.records)
    found = {"revision": cls.revision, "fixture": fixture.digest, "cases": cases}
    # Through JSON and back, so that tuples and lists compare equal to what a file holds.
    read: dict[str, Any] = json.loads(json.dumps(found))
    return read


def main() -> None:
    """Writes the golden files of the named steps, or of all that have a fixture."""
    names = sys.argv[1:]
    classes = [cls for cls in step_classes() if not names or cls.name in names]
    if unknown := set(names) - {cls.name for cls in classes}:
        raise SystemExit(f"There is no step {', '.join(sorted(unknown))} in omr_data/operators.")
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for cls in classes:
        if not names and not (FIXTURES / f"{cls.name}.json").is_file():
            print(f"{cls.name} has no fixture")
            continue
        path = GOLDEN / f"{cls.name}.json"
        with tempfile.TemporaryDirectory() as folder:
            found = output(cls, Path(folder))
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        same = all(before.get(key) == found[key] for key in ("revision", "fixture"))
        if same and before != found:
            raise SystemExit(
                f"{cls.name} gives another output for the same fixture at revision {cls.revision}. "
                f"Set `revision: ClassVar[int] = {cls.revision + 1}` in {cls.__module__}, or undo "
                "the change."
            )
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.name} written")


if __name__ == "__main__":
    main()
