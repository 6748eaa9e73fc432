"""Lengths of the rows of a release in tokens, measured so that packs can be planned."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from omr_data.errors import BadRow
from omr_data.progress import Reporter
from omr_data.train.chat import Encoder
from omr_data.train.ranks import Ranks
from omr_data.train.release import ReleaseReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPORT_EVERY = 500
"""Rows between two updates of the progress bar."""


@dataclass(frozen=True, slots=True)
class RowLengths:
    """Lengths of all rows of a release."""

    tokens: "NDArray[np.int64]"
    """Tokens of each row, of shape (rows,); 0 for a row that cannot be trained on."""
    targets: "NDArray[np.int64]"
    """Tokens of each row that are trained on, of shape (rows,)."""
    bad: Counter[str]
    """Rows that cannot be trained on, by reason."""


def measure_rows(
    release: ReleaseReader, encoder: Encoder, group: Ranks, report: Reporter
) -> RowLengths:
    """Measures all rows; the processes share the work, each at about 2,000 rows a second.

    Args:
        release: The release.
        encoder: Tokenizes chats. Images are not decoded: their headers tell how many tokens.
        group: The processes of the run.
        report: Shows the progress.
    """
    mine = group.shard(range(len(release)))
    measured: list[tuple[int, int, str]] = []  # tokens, targets, and the reason why it is bad
    with report.bar("measuring rows", len(mine), "rows") as bar:
        for number in mine:
            try:
                tokens, targets = encoder.chat_size(*release.chat(number))
                measured.append((tokens, targets, ""))
            except BadRow as error:
                measured.append((0, 0, error.reason))
            # A call for each row would cost more than measuring it.
            if len(measured) % REPORT_EVERY == 0:
                bar.advance(REPORT_EVERY)
    rows = group.all_gather(measured, len(release))
    return RowLengths(
        tokens=np.array([tokens for tokens, _, _ in rows], dtype=np.int64),
        targets=np.array([targets for _, targets, _ in rows], dtype=np.int64),
        bad=Counter(reason for _, _, reason in rows if reason),
    )
