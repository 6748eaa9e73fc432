"""Images for the two curves of docs/dedup.md: renderings of one image, and different images.

    python -m tests.truth.duplicates.images [MIRROR]

Charts and diagrams are drawn from a seed. The different ones differ in one label, one bar, one
number, or one color, as puzzles of one template do. With a mirror of PuzzleVQA and AlgoPuzzleVQA,
real images are measured too.
"""

import io
import random
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from omr_data.similar.images import ImageHashes, image_hashes
from omr_data.similar.looks import look_alike, same_image

RADIUS = 12
COLORS = ("#d62728", "#1f77b4", "#2ca02c", "#ff7f0e", "#9467bd")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chart(seed: int, changed: str = "") -> Image.Image:
    """A bar chart. `changed` names what is changed: "bar", "label", "number" or "color"."""
    chance = random.Random(seed)
    heights = [chance.randrange(60, 260) for _ in range(5)]
    labels = [str(chance.randrange(10, 99)) for _ in range(5)]
    color, title = chance.choice(COLORS), f"Sales {chance.randrange(1990, 2024)}"
    place = chance.randrange(5)
    if changed == "bar":
        heights[place] += 40 if heights[place] < 200 else -40
    if changed == "label":
        labels[place] = str((int(labels[place]) - 10 + 37) % 89 + 10)
    if changed == "number":
        title = f"Sales {int(title[6:]) + 13}"
    if changed == "color":
        color = COLORS[(COLORS.index(color) + 1) % 5]
    image = Image.new("RGB", (480, 400), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(26)
    draw.text((150, 15), title, "black", font)
    draw.line((50, 60, 50, 340, 450, 340), "black", 3)
    for at, (height, label) in enumerate(zip(heights, labels, strict=True)):
        left = 70 + 75 * at
        draw.rectangle((left, 340 - height, left + 50, 338), color)
        draw.text((left + 8, 348), label, "black", font)
    return image


def diagram(seed: int, changed: str = "") -> Image.Image:
    """A labeled triangle with a circle. `changed` as in `chart`, "bar" being a corner."""
    chance = random.Random(1_000_000 + seed)
    corners = [(chance.randrange(40, 120), chance.randrange(250, 330))]
    corners += [(chance.randrange(320, 420), chance.randrange(230, 330))]
    corners += [(chance.randrange(150, 300), chance.randrange(40, 100))]
    sides = [str(chance.randrange(11, 99)) for _ in range(3)]
    color = chance.choice(COLORS)
    place = chance.randrange(3)
    if changed == "bar":
        corners[place] = (corners[place][0] + 45, corners[place][1] - 25)
    if changed in ("label", "number"):
        sides[place] = str((int(sides[place]) - 10 + 41) % 89 + 10)
    if changed == "color":
        color = COLORS[(COLORS.index(color) + 1) % 5]
    image = Image.new("RGB", (460, 380), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(28)
    draw.polygon(corners, None, "black", 4)
    middle = [sum(corner[axis] for corner in corners) // 3 for axis in (0, 1)]
    draw.ellipse((middle[0] - 30, middle[1] - 30, middle[0] + 30, middle[1] + 30), color)
    for (one, other), side in zip(pairwise([*corners, corners[0]]), sides, strict=True):
        at = ((one[0] + other[0]) // 2, (one[1] + other[1]) // 2)
        draw.text((at[0] - 16, at[1] - 34), side, "black", font)
    return image


def _resized(image: Image.Image, share: float) -> Image.Image:
    size = (int(image.width * share), int(image.height * share))
    return image.resize(size, Image.Resampling.BICUBIC)


def _bordered(image: Image.Image) -> Image.Image:
    width = round(0.03 * max(image.size))
    framed = Image.new("RGB", (image.width + 2 * width, image.height + 2 * width), "black")
    framed.paste(image, (width, width))
    return framed


def _padded(image: Image.Image) -> Image.Image:
    side = max(image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _screenshot(image: Image.Image) -> Image.Image:
    small = _resized(image, 0.83)
    page = Image.new("RGB", (small.width + 60, small.height + 44), "#f8f8f8")
    page.paste(small, (27, 19))
    return page


def _cropped(image: Image.Image) -> Image.Image:
    across, down = round(0.025 * image.width), round(0.025 * image.height)
    return image.crop((across, down, image.width - across, image.height - down))


def _turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[274] = 6  # stored on its side: viewers turn it clockwise
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)


VARIANTS: dict[str, Callable[[Image.Image], bytes]] = {
    "resized to 0.5": lambda image: encoded(_resized(image, 0.5)),
    "resized to 0.75": lambda image: encoded(_resized(image, 0.75)),
    "resized to 1.5": lambda image: encoded(_resized(image, 1.5)),
    "JPEG 30": lambda image: encoded(image, "JPEG", quality=30),
    "JPEG 60": lambda image: encoded(image, "JPEG", quality=60),
    "JPEG 90": lambda image: encoded(image, "JPEG", quality=90),
    "WebP": lambda image: encoded(image, "WEBP", quality=70),
    "screenshot": lambda image: encoded(_screenshot(image)),
    "EXIF turned": _turned,
    "3% border": lambda image: encoded(_bordered(image)),
    "padded to a square": lambda image: encoded(_padded(image)),
    "cropped by 5%": lambda image: encoded(_cropped(image)),
    "20% darker": lambda image: encoded(ImageEnhance.Brightness(image).enhance(0.8)),
    "grey": lambda image: encoded(image.convert("L")),
}
CHANGES = ("bar", "label", "number", "color")


def judged(one: ImageHashes, other: ImageHashes) -> bool:
    """Whether two images count as one."""
    alike = look_alike(one.hashes, other.hashes, RADIUS)
    return alike and same_image(one.thumbnail, other.thumbnail)


def recall(images: list[Image.Image]) -> dict[str, float]:
    """The share of images that are found in each rendering."""
    originals = [image_hashes(encoded(image)) for image in images]
    return {
        name: sum(
            judged(original, image_hashes(render(image)))
            for original, image in zip(originals, images, strict=True)
        )
        / len(images)
        for name, render in VARIANTS.items()
    }


def false_merges(count: int) -> dict[str, float]:
    """The share of changed drawings that are taken for the original."""
    found = {}
    for draw in (chart, diagram):
        for changed in CHANGES:
            merged = [
                judged(
                    image_hashes(encoded(draw(seed))), image_hashes(encoded(draw(seed, changed)))
                )
                for seed in range(count)
            ]
            found[f"{draw.__name__}: {changed}"] = sum(merged) / count
    return found


def real_images(mirror: Path, folder: str, each: int) -> Iterator[tuple[str, list[Image.Image]]]:
    """Some distinct images of each template of a puzzle set."""
    root = mirror / "declare-lab" / folder / "data" / "images"
    for template in sorted(root.iterdir()):
        files = {path.read_bytes(): path for path in sorted(template.iterdir())}
        chosen = list(files.values())[:: max(1, len(files) // each)][:each]
        yield template.name, [Image.open(path).convert("RGB") for path in chosen]


def merged_in_template(images: list[Image.Image]) -> tuple[int, int]:
    """How many pairs of different images of one template are taken for one, and of how many."""
    found = [image_hashes(encoded(image)) for image in images]
    pairs = [(one, other) for at, other in enumerate(found) for one in found[:at]]
    distinct = [pair for pair in pairs if pair[0].thumbnail != pair[1].thumbnail]
    return sum(judged(*pair) for pair in distinct), len(distinct)


def main() -> None:
    """Prints both curves."""
    drawn = [draw(seed) for seed in range(12) for draw in (chart, diagram)]
    columns = {"charts and diagrams": recall(drawn)}
    for folder in ("PuzzleVQA", "AlgoPuzzleVQA") if len(sys.argv) > 1 else ():
        templates = list(real_images(Path(sys.argv[1]), folder, 4))
        columns[folder] = recall([image for _, images in templates for image in images[:2]])
        for name, images in templates:
            merged, pairs = merged_in_template(images)
            if merged:
                print(f"{folder} {name}: {merged} of {pairs} pairs merged")
    print(f"| rendering | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in VARIANTS:
        cells = [f"{100 * column[name]:.0f}%" for column in columns.values()]
        print(f"| {name} | {' | '.join(cells)} |")
    for name, share in false_merges(20).items():
        print(f"| {name} | {100 * share:.1f}% |")


if __name__ == "__main__":
    main()
