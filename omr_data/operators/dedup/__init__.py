"""Drops copies of problems, within a source and across sources.

    dedup.Exact()                      equal normal forms of words and options, equal images
    dedup.NearText(threshold=0.7)      similar words, equal numbers and signs
    dedup.NearImage()                  images that look the same
    dedup.NearPair(threshold=0.7)      similar words, equal numbers and signs, and the same images
    dedup.Semantic(embedder=...)       the same meaning in other words, about the same images
    dedup.Templates()                  drops nothing: groups problems that differ in numbers only

All steps compare words by one rule, `omr_data.similar.rule`: no similarity of words makes up for
one changed number, operator or relation. docs/dedup.md lists what is one problem and what is two.

Duplicates are components: a copy of a copy is a copy. One row of each component is kept; `prefer`
and `priority` say which. Results depend on the rows alone, not on their order or on workers.

Tables beside the rows, for `omr show --step dedup.NearText --table pairs`:

    pairs        dropped and kept id, source, text and gold, the similarity of this very pair, and
                 the chain of copies between them where there is one
    sources      counts by both sources
    conflicts    copies with different gold answers
    near_misses  the 1,000 closest pairs below the threshold

Word for word the same question may ask about different images (PuzzleVQA has one question for 100
of them), and one image may carry several questions: use NearPair for problems with images.
"""

from omr_data.operators.dedup.exact import Exact
from omr_data.operators.dedup.near import NearImage, NearPair, NearText
from omr_data.operators.dedup.semantic import Semantic
from omr_data.operators.dedup.templates import Templates

__all__ = ["Exact", "NearImage", "NearPair", "NearText", "Semantic", "Templates"]
