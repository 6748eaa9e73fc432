"""From keys to candidate pairs, and from pairs to components.

Two kinds of keys find candidates. **Bands** of MinHash signatures, each mixed with the skeleton of
its text, find texts with a high Jaccard similarity: what shares a template and not its numbers
never meets. **Anchors**, the shingles with the smallest hashes, find texts that contain each other
or have many misspelled words; only rare ones are used, since a phrase that many texts have tells
nothing. No step ever makes all pairs of a large group.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from omr_data.similar.kernels import compiled, in_common, mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Items = NDArray[np.int64]

LATEST = 32
"""In a group, a member is compared with at most this many clusters, the latest first. It bounds
the work on a group of n members to 32 n comparisons, at the cost of missing some pairs."""
RARE = 16
"""Texts that may share an anchor. A phrase that more of them have finds no candidates."""
ANCHORS = 24
"""Anchors that a text has about; a text of fewer shingles has them all."""
SHARED = 2
"""Anchors that a pair of candidates shares at least."""


class Groups(NamedTuple):
    """Groups of items that share a key."""

    members: "Items"
    """The items of all groups."""
    edges: "Items"
    """Group i is members[edges[i] : edges[i + 1]]."""


class Components:
    """Union-find over 0 .. size - 1. The root of a component is its smallest member."""

    def __init__(self, size: int) -> None:
        self.parents = np.arange(size)
        # Each join is one link of a spanning forest: the path between two members is their chain.
        self.links = np.zeros((size, 2), np.int64)
        self.count = np.zeros(1, np.int64)

    def root(self, item: int) -> int:
        """The smallest member of an item's component."""
        return int(root_of(self.parents, item))

    def join(self, one: int, other: int) -> None:
        """Makes two components one."""
        link(self.parents, self.links, self.count, one, other)

    def roots(self) -> "Items":
        """The root of every item."""
        return np.array([self.root(item) for item in range(len(self.parents))], np.int64)

    def chain(self, one: int, other: int) -> list[int]:
        """The members through which two members of a component were found, both ends included."""
        # Built at the first call: most decisions ask for a few chains or for none.
        if not hasattr(self, "_neighbors"):
            self._neighbors: dict[int, list[int]] = {}
            for left, right in self.links[: self.count[0]].tolist():
                self._neighbors.setdefault(left, []).append(right)
                self._neighbors.setdefault(right, []).append(left)
        before = {one: one}
        queue = [one]
        # Breadth first, though a forest has one path only: recursion could be a million deep.
        for item in queue:
            for neighbor in self._neighbors.get(item, ()):
                if neighbor not in before:
                    before[neighbor] = item
                    queue.append(neighbor)
            if other in before:
                break
        path = [other]
        while path[-1] != one:
            path.append(before[path[-1]])
        return path[::-1]


@compiled
def link(parents: "Items", links: "Items", count: "Items", one: int, other: int) -> None:
    """Joins the components of two items and remembers the pair.

    Args:
        parents: A union-find.
        links: Receives the pair.
        count: The number of links, in an array of one.
        one: An item.
        other: Another item.
    """
    first, second = root_of(parents, one), root_of(parents, other)
    # The smaller root wins, whatever the order of joins: rows are sorted by who is kept.
    if first != second:
        parents[max(first, second)] = min(first, second)
        links[count[0], 0], links[count[0], 1] = one, other
        count[0] += 1


@compiled
def root_of(parents: "Items", item: int) -> int:
    """The smallest member of an item's component."""
    # Path halving (Tarjan, van Leeuwen 1984): one pass, and paths stay short without ranks.
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item


