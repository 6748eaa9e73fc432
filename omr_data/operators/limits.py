"""Limits on what a record holds, checked before a teacher is paid for it."""

from dataclasses import dataclass

from omr_data.errors import RecipeError
from omr_data.records import Record
from omr_data.step import Filter


@dataclass(frozen=True)
class ImageSide(Filter):
    """Drops records with an image that is too small or too large. Records without images stay."""

    at_least: int = 28
    """The fewest pixels of the shorter side. A vision tower refuses an image that is smaller than
    one merged patch, which is 28 pixels for Qwen2.5-VL."""
    at_most: int | None = None
    """The most pixels of the longer side. None sets none: most towers scale large images down."""

    def __post_init__(self) -> None:
        """Raises RecipeError where no image could pass."""
        # When the recipe is read: at run time it would drop every row, after a download.
        super().__post_init__()
        if self.at_most is not None and self.at_most < self.at_least:
            raise RecipeError(
                f"{self.name} keeps no image: at_most is {self.at_most} and at_least is "
                f"{self.at_least}. Give at_most from at_least up, or None for no limit."
            )

    def reason(self, record: Record) -> str | None:
        """Returns why the first image outside the limits is outside, or None."""
        # The sizes were read when the image was stored, so nothing is decoded here.
        for image in record.images:
            if min(image.width, image.height) < self.at_least:
                return f"an image side is under {self.at_least} pixels"
            if self.at_most is not None and max(image.width, image.height) > self.at_most:
                return f"an image side is over {self.at_most} pixels"
        return None
