"""The dataset card: README.md with the Hub's front matter, prose written by hand, and tables made from the manifest.

The prose of a recipe is `cards/<name>.md`. The places `{{sources}}`, `{{steps}}`, `{{dropped}}` and `{{columns}}` in it are
filled with tables; without prose a plain card is made of all of them.
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

COLUMNS = (
    ("id", "unique; the question's id, `#` and the attempt"),
    (
        "messages",
        "the chat: the prompt exactly as the teacher saw it, then its answer, if any; image marks where the images stand",
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
        "the key of the request: sha256 of the teacher, its sampling parameters, the messages and the image hashes",
    ),
)


def card(manifest: Mapping[str, Any], prose: str | None) -> str:
    """The whole README.md. Raises ReleaseError when the prose has a place that does not exist."""
    places = {
        "name": manifest["name"],
        "version": manifest["version"],
        "rows": f"{manifest['rows']:,}",
        "sources": _sources(manifest),
        "steps": _steps(manifest),
        "dropped": _dropped(manifest),
        "columns": _table(("column", "meaning"), COLUMNS),
    }

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in places:
            raise ReleaseError(
                f"the card of {manifest['name']} has a place {{{{{name}}}}}, which does not exist. There are: {', '.join(places)}."
            )
        return str(places[name])

    return _front_matter(manifest) + re.sub(r"\{\{(\w+)\}\}", fill, prose or PLAIN)


def _front_matter(manifest: Mapping[str, Any]) -> str:
    """What the Hub reads. The license is per row, so a set of several has no license of its own."""
    licenses = sorted({line["license"] for line in manifest["by_source"]})
    license = licenses[0].lower() if len(licenses) == 1 else "other"
    lines = ["---", f"license: {license}"]
    if len(licenses) > 1:
        lines += ["license_name: per-row", "license_link: README.md"]
    lines += [
        f"pretty_name: {manifest['name']}",
        "task_categories:",
        "- image-text-to-text",
        "size_categories:",
        f"- {_size_category(manifest['rows'])}",
        "tags:",
        "- reasoning",
        "- omr-data",
        "configs:",
        "- config_name: default",
        # `datasets` caches a local folder under its name and its configs, whatever its files hold: without this line, any two
        # releases that are both called 1.0.0 would be one to it, and the second would read the first one's rows.
        f"  description: {_contents(manifest)}",
        "  data_files:",
        "  - split: train",
        "    path: data/train-*.parquet",
        "---",
        "",
        "",
    ]
    return "\n".join(lines)


def _contents(manifest: Mapping[str, Any]) -> str:
    """The release's name, with a digest over its data files."""
    digests = "".join(file["sha256"] for file in manifest["files"])
    return f"{manifest['name']} {manifest['version']}, data sha256 {hashlib.sha256(digests.encode()).hexdigest()[:16]}"


def _size_category(rows: int) -> str:
    bounds = [
        (1_000, "n<1K"),
        (10_000, "1K<n<10K"),
        (100_000, "10K<n<100K"),
        (1_000_000, "100K<n<1M"),
        (10_000_000, "1M<n<10M"),
    ]
    return next((name for bound, name in bounds if rows < bound), "10M<n<100M")


def _sources(manifest: Mapping[str, Any]) -> str:
    rows = [
        (line["source"], line["license"], f"{line['questions']:,}", f"{line['rows']:,}")
        for line in manifest["by_source"]
    ]
    pins = [
        (
            source["repo"] or source["name"],
            source["commit"] or "",
            (source["digest"] or "made by this recipe")[:16],
        )
        for source in manifest["sources"]
    ]
    table = _table(("source", "license", "questions", "rows"), rows, numbers=2)
    return table + "\n\n" + _table(("read from", "commit", "digest of the files read"), pins)


def _steps(manifest: Mapping[str, Any]) -> str:
    lines = [
        (
            count["step"],
            f"{count['rows_in']:,}",
            f"{sum(count['dropped'].values()):,}",
            f"{count['rows_out']:,}",
            ", ".join(f"{name}: {number:,}" for name, number in count["tally"].items()),
        )
        for count in manifest["counts"]
    ]
    return _table(("step", "rows in", "dropped", "rows out", "of these"), lines)


def _dropped(manifest: Mapping[str, Any]) -> str:
    lines = [
        (count["step"], reason, f"{number:,}")
        for count in manifest["counts"]
        for reason, number in count["dropped"].items()
    ]
    return _table(("step", "reason", "rows"), lines, numbers=1) if lines else "Nothing was dropped."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A Markdown table whose last `numbers` columns are right-aligned. Cells are escaped: they may come from data."""
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    lines = [head, rule, *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
