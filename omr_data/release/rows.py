"""The rows of a release: one verified chat each, or one problem without an answer.

Column types are the Hub's (datasets features). `images` is a list of Image structs with the
original bytes. `messages` is a list of {role, content} whose content is one string with `<image>`
marks, which chat templates and trainers take as it is.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omr_data.errors import ReleaseError
from omr_data.records import ImageRef, Record, Response, chat, group_of
from omr_data.store.atomic import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES = 64 * 2**20
"""Bytes of a row group, at most. The Hub's viewer scans at most 286 MiB."""
GROUP_ROWS = 1_000
"""Rows of a row group, at most."""


def release_features() -> dict[str, Any]:
    """Returns the `datasets` features of a release's columns.

    The spelling is the one that every version since 2.0 reads. `datasets` 5 writes lists as "List",
    which version 3 cannot read.
    """
    text, whole, real = (
        {"dtype": kind, "_type": "Value"} for kind in ("string", "int64", "float64")
    )
    return {
        "id": text,
        "messages": [{"role": text, "content": text}],
        "images": {"feature": {"_type": "Image"}, "_type": "Sequence"},
        "answer": text,
        "options": {"feature": text, "_type": "Sequence"},
        "source": text,
        "license": text,
        "question_id": text,
        "attempt": whole,
        "model": text,
        "finish_reason": text,
        "pass_rate": real,
        "prompt_tokens": whole,
        "completion_tokens": whole,
        "verifier": text,
        "verdict": text,
        "rollout": text,
        "task": text,
        "group": text,
        "answers": {"feature": text, "_type": "Sequence"},
        "accept": text,
        "meta": text,
    }


def release_schema() -> "pa.Schema":
    """Returns the Arrow schema of a release's files, with the Hub's feature types in its
    metadata."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}
    special = {
        "messages": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "images": pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        "options": pa.list_(pa.string()),
        "answers": pa.list_(pa.string()),
    }
    features = release_features()
    fields = []
    for name, feature in features.items():
        kind = special[name] if name in special else kinds[feature["dtype"]]
        fields.append(pa.field(name, kind))
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def row(record: Record, read_image: Callable[[ImageRef], bytes]) -> dict[str, Any]:
    """Returns one record as a row.

    A record without a response is a problem: a chat that ends where the assistant begins.

    Args:
        record: A record with at most one response.
        read_image: Reads the original bytes of an image.

    Raises:
        ReleaseError: The record holds several responses.
    """
    if len(record.responses) > 1:
        raise ReleaseError(
            f"the record {record.id} has {len(record.responses)} responses, and a row is one chat "
            "or one problem. End the recipe with explode.Right() for chats, or with "
            "responses.Drop() for problems."
        )
    # A record that nobody was asked about has no prompt, and is worded as a teacher would see it.
    prompt = record.prompt or chat(record)
    messages = [{"role": message.role, "content": message.text} for message in prompt]
    answered: dict[str, Any] = dict.fromkeys(_ANSWERED)
    for response in record.responses:
        messages.append({"role": "assistant", "content": assistant_text(response)})
        answered = answer_columns(response)
    images = [
        {"bytes": read_image(image), "path": f"{image.sha256}.{image.format.lower()}"}
        for image in record.images
    ]
    return {
        "id": record.id,
        "messages": messages,
        "images": images,
        "answer": record.answer,
        "options": list(record.options),
        "source": record.source,
        "license": record.license,
        "question_id": record.question_id or record.id,
        "pass_rate": record.pass_rate,
        "task": record.task,
        "group": group_of(record),
        "answers": list(record.answers),
        "accept": record.accept,
        # JSON and not a struct: datasets of one mix keep different columns.
        "meta": json.dumps(dict(sorted(record.meta.items())), ensure_ascii=False),
        **answered,
    }


def answer_columns(response: Response) -> dict[str, Any]:
    """Returns the columns of a row that are about its answer."""
    verifier = verdict = ""
    # Empty and not null: null in these columns says that the row has no answer at all.
    if response.verdict is not None:
        verifier = f"{response.verdict.verifier}/{response.verdict.revision}"
        verdict = response.verdict.reason
    return {
        "attempt": response.attempt,
        "model": response.model,
        "finish_reason": response.finish_reason,
        "prompt_tokens": response.prompt_tokens,
        "completion_tokens": response.completion_tokens,
        "verifier": verifier,
        "verdict": verdict,
        "rollout": response.key,
    }


_ANSWERED = (
    "attempt",
    "model",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "verifier",
    "verdict",
    "rollout",
)
"""Columns about the answer: null in a problem."""


def assistant_text(response: Response) -> str:
    """Returns what a model is trained to say.

    Some servers return the reasoning apart from the text. It goes back between its tags, where the
    model wrote it.
    """
    if response.reasoning:
        return f"<think>{response.reasoning}</think>{response.text}"
    return response.text


def write_rows(
    path: Path, records: Iterable[Record], read_image: Callable[[ImageRef], bytes]
) -> None:
    """Writes one file of a release.

    Args:
        path: The file.
        records: Its rows, in order.
        read_image: Reads the original bytes of an image.

    Raises:
        ReleaseError: A record holds several responses.
        StoreError: An image is missing or damaged, or the disk refuses the write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = release_schema()
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 3,
        # Rollouts of one question repeat its image. A dictionary page as large as a row group keeps
        # the image once.
        "dictionary_pagesize_limit": GROUP_BYTES,
        # Readers that check them notice a damaged page, also without the manifest.
        "write_page_checksum": True,
    }
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        group: list[dict[str, Any]] = []
        size = 0
        # The size of a group is taken from images and texts: other columns are small beside them.
        for record in records:
            made = row(record, read_image)
            group.append(made)
            size += sum(len(image["bytes"]) for image in made["images"])
            size += sum(len(message["content"]) for message in made["messages"])
            if size >= GROUP_BYTES or len(group) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group, size = [], 0
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema))
