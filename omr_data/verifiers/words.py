"""Words and phrases compared as people read them."""

import re

_ARTICLES = re.compile(r"\b(?:a|an|the)\s+(?=\S)")


def phrase(text: str) -> str:
    """A phrase without case, articles, surrounding punctuation and repeated spaces."""
    folded = " ".join(re.sub(r"[_\s]+", " ", text.casefold()).split())
    return _ARTICLES.sub("", folded).strip(" .,;:!?\"'()[]")
