"""The manifest of a release: what it holds, what it was made from, and the sha256 of every file.

`sha256` in it is the digest of the manifest itself without that field, so that a changed manifest
is noticed as well as a changed file.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omr_data.engine.build import Built
from omr_data.errors import ReleaseError
from omr_data.source import Source
from omr_data.store.atomic import write_text
from omr_data.store.ledger import read_json, seal
from omr_data.store.workspace import check_format, made_by

FORMAT = 2
"""The format of releases. Raise it when a manifest or the rows change in a way that readers
notice."""
NAME = "manifest.json"
"""The name of the file."""


def make_manifest(
    built: Built,
    rows: int,
    by_source: Mapping[tuple[str, str], tuple[int, int]],
    files: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Returns the manifest of a release.

    Args:
        built: The plan, built.
        rows: Rows of the release.
        by_source: Rows and questions by (source, license).
        files: Path, size and sha256 of each file.
    """
    plan = built.plan
    # No times and no machine: equal plans must give equal bytes.
    sources = [
        {
            "name": node.name,
            "repo": getattr(node.spec, "repo", None),
            "commit": node.pin.commit,
            "digest": node.pin.digest,
        }
        for node in plan.nodes
        if isinstance(node.spec, Source)
    ]
    return {
        **made_by(FORMAT),
        "name": plan.recipe.name,
        "version": plan.recipe.version,
        "rows": rows,
        "by_source": [
            {"source": source, "license": license, "rows": held, "questions": questions}
            for (source, license), (held, questions) in by_source.items()
        ],
        "sources": sources,
        "counts": [count.to_json() for count in built.counts()],
        "files": list(files),
        "plan": plan.to_json(),
    }


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Returns the text of a manifest, with its digest."""
    # The digest cannot be a part of what it is a digest of.
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    return json.dumps({**body, "sha256": seal(body)}, indent=1, ensure_ascii=False) + "\n"


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of a release, with its digest. Raises StoreError."""
    write_text(folder / NAME, manifest_text(manifest))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads the manifest of a release.

    Raises:
        StoreError: It is missing, is not JSON, or has another format.
        ReleaseError: It was changed after it was written.
    """
    path = folder / NAME
    manifest = read_json(path)
    # The format comes first: another one may have no digest, or another kind of it.
    check_format(
        manifest,
        FORMAT,
        f"the release {folder}",
        "Read it with the version that made it, or build and release it again under a new version.",
    )
    # Byte by byte, not by meaning: a release never changes, not even in its layout.
    if path.read_bytes() != manifest_text(manifest).encode():
        raise ReleaseError(
            f"{path} was changed after it was written. Delete the release {folder} and build it "
            "again, or fetch it again."
        )
    return manifest
