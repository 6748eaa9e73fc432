"""Images by content: the original bytes under the sha256 of themselves, written once and never re-encoded."""

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import ExifTags, Image

from omr_data.errors import BadRow, StoreError
from omr_data.records import ImageRef
from omr_data.store.atomic import write_bytes

MAX_PIXELS = 100_000_000
MAX_BYTES = 100_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


@dataclass(frozen=True, slots=True)
class ImageStore:
    """A folder of images named by their sha256. Safe for any number of processes: equal names hold equal bytes."""

    root: Path

    def put(self, data: bytes) -> ImageRef:
        """Stores the original bytes of one image, after decoding it once to be sure that it is whole (a few ms).

        Raises:
            BadRow: not an image, truncated, or larger than MAX_BYTES or MAX_PIXELS (a decompression bomb).
        """
        ref = inspect_image(data)
        path = self.path(ref)
        if not path.exists():
            write_bytes(path, data)
        return ref

    def read(self, ref: ImageRef) -> bytes:
        """The original bytes. Raises StoreError when the file is gone or is not what its name says."""
        path = self.path(ref)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"image {ref.sha256} is missing from {self.root}: {error.strerror}. Delete the folder 'stages' beside it and build again."
            ) from error
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise StoreError(
                f"{path} no longer holds the image it is named after. Delete that file and the folder 'stages', and build again."
            )
        return data

    __call__ = read

    def path(self, ref: ImageRef) -> Path:
        """Where the bytes are."""
        return self.root / ref.sha256[:2] / ref.sha256


def inspect_image(data: bytes) -> ImageRef:
    """Decodes an image and gives its reference. Raises BadRow where `ImageStore.put` does."""
    if len(data) > MAX_BYTES:
        raise BadRow("image too large", f"{len(data):,} bytes, at most {MAX_BYTES:,} are read")
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a bomb below twice its limit; our own limit is checked before any pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise BadRow(
                        "image too large",
                        f"{width} x {height} pixels, at most {MAX_PIXELS:,} are decoded",
                    )
                image.load()
                sha256 = hashlib.sha256(data).hexdigest()
                return ImageRef(sha256, width, height, str(image.format), _orientation(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadRow("image broken", str(error)[:200]) from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. A turned photo is stored as it came, and this says how."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        # Broken EXIF beside whole pixels is common in scraped photos: the image is still good.
        return 1
    return turn if turn in range(1, 9) else 1


@dataclass(frozen=True, slots=True)
class RowImages:
    """The images of a source's rows: files below its root, or bytes from its cells. Paths are hostile until checked."""

    root: Path
    store: ImageStore

    def from_bytes(self, data: bytes) -> ImageRef:
        """Stores the bytes of one image. Raises BadRow."""
        return self.store.put(data)

    def from_file(self, relative: str) -> ImageRef:
        """Stores the image in a file below the root. Raises BadRow for a path that leaves it, or a missing file."""
        path = PurePosixPath(relative)
        if path.is_absolute() or ".." in path.parts or "\\" in relative or "\0" in relative:
            raise BadRow("image path leaves the dataset", relative)
        try:
            data = (self.root / path).read_bytes()
        except OSError as error:
            raise BadRow("image missing", f"{relative}: {error.strerror}") from error
        return self.store.put(data)
