"""Drops records whose texts or images are not fit to learn from.

    quality.Length(at_most=8_192)        texts of a length
    quality.Repetition(at_most=0.3)      responses that go round in circles
    quality.Images(aspect=8.0)           images without content

Put the steps about responses after explode.Right(), where a record has one response.
"""

import functools
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omr_data.errors import MissingExtra, RecipeError
from omr_data.records import ImageRef, Record, chat
from omr_data.step import Columns, Decisions, Filter, GlobalStep

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True)
class Length(Filter):
    """Drops records whose text has too few or too many tokens."""

    at_least: int = 1
    """The least number of tokens."""
    at_most: int | None = None
    """The largest number of tokens. None sets no limit."""
    of: Literal["prompt", "response"] = "response"
    """Which text: the whole prompt with its options, or each response with its reasoning."""
    tokenizer: str = "words"
    """"words" counts words between spaces. Anything else names a tokenizer.json file, or a model on
    the Hub, whose tokens are counted; that needs the extra "train"."""
    commit: str = "main"
    """The commit of a model on the Hub. A branch moves, so name a commit in a recipe to keep."""

    def reason(self, record: Record) -> str | None:
        """Returns on which side a text is out of the limits, or None."""
        texts = [f"{one.reasoning or ''}{one.text}" for one in record.responses]
        if self.of == "prompt":
            texts = ["\n".join(message.text for message in record.prompt or chat(record))]
        for text in texts:
            if self.tokenizer == "words":
                tokens = len(text.split())
            else:
                # Special tokens belong to the chat template, and not to the text.
                tokenizer = _tokenizer(self.tokenizer, self.commit)
                tokens = len(tokenizer.encode(text, add_special_tokens=False).ids)
            if tokens < self.at_least:
                return f"the {self.of} has under {self.at_least} tokens"
            if self.at_most is not None and tokens > self.at_most:
                return f"the {self.of} has over {self.at_most} tokens"
        return None


@functools.cache
def _tokenizer(name: str, commit: str) -> Any:
    """Loads a tokenizer once in each process: it takes a second, and is not picklable."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra("tokenizers", "train") from error
    # A file comes first: a name on the Hub has one slash, and so may a path.
    if Path(name).is_file():
        return Tokenizer.from_file(name)
    return Tokenizer.from_pretrained(name, revision=commit)


@dataclass(frozen=True)
class Repetition(Filter):
    """Drops records with a response in which too many runs of words occur twice.

    A model that loses its thread repeats itself until it is cut off. The measure is the share of
    n-grams that occurred before in the same response (Gopher, arXiv 2112.11446, appendix A1.1).
    """

    at_most: float = 0.3
    """The largest share of repeated n-grams, from 0 to 1."""
    words: int = 8
    """Words of an n-gram. Short runs repeat in good answers too, such as "the area of the"."""

    def __post_init__(self) -> None:
        """Raises RecipeError where the limits have no meaning."""
        super().__post_init__()
        if self.words < 1 or not 0 <= self.at_most <= 1:
            raise RecipeError(
                f"{self.name}: words is {self.words} and at_most {self.at_most}; give at least one "
                "word, and a share from 0 to 1."
            )

    def reason(self, record: Record) -> str | None:
        """Returns the reason where a response repeats itself, or None."""
        for response in record.responses:
            # Loops occur most in the reasoning, so it is read with the text.
            words = f"{response.reasoning or ''} {response.text}".split()
            runs = Counter(zip(*(words[start:] for start in range(self.words)), strict=False))
            # A response shorter than one run has none, and cannot loop.
            repeated = runs.total() - len(runs)
            if repeated > self.at_most * max(1, runs.total()):
                return f"over {self.at_most:.0%} of the runs of {self.words} words are repeated"
        return None


@dataclass(frozen=True)
class Images(GlobalStep):
    """Drops records with an image that is blank or far from square.

    It is a GlobalStep because only those read pixels; each image is decoded once, in the workers.
    limits.ImageSide() drops by size alone, without decoding.
    """

    aspect: float = 10.0
    """The largest ratio of the longer side to the shorter one."""
    contrast: float = 1.0
    """The least standard deviation of the gray levels, from 0 to 127. A blank image has 0."""

    def extract_keys(
        self, shard: "pa.Table", read_image: Callable[[ImageRef], bytes]
    ) -> "pl.DataFrame":
        """Returns `id`, the largest `aspect` and the least `contrast` of each record's images."""
        import polars as pl
        from PIL import Image, ImageStat

        # Decoded one record at a time: a shard may hold thousands of images.
        rows = []
        for id_, cells in zip(
            *(shard.column(name).to_pylist() for name in ("id", "images")), strict=True
        ):
            images = [ImageRef(**cell) for cell in cells]
            # Sizes are in the record, so that the ratio costs no decoding.
            sides = [(ref.width, ref.height) for ref in images]
            aspect = max((max(pair) / max(1, min(pair)) for pair in sides), default=1.0)
            contrast = 127.5
            for ref in images:
                with Image.open(io.BytesIO(read_image(ref))) as image:
                    # Fine lines survive: shrinking averages them, and a blank image stays at 0.
                    image.draft("L", (256, 256))
                    small = image.convert("L").resize((64, 64), Image.Resampling.BOX)
                    contrast = min(contrast, float(ImageStat.Stat(small).stddev[0]))
            rows.append((id_, aspect, contrast))
        schema = {"id": pl.String, "aspect": pl.Float64, "contrast": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def decide(self, data: Columns, references: Sequence[Columns]) -> Decisions:
        """Drops rows whose images are out of a limit."""
        # A record that is both narrow and blank counts once, as blank.
        keys = data.keys
        narrow = keys.filter(keys["aspect"] > self.aspect)["id"].to_list()
        blank = keys.filter(keys["contrast"] < self.contrast)["id"].to_list()
        return Decisions(
            dict.fromkeys(narrow, f"an image is over {self.aspect:g} times as long as wide")
            | dict.fromkeys(blank, "an image is blank")
        )
