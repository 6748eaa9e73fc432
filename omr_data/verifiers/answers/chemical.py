"""Chemical formulas and reactions: H2SO4 is H_2SO_4, and Fe^{3+} is not Fe^{2+}."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.base import Decision, right, too_close, wrong
from omr_data.verifiers.spellings import entries

_ELEMENTS = frozenset(
    entries(
        """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As
    Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu
    Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U
    """
    )
)
_CHARGE = re.compile(r"\^\s*\{?\s*(\d*)\s*([+-])\s*\}?$")
_BODY = re.compile(r"\d*(?:(?:[A-Z][a-z]?|\(|\)|\[|\])\d*)+")
_ATOM = re.compile(r"[A-Z][a-z]?")
_ARROW = re.compile(r"\s*(?:\\to|->|=|⇌|→)\s*")
_STATE = re.compile(r"\s*\((?:s|l|g|aq)\)$|\s*[↑↓]$")


@dataclass(frozen=True, slots=True)
class Chemical(Answer):
    """A formula, or the two sides of a reaction."""

    sides: tuple[tuple[str, ...], ...]
    """The sides of a reaction, one for a formula alone; each a sorted tuple of its formulas."""

    order = 24

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Chemical | None":
        # A lower-case first letter, or a long text, is never a formula; the test is cheap.
        if not text[:1].isascii() or len(text) > 200 or not re.search("[A-Z]", text[:12]):
            return None

        # An arrow and an equals sign both join the sides of a reaction; more than two sides are a
        # chain, which is left to mathematics.
        texts = _ARROW.split(text)
        if len(texts) > 2:
            return None

        sides = []

        for side in texts:
            formulas = [_formula(one) for one in re.split(r"\s+\+\s+|\+(?=\d*[A-Z])", side)]
            read = [formula for formula in formulas if formula]
            if len(read) != len(formulas):
                return None

            # Sorted, since the order of reactants on a side means nothing.
            sides.append(tuple(sorted(read)))

        if len(sides) == 1:
            # It must be chemistry and nothing else: "B" is a letter, "CO" two of them.
            text = "".join(sides[0])
            several = len(_ATOM.findall(text)) > 1
            marked = any(sign.isdigit() or sign.islower() for sign in text)
            compound = "^" in text or (several and marked)
            if len(sides[0]) > 1:
                compound = any(len(_ATOM.findall(one)) > 1 for one in sides[0])
            if not compound:
                return None

        return cls(tuple(sides))

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        if not isinstance(claim, Chemical):
            return None
        if self.sides == claim.sides:
            return right("the same formula")
        # The same signs in another order may be one compound written otherwise: HNO3, NO3H.
        if sorted("".join(sum(self.sides, ()))) == sorted("".join(sum(claim.sides, ()))):
            return too_close("the same signs in another order")

        return wrong("another formula")


def _formula(text: str) -> str | None:
    """A formula in one spelling, or None: H_2SO_4 and H_{2}SO_{4} as H2SO4."""
    text = _STATE.sub("", text.strip())
    charge = _CHARGE.search(text)
    ending = ""
    if charge is not None:
        text, ending = text[: charge.start()], f"^{charge[1] or '1'}{charge[2]}"

    plain = re.sub(r"[_{}\s]", "", text)
    if not _BODY.fullmatch(plain) or plain.count("(") != plain.count(")"):
        return None
    # Words in capitals look like formulas; only symbols of elements are accepted.
    if any(atom not in _ELEMENTS for atom in _ATOM.findall(plain)):
        return None

    return plain + ending
