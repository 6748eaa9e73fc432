"""Synthetic problems: sums, comparisons and charts, generated from a seed (CC0-1.0).

They need no network and no files. **Family**: a kind of problem. **Level**: how hard it is, 1 to 3.
**Split**: every problem belongs to one of `teacher` (60%), `train` (25%) and `heldout` (15%), by a
hash of its operands, so the splits never share a problem. The embedded teacher is trained on
`teacher`; recipes use `train`; models are evaluated on `heldout`.

    family    image   a problem of level 1                                answer
    text      no      What is 12 + 7?                                     19
    sum       yes     two numbers; What is the sum of the two numbers?    19
    larger    yes     two numbers; Which number is larger?                12
    bars      yes     a bar chart; How high is the red bar?               4
    choice    yes     a number and options; Which number is drawn?        37

Images are 64 x 64 pixels, drawn with Pillow's own font. Place, size and colors vary with a hash of
the problem, so that a model cannot learn a place by heart.
"""

import functools
import hashlib
import io
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

from omr_data import source
from omr_data.errors import SourceError
from omr_data.records import IMAGE_MARK, ImageRef, Record
from omr_data.source import Files, Images, Part

Split = Literal["teacher", "train", "heldout"]

SIDE = 64
FAMILIES = ("text", "sum", "larger", "bars", "choice")
LEVELS = (1, 2, 3)
COLORS = {
    "red": (208, 40, 40),
    "green": (30, 140, 50),
    "blue": (40, 70, 210),
    "orange": (235, 140, 20),
}
INKS = ((20, 20, 20), (120, 20, 90), (20, 60, 130), (10, 90, 60))
ROWS_PER_PART = 300


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem with its answer."""

    family: str
    """The kind of problem, one of FAMILIES."""
    level: int
    """How hard it is, one of LEVELS."""
    question: str
    """The question, without a mark for the image."""
    answer: str
    """The answer: digits. Of a choice, the text of the right option."""
    work: str
    """A line of reasoning that leads to the answer. The embedded teacher learns to write it."""
    numbers: tuple[int, ...] = ()
    """The operands. They are in the image, if there is one."""
    colors: tuple[str, ...] = ()
    """The color of each bar, in the order of `numbers`. Empty where nothing is a bar."""
    options: tuple[str, ...] = ()
    """The options of a choice, in the order of their letters."""

    @property
    def has_image(self) -> bool:
        """Whether the numbers are drawn, and not in the question."""
        return self.family != "text"

    @property
    def identity(self) -> str:
        """What tells this problem from all others; equal identities have equal images."""
        return f"{self.family}:{self.question}:{self.numbers}:{self.colors}:{self.options}"

    @property
    def operands(self) -> str:
        """What decides the split: the numbers, or the bars, in any order.

        Sorted, so that 3 + 4 and 4 + 3 are never in two splits.
        """
        if self.colors:
            return f"{sorted(zip(self.colors, self.numbers, strict=True))}"
        return f"{sorted(self.numbers)}"


def split_of(problem: Problem) -> Split:
    """Returns the split that a problem belongs to, by a hash of its operands."""
    # A hash and not a random number: a problem is in the same split for every seed and count.
    share = int.from_bytes(hashlib.sha256(problem.operands.encode()).digest()[:4]) / 2**32
    if share < 0.60:
        return "teacher"
    if share < 0.85:
        return "train"
    return "heldout"


def problems(split: Split, family: str, level: int, seed: int | str = 0) -> Iterator[Problem]:
    """Yields problems without end. They repeat where a level has few.

    Args:
        split: The split that all of them belong to.
        family: Their family.
        level: Their level.
        seed: Another seed gives another order.
    """
    numbers = random.Random(f"{split}:{family}:{level}:{seed}")
    while True:
        problem = _MAKERS[family](level, numbers)
        # Problems of other splits are thrown away: at most 85% of them, and making one is cheap.
        if split_of(problem) == split:
            yield problem


def distinct(
    split: Split,
    family: str,
    level: int,
    count: int,
    seed: int | str = 0,
    taken: Collection[str] = frozenset(),
) -> list[Problem]:
    """Returns different problems of one family and level.

    Args:
        split: The split that all of them belong to.
        family: Their family.
        level: Their level.
        count: How many are wanted.
        seed: Another seed gives other problems.
        taken: Identities of problems that are not wanted.

    Raises:
        SourceError: The split has fewer problems of this family and level.
    """
    found: dict[str, Problem] = {}
    for tried, problem in enumerate(problems(split, family, level, seed)):
        if len(found) == count:
            break
        # Without a limit a level with few problems would be searched for ever.
        if tried > 50 * count + 5_000:
            raise SourceError(
                f"synthetic.Source: the split {split!r} has only about {len(found):,} problems of "
                f"family {family!r} at level {level}, and {count:,} are wanted. Ask for fewer "
                "rows, or for more families and levels."
            )
        if problem.identity not in taken:
            found.setdefault(problem.identity, problem)
    return list(found.values())


@dataclass(frozen=True)
class Source(source.Source):
    """Different problems, of each family and level in turn.

    Row 0 is of the first family at the first level, row 1 of the second family, and so on.
    """

    license = "CC0-1.0"
    split: Split = "train"
    """The split that the problems belong to."""
    count: int = 1_200
    """How many problems."""
    families: tuple[str, ...] = FAMILIES
    """The families to take in turn."""
    levels: tuple[int, ...] = LEVELS
    """The levels to take in turn."""
    seed: int = 0
    """Another seed gives other problems."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # Checked here and not when rows are made: a plan is free, and a build is not.
        for name, given, known in (
            ("family", self.families, FAMILIES),
            ("level", self.levels, LEVELS),
            ("split", (self.split,), _SPLITS),
        ):
            if unknown := [value for value in given if value not in known]:
                raise SourceError(
                    f"synthetic.Source has no {name} {unknown[0]!r}. "
                    f"There are: {', '.join(map(str, known))}."
                )
        if self.count < 1:
            raise SourceError(
                f"synthetic.Source is asked for {self.count} rows; at least one is needed."
            )

    def parts(self, files: Files) -> Sequence[Part]:
        return [
            Part("", start, min(start + ROWS_PER_PART, self.count))
            for start in range(0, self.count, ROWS_PER_PART)
        ]

    def rows(self, files: Files, part: Part) -> Iterator[Mapping[str, Any]]:
        # Row by row through the cells, so that the first rows of a set show every kind.
        problems = _all_problems(self)
        for number in range(part.start, part.stop):
            cell = problems[number % len(problems)]
            yield {"number": number, "problem": cell[number // len(problems)]}

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        problem: Problem = row["problem"]
        refs: tuple[ImageRef, ...] = ()
        if problem.has_image:
            refs = (images.from_bytes(draw(problem)),)
        return Record(
            id=f"synthetic/{self.split}/{problem.family}/{row['number']:06}",
            source="synthetic",
            license=self.license,
            question=IMAGE_MARK * problem.has_image + problem.question,
            answer=problem.answer,
            images=refs,
            options=problem.options,
            meta={"family": problem.family, "level": str(problem.level)},
        )


@functools.lru_cache(maxsize=4)
def _all_problems(wanted: Source) -> list[list[Problem]]:
    """All problems of a source, a list for each level and family.

    A part needs those before it, because no problem is taken twice. Kept between the parts that one
    process reads, they are made once, and reading stays linear.
    """
    made = []
    taken: set[str] = set()
    cells = list(product(wanted.levels, wanted.families))
    for place, (level, family) in enumerate(cells):
        share = len(range(place, wanted.count, len(cells)))
        made.append(distinct(wanted.split, family, level, share, wanted.seed, taken))
        # Levels overlap: 12 + 7 is a problem of any.
        taken.update(problem.identity for problem in made[-1])
    return made


# ---------------------------------------------------------------------------------------- problems


def _text(level: int, numbers: random.Random) -> Problem:
    # Differences are of a larger and a smaller number: the teacher writes digits, and no sign.
    if level == 1:
        a, b = numbers.randint(1, 30), numbers.randint(1, 30)
        return Problem("text", level, f"What is {a} + {b}?", str(a + b), f"{a}+{b}={a + b}", (a, b))
    if level == 2:
        a, b = numbers.randint(20, 99), numbers.randint(1, 19)
        return Problem("text", level, f"What is {a} - {b}?", str(a - b), f"{a}-{b}={a - b}", (a, b))
    a, b = numbers.randint(10, 99), numbers.randint(10, 99)
    return Problem("text", level, f"What is {a} + {b}?", str(a + b), f"{a}+{b}={a + b}", (a, b))


def _sum(level: int, numbers: random.Random) -> Problem:
    # Larger numbers are harder for a small model, whatever the operation.
    top = {1: 20, 2: 40, 3: 99}[level]
    a, b = numbers.randint(1, top), numbers.randint(1, top)
    return Problem(
        "sum", level, "What is the sum of the two numbers?", str(a + b), f"{a}+{b}={a + b}", (a, b)
    )


def _larger(level: int, numbers: random.Random) -> Problem:
    # Sampled without repetition: of two equal numbers, none is larger.
    top = {1: 30, 2: 60, 3: 99}[level]
    a, b = numbers.sample(range(1, top + 1), 2)
    if level == 3:
        low, high = sorted((a, b))
        work = f"{high}-{low}={high - low}"
        return Problem(
            "larger",
            level,
            "What is the difference of the two numbers?",
            str(high - low),
            work,
            (a, b),
        )
    return Problem("larger", level, "Which number is larger?", str(max(a, b)), f"{a},{b}", (a, b))


def _bars(level: int, numbers: random.Random) -> Problem:
    # Colors are sorted first, so that the choice depends on the seed and not on the dict's order.
    count, top = {1: (3, 5), 2: (4, 9), 3: (4, 9)}[level]
    colors = tuple(numbers.sample(sorted(COLORS), count))
    heights = dict(zip(colors, (numbers.randint(1, top) for _ in colors), strict=True))
    first, second = numbers.sample(colors, 2)
    drawn = tuple(heights.values())
    if level < 3:
        question = f"How high is the {first} bar?"
        return Problem(
            "bars", level, question, str(heights[first]), f"{first} {heights[first]}", drawn, colors
        )
    total = heights[first] + heights[second]
    question = f"How high are the {first} and the {second} bar together?"
    return Problem(
        "bars",
        level,
        question,
        str(total),
        f"{heights[first]}+{heights[second]}={total}",
        drawn,
        colors,
    )


def _choice(level: int, numbers: random.Random) -> Problem:
    top = {1: 50, 2: 99, 3: 20}[level]
    drawn = tuple(numbers.randint(1, top) for _ in range({1: 1, 2: 2, 3: 2}[level]))
    question, right, work = {
        1: ("Which number is drawn?", drawn[0], f"{drawn[0]}"),
        2: ("Which number is larger?", max(drawn), ",".join(map(str, drawn))),
        3: (
            "What is the sum of the two numbers?",
            sum(drawn),
            "+".join(map(str, drawn)) + f"={sum(drawn)}",
        ),
    }[level]
    # Wrong options are near misses and the other numbers of the image, so that guessing is hard.
    others = {number for number in drawn if number != right}
    while len(others) < 3:
        others.add(max(1, right + numbers.choice((-10, -3, -2, -1, 1, 2, 3, 10))))
        others.discard(right)
    options = [str(number) for number in (right, *sorted(others)[:3])]
    numbers.shuffle(options)
    letter = "ABCD"[options.index(str(right))]
    return Problem(
        "choice", level, question, str(right), f"{work} {letter}", drawn, (), tuple(options)
    )


_MAKERS: dict[str, Callable[[int, random.Random], Problem]] = {
    "text": _text,
    "sum": _sum,
    "larger": _larger,
    "bars": _bars,
    "choice": _choice,
}
_SPLITS = ("teacher", "train", "heldout")


# ------------------------------------------------------------------------------------------ images


def draw(problem: Problem) -> bytes:
    """Returns the problem's image as PNG bytes of 64 x 64 pixels.

    The bytes are the same each time for one version of Pillow.
    """
    # A generator of its own: the looks depend on the problem, and not on what was drawn before.
    looks = random.Random(hashlib.sha256(problem.identity.encode()).hexdigest())
    image = Image.new("RGB", (SIDE, SIDE), tuple(looks.randint(225, 255) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    if problem.family == "bars":
        # Bars stand on a line; each unit is 6 pixels high and marked by a thin line.
        unit, floor = 6, SIDE - 5
        for height in range(0, 10):
            # The floor is dark, and the lines above it are light, so that bars stay legible.
            shade = 175
            if height == 0:
                shade = 40
            level = floor - unit * height
            pen.line((2, level, SIDE - 2, level), fill=(shade, shade, shade))
        # Bars keep within their own slot, as numbers do, and their place in it varies.
        slot = (SIDE - 6) // len(problem.numbers)
        wide = looks.randint(8, slot - 3)
        for place, (height, color) in enumerate(zip(problem.numbers, problem.colors, strict=True)):
            edge = 4 + place * slot + looks.randint(0, slot - wide - 1)
            pen.rectangle((edge, floor - unit * height, edge + wide, floor), fill=COLORS[color])
    else:
        width = SIDE // len(problem.numbers)
        # Each number has its own column, so that two numbers never touch.
        for place, number in enumerate(problem.numbers):
            font = ImageFont.load_default(size=looks.randint(20, 23))
            box = pen.textbbox((0, 0), str(number), font=font)
            slack = max(0, width - int(box[2] - box[0]) - 2)
            left = place * width + 1 + looks.randint(0, slack) - box[0]
            top = (SIDE - int(box[3] - box[1])) // 2 + looks.randint(-7, 7) - box[1]
            pen.text((left, top), str(number), font=font, fill=looks.choice(INKS))
    # PNG keeps every pixel, so that small digits have no artifacts around them.
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
