"""A chat of six turns with two images goes to a real HTTP teacher as it is, and comes out whole."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from omr_data import Recipe
from omr_data.engine.build import build
from omr_data.operators import rollout
from omr_data.plan import make_plan
from omr_data.processes import mapper
from omr_data.progress import reporter
from omr_data.recipe import load_in_worker
from omr_data.release.rows import row
from omr_data.sources import files
from omr_data.sources.locator import LocalDatasets
from omr_data.store.shards import read_records
from omr_data.store.workspace import Workspace
from omr_data.teacher import Budget
from omr_data.teachers import openai_api
from tests.builders import png

CHAT = [
    {"from": "system", "value": "Look closely."},
    {"from": "human", "value": "Hello"},
    {"from": "gpt", "value": "Hello, what is it about?"},
    {"from": "human", "value": "This <image> here."},
    {"from": "gpt", "value": "A red square."},
    {"from": "human", "value": "And that?\n<image>"},
    {"from": "gpt", "value": "A blue square."},
]


@contextmanager
def teacher() -> Iterator[tuple[str, list[Any]]]:
    """A server that answers every chat the same, and keeps what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["messages"])
            message = {"role": "assistant", "content": "<answer>blue</answer>"}
            choices = [
                {"index": number, "finish_reason": "stop", "message": message}
                for number in range(body.get("n", 1))
            ]
            usage = {"prompt_tokens": 9, "completion_tokens": 3}
            answer = json.dumps({"model": "m", "choices": choices, "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Keeps the output of tests clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.build
def test_a_chat_of_several_turns_and_images_is_asked_and_released_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for color in ("red", "blue"):
        (data / f"{color}.png").write_bytes(png(color, (32, 32)))
    given = {"conversations": CHAT, "gold": "blue", "images": ["red.png", "blue.png"], "topic": "t"}
    (data / "chats.jsonl").write_text(json.dumps(given) + "\n")
    columns = {"messages": "conversations", "images": "images", "answer": "gold", "meta": ["topic"]}
    source = files.Source(data / "chats.jsonl", dataset="c", license="MIT", columns=columns)
    workspace = Workspace(tmp_path / "work")
    with teacher() as (url, asked):
        monkeypatch.setenv("OMR_TEACHER_URL", url)
        flow = source.then(rollout.Sample(openai_api.Teacher("m", max_tokens=9), n=2))
        plan = make_plan(Recipe("chats", "1.0.0", flow), LocalDatasets())
        with workspace.lock(), mapper(1, load_in_worker, tmp_path / "none.py") as processes:
            quiet = reporter(Console(quiet=True))
            built = build(plan, workspace, LocalDatasets(), processes, 1, quiet, Budget())

    # The exact prompt: five turns before the given answer, images as data URLs in their places.
    sent = asked[0]
    assert [message["role"] for message in sent] == ["system", "user", "assistant"] * 1 + [
        "user",
        "assistant",
        "user",
    ]
    assert [flat(message["content"]) for message in sent] == [
        "Look closely.",
        "Hello",
        "Hello, what is it about?",
        f"This [{sha('red')}] here.",
        "A red square.",
        f"And that?\n[{sha('blue')}]",
    ]
    (record,) = read_records(built.result[0])
    assert [response.text for response in record.responses] == [
        "A blue square.",
        "<answer>blue</answer>",
        "<answer>blue</answer>",
    ]
    assert record.prompt == record.turns
    assert dict(record.meta) == {"topic": "t"}
    released = row(replace_responses(record), workspace.images)
    texts = [message["content"] for message in released["messages"]]
    assert "".join(texts).count("<image>") == len(released["images"]) == 2
    assert texts[-1] == "<answer>blue</answer>"
    assert pq.read_table(built.result[0]).num_rows == 1


def replace_responses(record: Any) -> Any:
    import dataclasses

    return dataclasses.replace(record, responses=record.responses[1:2])


def sha(color: str) -> str:
    return base64.b64encode(png(color, (32, 32))).decode()[-24:]


def flat(content: Any) -> str:
    """A message as text, with the end of an image's base64 where the image stands."""
    if isinstance(content, str):
        return content
    return "".join(
        part["text"] if part["type"] == "text" else f"[{part['image_url']['url'][-24:]}]"
        for part in content
    )
