"""From candidate keys to pairs, and from pairs to components, without ever making all pairs of a large group."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALL = 8
"""A group of up to so many gives all its pairs; in a larger one, each member is compared with the clusters found so far."""
LATEST = 32
"""In a large group, a member is compared with at most so many clusters, the latest first."""


class Components:
    """Union-find over 0 .. size - 1. The root of a component is its smallest member."""

    def __init__(self, size: int) -> None:
        self.parents = np.arange(size)

    def root(self, item: int) -> int:
        """The smallest member of an item's component."""
        parent = self.parents
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = int(parent[item])
        return item

    def join(self, one: int, other: int) -> None:
        """Makes two components one."""
        low, high = sorted((self.root(one), self.root(other)))
        self.parents[high] = low

    def roots(self) -> "NDArray[np.int64]":
        """The root of every item."""
        return np.array([self.root(item) for item in range(len(self.parents))], np.int64)


def groups_of(keys: "NDArray[np.uint64]", items: "NDArray[np.int64]") -> "list[NDArray[np.int64]]":
    """The items that share a key in some column of `keys`, shape (items, columns); each group sorted, equal groups once.

    One column at a time, so that memory does not grow with their number. Most groups are pairs, which never become objects
    until they are told apart.
    """
    pairs: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    larger: dict[bytes, NDArray[np.int64]] = {}
    for column in range(keys.shape[1]):
        values = np.ascontiguousarray(keys[:, column])
        order = np.argsort(values)
        values = values[order]
        starts = (
            np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
            if len(order)
            else np.zeros(0, np.int64)
        )
        sizes = np.diff(np.concatenate([starts, [len(order)]]))
        two = starts[sizes == 2]
        pairs.append(np.sort(np.stack([items[order[two]], items[order[two + 1]]], 1), 1))
        for start, size in zip(starts[sizes > 2].tolist(), sizes[sizes > 2].tolist(), strict=True):
            group = np.sort(items[order[start : start + size]])
            larger.setdefault(group.tobytes(), group)
    return [*np.unique(np.concatenate(pairs), axis=0), *larger.values()]


def small_pairs(groups: "list[NDArray[np.int64]]") -> "NDArray[np.int64]":
    """All pairs of the small groups, shape (pairs, 2), each once and the smaller item first."""
    pairs = {
        (int(group[first]), int(group[second]))
        for group in groups
        if len(group) <= SMALL
        for second in range(1, len(group))
        for first in range(second)
    }
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def join_large(
    groups: "list[NDArray[np.int64]]", components: Components, alike: Callable[[int, int], bool]
) -> None:
    """Joins what is alike inside the large groups: linear in their size times the clusters in them, at most 32."""
    for group in groups:
        if len(group) <= SMALL:
            continue
        leaders: list[int] = []
        for item in group.tolist():
            root = components.root(item)
            if any(components.root(leader) == root for leader in leaders[-LATEST:]):
                continue
            match = next(
                (leader for leader in reversed(leaders[-LATEST:]) if alike(leader, item)), None
            )
            if match is None:
                leaders.append(item)
            else:
                components.join(match, item)
