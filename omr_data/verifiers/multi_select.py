"""Questions with several right options: all of them, and no other, must be named.

The score is the Jaccard index of the named and the right options, so that a guess of all options
earns little. Options are named by letters or texts, as in `choice`.
"""

from dataclasses import dataclass

from omr_data.verifiers import base
from omr_data.verifiers.answers.collection import split_items
from omr_data.verifiers.base import Decision, scored, unreadable
from omr_data.verifiers.normalize import normalize
from omr_data.verifiers.options import index_of, read_letters, split_label, without_labels
from omr_data.verifiers.words import phrase


@dataclass(frozen=True)
class Verifier(base.Verifier):
    """Accepts a gold answer that names options: "A, C", "AC", or their texts."""

    def accepts(self, gold: str, options: tuple[str, ...]) -> bool:
        return bool(_named(gold, options))

    def decide(self, claim: str, gold: str, options: tuple[str, ...]) -> Decision:
        """See `base.Verifier.decide`.

        Args:
            claim: The answer that was extracted.
            gold: The gold answer.
            options: The texts of the options.
        """
        wanted, given = _named(gold, options), _named(claim, options)
        if not given:
            return unreadable("the answer names no options")

        score = len(wanted & given) / len(wanted | given)
        shared = f"{len(wanted & given)} of {len(wanted)} options, {len(given - wanted)} others"
        return scored(score, 1.0, shared)


def _named(text: str, options: tuple[str, ...]) -> frozenset[str]:
    """The options that a text names, as letters or, without known options, as letters or words."""
    plain = normalize(text)
    texts = [phrase(one) for one in without_labels([normalize(one) for one in options])]
    found: set[str] = set()
    letters = read_letters(plain)
    items = [plain] if letters else split_items(plain.strip("[]{}⦃⦄"))
    if letters:
        found = letters
    for item in () if letters else items:
        said = read_letters(item.strip("\"' "))
        labelled = split_label(item)
        if said:
            found |= said
        elif phrase(item) in texts:
            found.add(chr(ord("A") + texts.index(phrase(item))))
        elif labelled is not None:
            found.add(labelled[0])
        else:
            # One item that is not an option makes the whole answer unreadable.
            return frozenset()

    if options and any(index_of(letter) >= len(options) for letter in found):
        return frozenset()

    return frozenset(found)
