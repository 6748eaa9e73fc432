"""Splits a set into training and validation rows, by group and not by row.

    split.ByGroup(validation=0.02)

Rows of one template, image or parent question know each other's answers. A validation set that
shares groups with the training set measures memory."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from omr_data.errors import RecipeError
from omr_data.records import Record, group_of
from omr_data.step import Map


@dataclass(frozen=True)
class ByGroup(Map):
    """Puts all rows of a group into one split, "train" or "validation".

    The group of a record is its `group`, or else the question that it was exploded from, or else
    the record itself. The choice is a hash of the group and the seed: it is the same for any order
    and any number of workers, and rows that are added later move no other row."""

    validation: float = 0.02
    """The share of groups that are for validation, between 0 and 1. With groups of different sizes
    the share of rows differs from it."""
    seed: int = 0
    """Another seed chooses other groups."""

    def __post_init__(self) -> None:
        """Raises RecipeError where the share leaves one side empty."""
        super().__post_init__()
        if not 0 < self.validation < 1:
            raise RecipeError(
                f"{self.name}: validation is {self.validation}; give a share between 0 and 1, "
                "such as 0.02, or leave the step out."
            )

    def apply(self, record: Record) -> Record:
        """Returns the record with its split."""
        hashed = hashlib.sha256(f"{self.seed}:{group_of(record)}".encode()).digest()
        # The hash as a number from 0 to 1, so that a larger share only adds groups.
        share = int.from_bytes(hashed[:8]) / 2**64
        return replace(record, split="validation" if share < self.validation else "train")

    def tally(self, record: Record) -> Mapping[str, int]:
        """Counts the rows of each split."""
        return {record.split: 1}
