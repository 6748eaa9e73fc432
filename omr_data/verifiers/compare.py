"""Compares parsed answers: the one place that turns readings into a decision.

A gold answer and a claim may each have several readings. Every pair of readings of comparable types
is compared: the claim is RIGHT when one of them is equal and none differs, WRONG when all differ,
and UNDECIDED when they disagree or no pair is comparable. docs/verification.md has the table.
"""

from omr_data.records import RIGHT, UNDECIDED, WRONG, Outcome
from omr_data.verifiers.answers.base import Parsed, Rules
from omr_data.verifiers.base import Decision, other_kind, right, too_close, wrong
from omr_data.verifiers.deadline import check_deadline


def compare(claim: Parsed, gold: Parsed, rules: Rules) -> Decision:
    """What a claim is worth against a gold answer.

    Args:
        claim: The readings of the claim; not empty.
        gold: The readings of the gold answer; not empty.
        rules: The settings of the comparison.

    Raises:
        TimedOut: The deadline of the pair has passed.
    """
    # All pairs of readings are compared, because the first comparable one may mislead.
    found: list[Decision] = []

    for wanted in gold:
        for given in claim:
            decision = wanted.compare(given, rules)
            if decision is None:
                decision = given.compare_as_claim(wanted, rules)
            if decision is not None:
                found.append(decision)

    if len(found) == 1:
        return found[0]
    if not found:
        arities = {one.arity for one in claim}, {one.arity for one in gold}
        if arities in (({"one"}, {"many"}), ({"many"}, {"one"})):
            return wrong("one of them is a single value, the other one has several parts")

        kinds = claim[0].kind, gold[0].kind
        return other_kind(f"one is a {kinds[0]}, the gold answer a {kinds[1]}")

    outcomes = {one.outcome for one in found}
    if {RIGHT, WRONG} <= outcomes:
        return too_close("equal in one reading, different in another")

    # The first decision of the best outcome: `min` keeps the order of the readings.
    return min(found, key=lambda one: _ORDER.index(one.outcome))


def compare_if_comparable(claim: Parsed, gold: Parsed, rules: Rules) -> Decision | None:
    """The same as `compare`, with None where no pair of readings is comparable.

    Args:
        claim: The readings of the claim; not empty.
        gold: The readings of the gold answer; not empty.
        rules: The settings of the comparison.
    """
    decision = compare(claim, gold, rules)
    if decision.cause == "other kind":
        return None

    return decision


_ORDER = (RIGHT, UNDECIDED, WRONG)


def compare_in_order(claim: list[Parsed], gold: list[Parsed], rules: Rules) -> Decision:
    """Part by part, for tuples, matrices and named values.

    Args:
        claim: The parts of the claim, each with its readings.
        gold: The parts of the gold answer.
        rules: The settings of the comparison.
    """
    # An open part does not end the comparison: a later part may still be WRONG.
    if len(claim) != len(gold):
        return wrong(f"it has {len(claim)} parts, the gold answer {len(gold)}")

    open_part: Decision | None = None

    for one, other in zip(claim, gold, strict=True):
        check_deadline()
        decision = compare(one, other, rules)
        if decision.outcome == WRONG:
            return wrong(f"a part differs: {decision.reason}")
        if decision.outcome == UNDECIDED and open_part is None:
            open_part = decision

    return open_part or right("equal part by part")


def compare_unordered(
    claim: list[Parsed], gold: list[Parsed], rules: Rules, multiplicity: bool
) -> Decision:
    """In any order, for lists and sets.

    Args:
        claim: The parts of the claim, each with its readings.
        gold: The parts of the gold answer.
        rules: The settings of the comparison.
        multiplicity: Whether each part counts as often as it stands there: in lists it does.
    """
    # Lengths differ for free; comparing parts may cost milliseconds each.
    if multiplicity and len(claim) != len(gold):
        return wrong(f"it has {len(claim)} parts, the gold answer {len(gold)}")

    outcomes: list[list[Outcome]] = []

    for one in claim:
        row = []

        for other in gold:
            check_deadline()
            row.append(compare(one, other, rules).outcome)

        if all(outcome == WRONG for outcome in row):
            return wrong("a part has no equal in the gold answer")

        outcomes.append(row)

    for column in range(len(gold)):
        if all(row[column] == WRONG for row in outcomes):
            return wrong("a part of the gold answer is missing")

    equal = [[at for at, outcome in enumerate(row) if outcome == RIGHT] for row in outcomes]
    if multiplicity:
        matched = _matching(equal, len(gold))
        if matched == len(gold):
            return right("the same parts, each as often")

        possible = [[at for at, outcome in enumerate(row) if outcome != WRONG] for row in outcomes]
        if _matching(possible, len(gold)) < len(gold):
            return wrong("the parts stand there in other numbers")

        return too_close("some parts could not be compared")

    covered = {at for row in equal for at in row}
    if all(equal) and len(covered) == len(gold):
        return right("equal sets")

    return too_close("some parts could not be compared")


def _matching(edges: list[list[int]], size: int) -> int:
    """The size of the largest matching, by augmenting paths (Kuhn 1955).

    Args:
        edges: For each part of one side, the parts of the other side that equal it.
        size: How many parts the other side has.
    """
    # Trying partners one by one is enough for the few parts that lists have.
    owner = [-1] * size

    def augment(node: int, seen: set[int]) -> bool:
        for at in edges[node]:
            if at not in seen:
                seen.add(at)
                if owner[at] < 0 or augment(owner[at], seen):
                    owner[at] = node
                    return True

        return False

    return sum(augment(node, set()) for node in range(len(edges)))
