"""Checks a workspace byte by byte: stages, images, and the store of paid answers."""

from collections.abc import Iterator

from omr_data.errors import StoreError
from omr_data.store.rollouts import RolloutStore
from omr_data.store.workspace import Workspace


def workspace_problems(workspace: Workspace) -> Iterator[str]:
    """Yields what is wrong with a workspace. It reads every byte, at about 1 GB/s.

    Args:
        workspace: The workspace. No build should be running in it.

    Raises:
        StoreError: The workspace does not exist, or another version made it.
    """
    if not workspace.root.is_dir():
        raise StoreError(
            f"the workspace {workspace.root} does not exist. Give its folder with --work."
        )
    workspace.check_format()
    # Stages, images, rollouts: from what can be built again to what cannot.
    for folder in workspace.stages():
        yield from folder.check()
    yield from workspace.images.check()
    if not workspace.rollouts.exists():
        return
    try:
        if not RolloutStore.is_there(workspace.rollouts):
            yield (
                f"{workspace.rollouts} is not a rollout store, or lacks tables. Restore it from a "
                "copy: it holds paid answers that cannot be made again."
            )
            return
        with RolloutStore.read(workspace.rollouts) as store:
            yield from store.check()
    except StoreError as error:
        # A page of the file itself is damaged, so its rows could not be listed.
        yield str(error)
