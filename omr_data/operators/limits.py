"""Limits on what a record holds, checked before anything is paid for."""

from dataclasses import dataclass

from omr_data.records import Record
from omr_data.step import Filter


@dataclass(frozen=True)
class ImageSide(Filter):
    """Drops records with an image whose shorter side is below `at_least` or longer side above `at_most`, in pixels.

    Vision towers refuse images smaller than one merged patch (28 pixels for Qwen2.5-VL).
    """

    at_least: int = 28
    at_most: int | None = None

    def reason(self, record: Record) -> str | None:
        for image in record.images:
            if min(image.width, image.height) < self.at_least:
                return f"an image side is under {self.at_least} pixels"
            if self.at_most is not None and max(image.width, image.height) > self.at_most:
                return f"an image side is over {self.at_most} pixels"
        return None