def groups_of(keys: "Hashes", items: "Items") -> Groups:
    """The groups of two or more items with an equal key.

    Args:
        keys: One key for each item.
        items: The items, ascending. Groups are ascending too.
    """
    # Stable, so that items stay ascending within a group.
    order = np.argsort(keys, kind="stable")
    values = keys[order]
    if not len(values):
        return Groups(np.zeros(0, np.int64), np.zeros(1, np.int64))
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(values)]]))
    # Most keys belong to one item only; these are left out before anything else is done.
    several = np.repeat(sizes > 1, sizes)
    edges = np.concatenate([[0], np.cumsum(sizes[sizes > 1])])
    return Groups(items[order[several]], edges)


def join_equal(normal: "Hashes", items: "Items", components: Components) -> None:
    """Joins items with equal hashes.

    Args:
        normal: Two hashes for each item, shape (items, 2).
        items: The items, ascending.
        components: What they are joined in.
    """
    groups = groups_of(mix_pairs(normal[:, 0], normal[:, 1]), items)
    # Each member is joined with the first one: a group of n costs n joins, not n squared.
    first = groups.members[groups.edges[:-1]]
    leaders = np.repeat(first, np.diff(groups.edges))
    join_pairs(leaders, groups.members, components.parents, components.links, components.count)


@compiled
def join_pairs(
    ones: "Items", others: "Items", parents: "Items", links: "Items", count: "Items"
) -> None:
    """Joins pairs of items.

    Args:
        ones: One item of each pair.
        others: The other item of each pair.
        parents: A union-find over the items.
        links: Receives the pairs that joined two components.
        count: The number of links, in an array of one.
    """
    for pair in range(len(ones)):
        link(parents, links, count, ones[pair], others[pair])


@compiled
def mix_pairs(keys: "Hashes", others: "Hashes") -> "Hashes":
    """Keys that are equal where both are, but for one chance in 2^64."""
    found = np.empty_like(keys)
    # Mixed before they are added, so that (a, b) and (b, a) have different keys.
    for at in range(len(keys)):
        found[at] = mixed(mixed(others[at]) + keys[at])
    return found


@compiled
def join_similar(
    members: "Items",
    edges: "Items",
    shingles: "Hashes",
    begins: "Items",
    threshold: float,
    parents: "Items",
    links: "Items",
    count_of_links: "Items",
) -> None:
    """Joins similar items inside of groups.

    Args:
        members: The items of all groups.
        edges: Group i is members[edges[i] : edges[i + 1]].
        shingles: The distinct shingles of the items, sorted within each item.
        begins: Item i has the shingles begins[i] : begins[i + 1].
        threshold: The least Jaccard similarity.
        parents: A union-find over the items.
        links: Receives the pairs that were joined.
        count_of_links: The number of links, in an array of one.
    """
    leaders = np.empty(LATEST, np.int64)
    for group in range(len(edges) - 1):
        count = 0
        for at in range(edges[group], edges[group + 1]):
            item = members[at]
            ours = shingles[begins[item] : begins[item + 1]]
            found = False
            for back in range(min(count, LATEST)):
                # A ring of the latest leaders: neighbors in a group are often from one source.
                leader = leaders[(count - 1 - back) % LATEST]
                one, other = root_of(parents, leader), root_of(parents, item)
                found = one == other
                if not found:
                    theirs = shingles[begins[leader] : begins[leader + 1]]
                    small, large = min(len(ours), len(theirs)), max(len(ours), len(theirs))
                    # Sizes bound the similarity, so that most pairs need no comparison.
                    if small < threshold * large:
                        continue
                    common = in_common(ours, theirs)
                    found = common >= threshold * (small + large - common)
                    if found:
                        link(parents, links, count_of_links, leader, item)
                if found:
                    break
            if not found:
                leaders[count % LATEST] = item
                count += 1


@compiled
def overlaps(pairs: "Items", shingles: "Hashes", begins: "Items", common: "Items") -> None:
    """How many shingles the two items of each pair share.

    Args:
        pairs: Pairs of items, shape (pairs, 2).
        shingles: The distinct shingles of the items, sorted within each item.
        begins: Item i has the shingles begins[i] : begins[i + 1].
        common: Receives the numbers.
    """
    for pair in range(len(pairs)):
        one, other = pairs[pair, 0], pairs[pair, 1]
        ours = shingles[begins[one] : begins[one + 1]]
        common[pair] = in_common(ours, shingles[begins[other] : begins[other + 1]])


