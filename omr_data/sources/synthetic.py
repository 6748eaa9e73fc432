"""Synthetic problems: sums, comparisons and charts, made anew from a seed (CC0-1.0). No network, no files.

**Family**: a kind of problem. **Level**: how hard it is, 1 to 3. **Split**: every problem belongs to one of `teacher`
(60%), `train` (25%) and `heldout` (15%), by a hash of its operands, so the splits never share a problem. The embedded
teacher is trained on `teacher`; recipes use `train`; models are evaluated on `heldout`.

    family    image   a problem of level 1                                answer
    text      no      What is 12 + 7?                                     19
    sum       yes     two numbers; What is the sum of the two numbers?    19
    larger    yes     two numbers; Which number is larger?                12
    bars      yes     a bar chart; How high is the red bar?               4
    choice    yes     a number and options; Which number is drawn?        37

Images are 64 x 64 pixels, drawn with Pillow's own font: place, size and colors vary with a hash of the problem.
"""

import hashlib
import io
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, ImageDraw, ImageFont

from omr_data import source
from omr_data.errors import SourceError
from omr_data.records import IMAGE_MARK, Record
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
    """One problem. `numbers` are its operands (drawn, if it has an image), `work` a line of reasoning that gives the answer."""

    family: str
    level: int
    question: str
    answer: str
    work: str
    numbers: tuple[int, ...] = ()
    colors: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @property
    def has_image(self) -> bool:
        """Whether the numbers are drawn, and not in the question."""
        return self.family != "text"

    @property
    def identity(self) -> str:
        """What makes this problem this problem; equal identities have equal images."""
        return f"{self.family}:{self.question}:{self.numbers}:{self.colors}:{self.options}"

    @property
    def operands(self) -> str:
        """What decides the split: the numbers in any order, and the bars in any order. 3 + 4 and 4 + 3 are never in two splits."""
        return (
            f"{sorted(zip(self.colors, self.numbers, strict=True))}"
            if self.colors
            else f"{sorted(self.numbers)}"
        )


def split_of(problem: Problem) -> Split:
    """The split that a problem belongs to, by a hash of its operands."""
    share = int.from_bytes(hashlib.sha256(problem.operands.encode()).digest()[:4]) / 2**32
    return "teacher" if share < 0.60 else "train" if share < 0.85 else "heldout"


def problems(split: Split, family: str, level: int, seed: int | str = 0) -> Iterator[Problem]:
    """Endless problems of one family and level, all of one split; they repeat, where a level has few."""
    numbers = random.Random(f"{split}:{family}:{level}:{seed}")
    while True:
        problem = _MAKERS[family](level, numbers)
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
    """So many different problems, none of them with an identity in `taken`.

    Raises:
        SourceError: the split has not so many of this family and level.
    """
    found: dict[str, Problem] = {}
    for tried, problem in enumerate(problems(split, family, level, seed)):
        if len(found) == count:
            break
        if tried > 50 * count + 5_000:
            raise SourceError(
                f"synthetic.Source: the split {split!r} has only about {len(found):,} problems of family {family!r} at level {level}, "
                f"and {count:,} are wanted. Ask for fewer rows, or for more families and levels."
            )
        if problem.identity not in taken:
            found.setdefault(problem.identity, problem)
    return list(found.values())


