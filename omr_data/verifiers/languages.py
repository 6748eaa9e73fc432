"""How answers are announced, language by language. A language is one line of `LANGUAGES`.

**Phrases**: what stands before an answer ("the answer is"), what stands after one ("is the
answer"), and the words that open a concluding sentence ("therefore").
"""

import functools
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrases:
    """The phrases of one language, as regular expressions."""

    before: str
    """Stands before the answer."""
    after: str = ""
    """Stands after the answer, at the end of its sentence."""
    conclusion: str = ""
    """Opens a concluding sentence."""
    ending: str = ""
    """Ends a sentence after the answer, and is not a part of it."""


# Verbs are listed and not guessed: "the answer may be" announces nothing.
_VERB = r"(?:is|are|was|must be|should be|would be|will be|has to be|equals|becomes|=|:|：)"
# Plurals too, since multi-select answers name several options.
_KIND = r"(?:answers?|options?|choices?|results?|solutions?)"

LANGUAGES = {
    "en": Phrases(
        r"\b(?:final |correct |right |best )?answers?(?: to [^.:\n]{1,60}| here)?\*{0,2}"
        rf"\s*{_VERB}"
        rf"|\b(?:final|correct|right|best) {_KIND}\*{{0,2}}\s*{_VERB}"
        r"|\bthe (?:final )?(?:result|solution)\s*(?:is|=|:)|(?:^|\n)\W*answer\s*[-–—]\s"
        r"|\b(?:i|we) (?:choose|pick|select)|\bthe answer\*{0,2}\s*(?:=|:)",
        r"(?:is|are|must be|would be) (?:therefore |thus )?(?:the |our )?"
        r"(?:final |correct |right )?(?:answer|option|choice|one|correct)",
        r"therefore|thus|hence|so|consequently|in conclusion|finally|in total|we get|we have"
        r"|this (?:gives|means)|it follows that",
    ),
    "zh": Phrases(
        r"【答案】|正确选项(?:是|为|：|:)|(?:最终|正确)?答案(?:应)?(?:是|为|：|:)"
        r"|(?:故|应|所以|因此)?选(?:择)?(?:为|是|：|:)?(?=\s*[（(]?[A-Z])",
        r"(?:是)?(?:正确(?:的|答案)?|(?:最终)?答案)",
        r"所以|因此|故|综上|于是|从而|可得|即",
    ),
    "es": Phrases(
        r"\b(?:la )?respuesta(?: final| correcta)?\s*(?:es|:)",
        "es la respuesta",
        "por lo tanto|entonces|luego|así que",
    ),
    "fr": Phrases(
        r"\b(?:la )?réponse(?: finale| correcte)?\s*(?:est|:)",
        "est la réponse",
        "donc|ainsi|par conséquent",
    ),
    "de": Phrases(
        r"\b(?:die )?(?:richtige )?antwort\s*(?:ist|lautet|:)",
        "ist die (?:richtige )?antwort",
        "also|daher|folglich|somit",
    ),
    "pt": Phrases(
        r"\b(?:a )?resposta(?: final| correta)?\s*(?:é|:)", "é a resposta", "portanto|logo|assim"
    ),
    "ru": Phrases(r"\bответ\s*(?:—|-|:|равен)", "", "следовательно|поэтому|значит|итак"),
    "ja": Phrases(
        r"(?:答え|正解|解答)\s*(?:は|：|:)",
        "が(?:答え|正解)",
        "したがって|よって|ゆえに",
        "です|である|になります",
    ),
    "ko": Phrases(r"(?:정답|답)\s*(?:은|는|:)", "", "따라서|그러므로", "입니다|이다"),
}


@functools.cache
def before() -> re.Pattern[str]:
    """What stands before an answer, in any language, with the marks that follow it."""
    parts = "|".join(one.before for one in LANGUAGES.values())
    # Bold marks may close before or after the colon: "**Answer:** 5" and "**Answer**: 5".
    return re.compile(rf"(?:{parts})\**\s*:?\**[ \t]*", re.IGNORECASE)


@functools.cache
def after() -> re.Pattern[str]:
    """A sentence that ends with what stands after an answer: "Hence, 48 is the answer"."""
    parts = "|".join(one.after for one in LANGUAGES.values() if one.after)
    return re.compile(
        rf"^(?:[^\n]*?,\s+|(?:{_openings()})[,，:]?\s*)?(?P<answer>[^\n,]{{1,80}}?)\s*(?:{parts})$",
        re.IGNORECASE,
    )


@functools.cache
def after_end() -> re.Pattern[str]:
    """The end of such a sentence alone: a quick test, since few sentences end like that."""
    parts = "|".join(one.after for one in LANGUAGES.values() if one.after)
    return re.compile(rf"(?:{parts})$", re.IGNORECASE)


@functools.cache
def conclusion() -> re.Pattern[str]:
    """A sentence that opens with a word of conclusion."""
    return re.compile(
        rf"(?:(?:and|but) )?(?:{_openings()})(?:(?<=[^\x00-\x7f])|\b)[,，:：]?\s*", re.IGNORECASE
    )


@functools.cache
def ending() -> re.Pattern[str]:
    """What ends a sentence after an answer, in the languages whose verbs stand last."""
    parts = "|".join(one.ending for one in LANGUAGES.values() if one.ending)
    return re.compile(rf"\s*(?:{parts})\s*$")


def _openings() -> str:
    # One alternation over all languages: responses mix them, and their words do not collide.
    return "|".join(one.conclusion for one in LANGUAGES.values() if one.conclusion)
