"""Images by content: the original bytes, in a file that is named after their sha256.

An image is written once and never encoded again, so that training sees exactly what a dataset
published, and equal images of many rows take the space of one.
"""

import hashlib
import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import ExifTags, Image

from omr_data.errors import BadRow, StoreError
from omr_data.records import ImageRef
from omr_data.store.atomic import write_bytes
from omr_data.store.datafiles import why_not_data

MAX_PIXELS = 100_000_000
"""Pixels of the largest image that is decoded: 300 MB as RGB."""
MAX_BYTES = 100_000_000
"""Bytes of the largest encoded image that is read."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are read. Pillow knows more, and some of those run other programs (EPS)."""


def open_image(data: bytes) -> Image.Image:
    """Opens an encoded image without decoding its pixels. Use the result in a `with` block.

    This is the only guard against decompression bombs: a file of some kilobytes may declare
    billions of pixels, so the declared size is checked before anything is decoded.

    Raises:
        BadRow: The bytes are not an image, or larger than MAX_BYTES or MAX_PIXELS.
    """
    if len(data) > MAX_BYTES:
        raise BadRow("image too large", f"{len(data):,} bytes, at most {MAX_BYTES:,} are read")
    try:
        with warnings.catch_warnings():
            # Pillow refuses only above twice its own limit and warns below; ours is checked next.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadRow("image broken", str(error)[:200]) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise BadRow(
            "image too large", f"{width} x {height} pixels, at most {MAX_PIXELS:,} are decoded"
        )
    return image


def inspect_image(data: bytes) -> ImageRef:
    """Decodes an image, to be sure that it is whole, and returns its reference.

    Raises:
        BadRow: The bytes are not an image, are cut off, or are too large (see `open_image`).
    """
    with open_image(data) as image:
        width, height = image.size
        try:
            # The header alone says nothing about pixels that are missing at the end.
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            raise BadRow("image broken", str(error)[:200]) from error
        sha256 = hashlib.sha256(data).hexdigest()
        return ImageRef(sha256, width, height, str(image.format), _orientation(image))


@dataclass(frozen=True, slots=True)
class ImageStore:
    """A folder of images. Any number of processes may write: equal names hold equal bytes."""

    # 256 folders: file systems and people are slow in one folder with a million files.
    root: Path
    """The folder. Images are in folders below it, by the first two digits of their sha256."""

    def put(self, data: bytes) -> ImageRef:
        """Stores the original bytes of one image, after decoding it once (a few ms).

        Raises:
            BadRow: See `inspect_image`.
            StoreError: The disk refuses the write.
        """
        ref = inspect_image(data)
        path = self.path(ref)
        # Two processes may both write: their bytes are equal, and the rename is atomic.
        if not path.exists():
            write_bytes(path, data)
        return ref

    def read(self, ref: ImageRef) -> bytes:
        """Returns the original bytes.

        Raises:
            StoreError: The file is missing, or its bytes are not what its name says.
        """
        path = self.path(ref)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"image {ref.sha256} is missing from {self.root}: {error.strerror}. "
                "Delete the folder 'stages' beside it and build again."
            ) from error
        # Every time: a release holds these bytes, and 1 ms per MB is less than writing them takes.
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise StoreError(_damaged(path))
        return data

    # The store is what steps and teachers get as `read_image`. Unlike a lambda around `read`, it
    # can be pickled to worker processes.
    __call__ = read

    def path(self, ref: ImageRef) -> Path:
        """Returns the file of an image."""
        return self.root / ref.sha256[:2] / ref.sha256

    def check(self) -> Iterator[str]:
        """Yields what is wrong with the stored images. Reads every byte."""
        for path in sorted(self.root.glob("*/*")):
            # Temporary files of a build that was killed are swept when the next build starts.
            if path.name.startswith(".") or not path.is_file():
                continue
            with open(path, "rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            if content != path.name:
                yield _damaged(path)


def _damaged(path: Path) -> str:
    return (
        f"{path} no longer holds the image that it is named after. "
        "Delete that file and the folder 'stages', and build again."
    )


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
    """Stores the images of a source's rows. Paths in rows are hostile until they are checked."""

    root: Path
    """The folder of the dataset."""
    store: ImageStore
    """Where the images are stored."""
    readable: frozenset[str] | None = None
    """The files that rows may refer to, as paths below the root, where the dataset lists them.
    None: every file below the root that is data."""

    def from_bytes(self, data: bytes) -> ImageRef:
        """Stores the bytes of one image. Raises BadRow."""
        return self.store.put(data)

    def from_file(self, relative: str) -> ImageRef:
        """Stores the image in a file of the dataset.

        Args:
            relative: The path below the root, as a row gives it.

        Raises:
            BadRow: The path leaves the dataset, is not part of its identity, or has no image.
        """
        path = PurePosixPath(relative)
        # Backslashes separate folders for whoever made the dataset on Windows.
        if path.is_absolute() or ".." in path.parts or "\\" in relative or "\0" in relative:
            raise BadRow("image path leaves the dataset", relative)
        try:
            data = (self.root / path).read_bytes()
        except OSError as error:
            raise BadRow("image missing", f"{relative}: {error.strerror}") from error
        except ValueError as error:
            # Half of a surrogate pair cannot be part of a file name.
            raise BadRow("image missing", f"{relative!r}: {error}") from error
        excluded = why_not_data(self.root, path.as_posix())
        if excluded is None and self.readable is not None and path.as_posix() not in self.readable:
            excluded = "it is outside the files that the source lists"
        if excluded is not None:
            # Its bytes are not in the digest, so they could change without changing a fingerprint.
            raise BadRow("image is not part of the dataset", f"{relative}: {excluded}")
        return self.store.put(data)