def anchor_limit(sizes: "Items") -> "Hashes":
    """The largest hash that is an anchor of a text, from its number of shingles.

    Limits are powers of two, so that the anchors of a longer text are among those that a shorter
    one would have: texts of different lengths can be compared.

    Args:
        sizes: The number of shingles of each text.
    """
    # Of uniform hashes, a limit halved h times keeps one in 2^h: about ANCHORS are left.
    halvings = np.floor(np.log2(np.maximum(sizes / ANCHORS, 1))).astype(np.uint64)
    return np.uint64(2**64 - 1) >> halvings


@compiled
def pick_anchors(
    shingles: "Hashes", offsets: "Items", limits: "Hashes", picked: "Hashes", ends: "Items"
) -> int:
    """Copies the anchors of each text.

    Args:
        shingles: The shingles of all texts.
        offsets: Text i has the shingles offsets[i] : offsets[i + 1].
        limits: The largest hash that is an anchor, for each text.
        picked: Receives the anchors.
        ends: Receives where the anchors of each text begin, and where the last ones end.

    Returns:
        The number of anchors.
    """
    count = 0
    for text in range(len(offsets) - 1):
        ends[text] = count
        for at in range(offsets[text], offsets[text + 1]):
            if shingles[at] <= limits[text]:
                picked[count] = shingles[at]
                count += 1
    ends[len(offsets) - 1] = count
    return count


def anchor_pairs(anchors: "Hashes", owners: "Items", skeleton: "Hashes", signs: "Items") -> "Items":
    """Pairs of items that share two rare anchors and whose skeletons do not rule them out.

    Args:
        anchors: The anchors of all items.
        owners: The item of each anchor, ascending.
        skeleton: The hash of each item's skeleton.
        signs: The length of each item's skeleton.

    Returns:
        Pairs with the smaller item first, ascending, shape (pairs, 2).
    """
    groups = groups_of(anchors, owners)
    sizes = np.diff(groups.edges)
    # Larger groups are skipped by `pair_up`; a few of them would be billions of pairs.
    room = int((np.minimum(sizes, RARE) ** 2).sum() // 2)
    found = np.empty(room, np.uint64)
    count = pair_up(groups.members, groups.edges, skeleton, signs, found)
    # A single shared phrase finds too many; two rare ones find copies.
    pairs, shared = np.unique(found[:count], return_counts=True)
    pairs = pairs[shared >= SHARED]
    return np.stack([pairs >> np.uint64(32), pairs & np.uint64(2**32 - 1)], 1).astype(np.int64)


@compiled
def pair_up(
    members: "Items", edges: "Items", skeleton: "Hashes", signs: "Items", pairs: "Hashes"
) -> int:
    """All pairs of the small groups, with both items in one value; returns how many they are.

    Args:
        members: The items of all groups.
        edges: Group i is members[edges[i] : edges[i + 1]].
        skeleton: The hash of each item's skeleton.
        signs: Its length. Skeletons of one length must be equal.
        pairs: Receives the pairs.
    """
    count = 0
    for group in range(len(edges) - 1):
        if edges[group + 1] - edges[group] > RARE:
            continue
        for at in range(edges[group], edges[group + 1]):
            for before in range(edges[group], at):
                one, other = members[before], members[at]
                # Skeletons of different lengths may be a run of each other; the rule looks.
                equal = skeleton[one] == skeleton[other]
                if one != other and (equal or signs[one] != signs[other]):
                    pairs[count] = (np.uint64(one) << np.uint64(32)) | np.uint64(other)
                    count += 1
    return count
