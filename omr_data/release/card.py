"""The dataset card: README.md with the Hub's front matter, prose, and tables made from the
manifest.

The prose of a recipe is written by hand in `cards/<name>.md`. The placeholders `{{sources}}`,
`{{steps}}`, `{{dropped}}` and `{{columns}}` in it are filled with tables. Without prose, a plain
card is made of all of them.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omr_data.errors import ReleaseError

PLAIN = """\
# {{name}}

Version {{version}}, {{rows}} rows.

## Where the rows come from

{{sources}}

## What each step did

{{steps}}

## What was dropped

{{dropped}}

## Columns

{{columns}}
"""

SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""The Hub's names of sizes, each with the number of rows that it ends before."""
LARGEST = "10M<n<100M"
"""The name of every larger size. The Hub's list goes on; this package has not made a larger set."""

COLUMNS = (
    ("id", "unique; the question's id, `#` and the attempt"),
    (
        "messages",
        "the chat: the prompt exactly as the teacher saw it, then its answer, if any; image marks "
        "where the images stand",
    ),
    ("images", "the original bytes, in the order of the marks"),
    ("answer, options", "the gold answer, and the options where the question has some"),
    (
        "source, license",
        "the dataset that the question came from, and its license: it holds for this row",
    ),
    ("question_id, attempt", "the question, and which of its answers this is"),
    (
        "model, finish_reason, prompt_tokens, completion_tokens",
        "the teacher, and how the answer ended",
    ),
    ("pass_rate", "the share of the question's decided answers that are right, from 0 to 1"),
    ("verifier, verdict", "what judged the answer (name/revision), and why it counts as right"),
    ("task, group", "the kind of answer, and what groups rows that belong together"),
    ("answers, accept", "all accepted answers where there are several, and whether any or all"),
    ("meta", "further columns of the dataset, as JSON"),
    (
        "rollout",
        "the key of the request: sha256 of the teacher, its sampling parameters, the messages and "
        "the image hashes",
    ),
)
"""What each column of a release holds."""


def card(manifest: Mapping[str, Any], prose: str | None) -> str:
    """Returns the whole README.md.

    Args:
        manifest: The manifest of the release.
        prose: The part that is written by hand, with placeholders. None makes a plain card.

    Raises:
        ReleaseError: The prose has a placeholder that does not exist.
    """
    values = {
        "name": manifest["name"],
        "version": manifest["version"],
        "rows": f"{manifest['rows']:,}",
        "sources": sources_table(manifest),
        "steps": steps_table(manifest),
        "dropped": dropped_table(manifest),
        "columns": _table(("column", "meaning"), COLUMNS),
    }

    # Unknown placeholders are an error: a typo would otherwise stay in a published card.
    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise ReleaseError(
                f"the card of {manifest['name']} has a placeholder {{{{{name}}}}}, which does not "
                f"exist. There are: {', '.join(values)}."
            )
        return str(values[name])

    return front_matter(manifest) + re.sub(r"\{\{(\w+)\}\}", fill, prose or PLAIN)


def front_matter(manifest: Mapping[str, Any]) -> str:
    """Returns the metadata at the top of a card, which the Hub reads."""
    licenses = sorted({line["license"] for line in manifest["by_source"]})
    lines = ["---"]
    if len(licenses) == 1:
        lines.append(f"license: {licenses[0].lower()}")
    else:
        # The license holds for a row, so a set of several has no license of its own.
        lines += ["license: other", "license_name: per-row", "license_link: README.md"]
    rows = manifest["rows"]
    size = next((name for bound, name in SIZES if rows < bound), LARGEST)
    # Data files only: the card cannot hold a digest of itself.
    digests = "".join(file["sha256"] for file in manifest["files"])
    data = hashlib.sha256(digests.encode()).hexdigest()[:16]
    lines += [
        f"pretty_name: {manifest['name']}",
        "task_categories:",
        "- image-text-to-text",
        "size_categories:",
        f"- {size}",
        "tags:",
        "- reasoning",
        "- omr-data",
        "configs:",
        "- config_name: default",
        # `datasets` caches a local folder under its name and its configs, whatever its files hold.
        # Without this line, any two releases that are both called 1.0.0 would be one to it, and the
        # second would read the first one's rows.
        f"  description: {manifest['name']} {manifest['version']}, data sha256 {data}",
        "  data_files:",
    ]
    # The names are those of the data files, which alone have a number of rows in the manifest.
    paths = [file["path"] for file in manifest["files"] if "rows" in file]
    splits = {path.removeprefix("data/").rsplit("-", 3)[0] for path in paths}
    for split in sorted(splits or {"train"}):
        lines += [f"  - split: {split}", f"    path: data/{split}-*.parquet"]
    lines += ["---", "", ""]
    return "\n".join(lines)


def sources_table(manifest: Mapping[str, Any]) -> str:
    """Returns the tables of rows by source and of what was read."""
    # By source and license: the license holds for a row, and one source may have several.
    rows = [
        (line["source"], line["license"], f"{line['questions']:,}", f"{line['rows']:,}")
        for line in manifest["by_source"]
    ]
    pins = []
    for source in manifest["sources"]:
        # A generated source reads no files: the recipe itself is all it is made from.
        digest = (source["digest"] or "made by this recipe")[:16]
        pins.append((source["repo"] or source["name"], source["commit"] or "", digest))
    table = _table(("source", "license", "questions", "rows"), rows, numbers=2)
    return table + "\n\n" + _table(("read from", "commit", "digest of the files read"), pins)


def steps_table(manifest: Mapping[str, Any]) -> str:
    """Returns the table of rows that entered and left each step."""
    lines = []
    for count in manifest["counts"]:
        dropped = sum(count["dropped"].values())
        tally = ", ".join(f"{name}: {number:,}" for name, number in count["tally"].items())
        rows_in, rows_out = f"{count['rows_in']:,}", f"{count['rows_out']:,}"
        lines.append((count["step"], rows_in, f"{dropped:,}", rows_out, tally))
    return _table(("step", "rows in", "dropped", "rows out", "of these"), lines)


def dropped_table(manifest: Mapping[str, Any]) -> str:
    """Returns the table of reasons for dropping rows."""
    lines = []
    for count in manifest["counts"]:
        for reason, number in count["dropped"].items():
            lines.append((count["step"], reason, f"{number:,}"))
    # A table without lines would look like one that failed to be filled.
    if not lines:
        return "Nothing was dropped."
    return _table(("step", "reason", "rows"), lines, numbers=1)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A Markdown table whose last `numbers` columns are right-aligned."""
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    lines = [head, rule]
    for row in rows:
        # Names and reasons may come from data: they must not end the cell, or become HTML.
        cells = [value.replace("&", "&amp;").replace("<", "&lt;") for value in row]
        lines.append([cell.replace("|", "\\|").replace("\n", " ") for cell in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