@dataclass(frozen=True)
class Source(source.Source):
    """`count` different problems, the families and levels in turn: row 0 is family 0 at the first level, and so on."""

    license = "CC0-1.0"
    split: Split = "train"
    count: int = 1_200
    families: tuple[str, ...] = FAMILIES
    levels: tuple[int, ...] = LEVELS
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, given, known in (
            ("family", self.families, FAMILIES),
            ("level", self.levels, LEVELS),
            ("split", (self.split,), _SPLITS),
        ):
            if unknown := [value for value in given if value not in known]:
                raise SourceError(
                    f"synthetic.Source has no {name} {unknown[0]!r}. There are: {', '.join(map(str, known))}."
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
        cells = [(family, level) for level in self.levels for family in self.families]
        made: dict[tuple[str, int], list[Problem]] = {}
        taken: set[str] = set()  # levels overlap: 12 + 7 is a problem of any
        for place, (family, level) in enumerate(cells):
            share = len(range(place, self.count, len(cells)))
            made[family, level] = distinct(self.split, family, level, share, self.seed, taken)
            taken.update(problem.identity for problem in made[family, level])
        for number in range(part.start, part.stop):
            yield {
                "number": number,
                "problem": made[cells[number % len(cells)]][number // len(cells)],
            }

    def convert(self, row: Mapping[str, Any], images: Images) -> Record:
        problem: Problem = row["problem"]
        return Record(
            id=f"synthetic/{self.split}/{problem.family}/{row['number']:06}",
            source="synthetic",
            license=self.license,
            question=IMAGE_MARK * problem.has_image + problem.question,
            answer=problem.answer,
            images=(images.from_bytes(draw(problem)),) if problem.has_image else (),
            options=problem.options,
            meta={"family": problem.family, "level": str(problem.level)},
        )


# -------------------------------------------------------------------------------------------- problems


def _text(level: int, numbers: random.Random) -> Problem:
    if level == 1:
        a, b = numbers.randint(1, 30), numbers.randint(1, 30)
        return Problem("text", level, f"What is {a} + {b}?", str(a + b), f"{a}+{b}={a + b}", (a, b))
    if level == 2:
        a, b = numbers.randint(20, 99), numbers.randint(1, 19)
        return Problem("text", level, f"What is {a} - {b}?", str(a - b), f"{a}-{b}={a - b}", (a, b))
    a, b = numbers.randint(10, 99), numbers.randint(10, 99)
    return Problem("text", level, f"What is {a} + {b}?", str(a + b), f"{a}+{b}={a + b}", (a, b))


def _sum(level: int, numbers: random.Random) -> Problem:
    top = {1: 20, 2: 40, 3: 99}[level]
    a, b = numbers.randint(1, top), numbers.randint(1, top)
    return Problem(
        "sum", level, "What is the sum of the two numbers?", str(a + b), f"{a}+{b}={a + b}", (a, b)
    )


def _larger(level: int, numbers: random.Random) -> Problem:
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


# -------------------------------------------------------------------------------------------- images


def draw(problem: Problem) -> bytes:
    """The problem's image as PNG bytes: 64 x 64 pixels, the same bytes each time for one version of Pillow."""
    looks = random.Random(hashlib.sha256(problem.identity.encode()).hexdigest())
    image = Image.new("RGB", (SIDE, SIDE), tuple(looks.randint(225, 255) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    if problem.family == "bars":
        _draw_bars(pen, problem, looks)
    else:
        _draw_numbers(pen, problem, looks)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _draw_numbers(pen: ImageDraw.ImageDraw, problem: Problem, looks: random.Random) -> None:
    width = SIDE // len(problem.numbers)
    for place, number in enumerate(problem.numbers):
        font = ImageFont.load_default(size=looks.randint(20, 23))
        box = pen.textbbox((0, 0), str(number), font=font)
        slack = max(0, width - int(box[2] - box[0]) - 2)
        left = place * width + 1 + looks.randint(0, slack) - box[0]
        top = (SIDE - int(box[3] - box[1])) // 2 + looks.randint(-7, 7) - box[1]
        pen.text((left, top), str(number), font=font, fill=looks.choice(INKS))


def _draw_bars(pen: ImageDraw.ImageDraw, problem: Problem, looks: random.Random) -> None:
    """Bars stand on a line; each unit is 6 pixels high and marked by a thin line."""
    unit, floor = 6, SIDE - 5
    for height in range(0, 10):
        pen.line(
            (2, floor - unit * height, SIDE - 2, floor - unit * height),
            fill=(175, 175, 175) if height else (40, 40, 40),
        )
    slot = (SIDE - 6) // len(problem.numbers)
    wide = looks.randint(8, slot - 3)
    for place, (height, color) in enumerate(zip(problem.numbers, problem.colors, strict=True)):
        left = 4 + place * slot + looks.randint(0, slot - wide - 1)
        pen.rectangle((left, floor - unit * height, left + wide, floor), fill=COLORS[color])
