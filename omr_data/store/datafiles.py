"""Which files below a folder are data.

Both sides use this one rule: the locator, which digests the files of a dataset, and the reader of
images that rows refer to. A file that could be read without being digested could change without
changing any fingerprint.
"""

import json
from pathlib import Path, PurePosixPath

MARKER = "workspace.json"
"""The file that makes a folder a workspace."""


def why_not_data(root: Path, relative: str) -> str | None:
    """Says why a file is not part of a dataset, or None when it is.

    Hidden files, workspaces and releases are never data, so that a dataset can be the folder that a
    recipe lives in. Links that leave the dataset are not followed, and neither are linked folders:
    what they point to can be exchanged without changing a byte below the root.

    Args:
        root: The folder of the dataset.
        relative: The path of an existing file below it.
    """
    folder = root
    *parents, name = PurePosixPath(relative).parts
    for part in parents:
        folder /= part
        if part.startswith("."):
            return "it is in a hidden folder"
        if folder.is_symlink():
            return f"{part} is a link to another folder"
        if is_workspace(folder) or is_release(folder):
            return f"{part} is a workspace or a release"
    if name.startswith("."):
        return "it is hidden"
    path = folder / name
    if path.is_symlink() and not _inside(path.resolve(), root.resolve()):
        return "it is a link that leaves the dataset"
    return None


def is_workspace(folder: Path) -> bool:
    """Tells whether a folder is a workspace of this package, also one of before it had a marker."""
    return (folder / MARKER).exists() or (folder / "rollouts.sqlite").exists()


def is_release(folder: Path) -> bool:
    """Tells whether a folder is a release: its manifest holds a plan."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        # No manifest, or one that is not ours: other tools write files of this name.
        return False
    return isinstance(manifest, dict) and "plan" in manifest and "files" in manifest


def _inside(target: Path, root: Path) -> bool:
    if root.parent.name == "snapshots":
        # The Hub's cache: each file of a snapshot is a link to ../../blobs, where content is stored
        # under its own digest.
        return target.is_relative_to(root.parent.parent / "blobs") or target.is_relative_to(root)
    return target.is_relative_to(root)
