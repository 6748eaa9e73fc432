"""Money: a value with its currency, and the currency may be left out on either side."""

import re
from dataclasses import dataclass

from omr_data.verifiers.answers.base import Answer, Reader, Rules
from omr_data.verifiers.answers.expression import Expression
from omr_data.verifiers.answers.number import Number
from omr_data.verifiers.answers.quantity import Counted, compare_values
from omr_data.verifiers.base import Decision, too_close, wrong
from omr_data.verifiers.numerals import Numeral, read_numeral

_SYMBOLS = {
    "$": "dollar",
    "€": "euro",
    "£": "pound",
    "¥": "yen",
    "₹": "rupee",
    "USD": "dollar",
    "US$": "dollar",
    "EUR": "euro",
    "GBP": "pound",
    "JPY": "yen",
    "INR": "rupee",
    "Rs": "rupee",
    "Rs.": "rupee",
    "CNY": "yuan",
    "RMB": "yuan",
}
_WORDS = {
    "dollar": "dollar",
    "dollars": "dollar",
    "usd": "dollar",
    "euro": "euro",
    "euros": "euro",
    "eur": "euro",
    "gbp": "pound",
    "yen": "yen",
    "rupees": "rupee",
    "rupee": "rupee",
    "yuan": "yuan",
    "rmb": "yuan",
    "元": "yuan",
    "€": "euro",
    "$": "dollar",
    "£": "pound",
    "pounds sterling": "pound",
    "us dollars": "dollar",
    "inr": "rupee",
    "¥": "yen",
}
_CENTS = re.compile(r"(.+?)\s*(?:cents?|¢)$", re.IGNORECASE)
_BEFORE = re.compile(
    r"([+-]?)\s*(" + "|".join(map(re.escape, sorted(_SYMBOLS, key=len, reverse=True))) + r")\s*(.+)"
)
_AFTER = re.compile(
    r"(.+?)\s*(" + "|".join(map(re.escape, sorted(_WORDS, key=len, reverse=True))) + r")\.?",
    re.IGNORECASE,
)
_SCALE = re.compile(r"(.+?)\s*(k|m|mn|bn|b)$", re.IGNORECASE)
_SCALES = {"k": 1_000, "m": 10**6, "mn": 10**6, "bn": 10**9, "b": 10**9}


# Tried before counted nouns: "5 dollars" is an amount and not a number of things.
@dataclass(frozen=True, slots=True)
class Money(Answer):
    """An amount of money."""

    value: Numeral
    """How much, in the currency's main unit."""
    currency: str
    """Its name: dollar, euro, ..."""

    order = 28
    arity = "one"
    exclusive = True

    @classmethod
    def read(cls, text: str, parts: Reader) -> "Money | None":
        if len(text) > 60:
            return None
        if (cents := _CENTS.fullmatch(text)) is not None:
            number = read_numeral(cents[1].strip())
            if number is None:
                return None

            # The cent of the dollar: the only currency whose sources count in cents.
            return cls(_scaled(number, 1, 100), "dollar")

        before = _BEFORE.fullmatch(text)
        if before is not None:
            amount = before[3]
            # "$18 dollars" and "$18 USD" say the currency twice.
            twice = _AFTER.fullmatch(amount)
            if twice is not None and _WORDS[twice[2].lower()] == _SYMBOLS[before[2]]:
                amount = twice[1]

            number = _read_amount(before[1] + amount)
            if number is None:
                return None

            return cls(number, _SYMBOLS[before[2]])

        after = _AFTER.fullmatch(text)
        if after is not None:
            number = _read_amount(after[1].strip())
            if number is None:
                return None

            return cls(number, _WORDS[after[2].lower()])

        return None

    def compare(self, claim: Answer, rules: Rules) -> Decision | None:
        # Two amounts are told apart by currency first, whatever their values are.
        if isinstance(claim, Money):
            # No exchange rate would be right for long, so currencies are never converted.
            if claim.currency != self.currency:
                if {claim.currency, self.currency} == {"yen", "yuan"}:
                    return too_close("¥ is the sign of both yen and yuan")

                return wrong(f"{claim.currency} is not {self.currency}")

            return compare_values(claim.value, self.value, rules)

        if isinstance(claim, Counted):
            return None
        if isinstance(claim, Number) and not claim.base and not claim.percent:
            return compare_values(claim.numeral, self.value, rules)
        if isinstance(claim, Expression):
            return compare_values(claim.formula, self.value, rules)

        return None

    def compare_as_claim(self, gold: Answer, rules: Rules) -> Decision | None:
        if isinstance(gold, Number) and not gold.base and not gold.percent:
            return compare_values(self.value, gold.numeral, rules)

        return None


def _read_amount(text: str) -> Numeral | None:
    number = read_numeral(text)
    # "5k" and "3m" are read as amounts only: without a currency "3m" is three meters.
    if number is None and (scale := _SCALE.fullmatch(text)) is not None:
        number = read_numeral(scale[1])
        if number is not None:
            return _scaled(number, _SCALES[scale[2].lower()], 1)

    return number


def _scaled(number: Numeral, times: int, over: int) -> Numeral:
    value = number.value * times / over
    if value.denominator == 1:
        return Numeral(value)

    return Numeral(value, number.exact, number.digits, number.places)
