"""The embedded teacher over HTTP: a real model behind the same client as any server."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from omr_data.operators.rollout import Sample
from omr_data.operators.verify import Answers
from omr_data.records import RIGHT, Record, Response
from omr_data.sources.synthetic import Source
from omr_data.store.images import ImageStore, RowImages
from omr_data.teacher import Budget
from omr_data.teachers.openai_api import Teacher
from tests.omr import ROOT, command

pytestmark = pytest.mark.build


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    process = subprocess.Popen(
        command("teacher", "serve", "--port", 0), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    yield process.stdout.readline().split()[-1]
    process.kill()
    process.wait()
    process.stdout.close()


def ask(url: str, folder: Path, seed: int = 0) -> list[Record]:
    source, images = Source(count=16, families=("text", "sum"), levels=(1,)), ImageStore(folder)
    (part,) = source.parts(source.download(None))  # type: ignore[arg-type]
    records = [
        source.convert(row, RowImages(folder, images))
        for row in source.rows(source.download(None), part)
    ]  # type: ignore[arg-type]
    teacher = Teacher("omr-tiny", urls=(url,), max_tokens=64, seed=seed)
    step = Sample(teacher, n=8)
    found: dict[str, list[Response]] = {}
    with teacher.open(1, images, Budget()) as session:
        for answers in session.answer(
            iter([[request for record in records for request in step.requests(record)]])
        ):
            for request, results in answers:
                found.setdefault(request.key, []).extend(
                    result for result in results if isinstance(result, Response)
                )
    return [
        step.attach(
            record,
            [sorted(found[step.requests(record)[0].key], key=lambda response: response.attempt)],
        )
        for record in records
    ]


@pytest.mark.slow
def test_it_answers_with_images_and_is_often_right_and_seeds_draw_the_same_again(
    url: str, tmp_path: Path
) -> None:
    records = ask(url, tmp_path / "one")
    verified = Answers().apply_batch(records)
    outcomes = [
        response.verdict.outcome
        for record in verified
        for response in record.responses
        if response.verdict
    ]
    assert len(outcomes) == 16 * 8
    assert outcomes.count(RIGHT) > 0.5 * len(outcomes)
    texts = [[response.text for response in record.responses] for record in records]
    assert texts == [
        [response.text for response in record.responses] for record in ask(url, tmp_path / "two")
    ]
    assert texts != [
        [response.text for response in record.responses]
        for record in ask(url, tmp_path / "three", seed=1)
    ]
    assert records[0].responses[0].model.startswith("omr-tiny-")


FAR = [{"type": "image_url", "image_url": {"url": "http://x"}}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the body is not JSON"),
        (b"{}", "messages must be a list of objects"),
        (
            json.dumps({"messages": [{"role": "user", "content": "hi"}], "n": 1_000}).encode(),
            "n must be a whole number from 1 to 64",
        ),
        (
            json.dumps({"messages": [{"role": "user", "content": FAR}]}).encode(),
            "data URLs",
        ),
    ],
)
def test_a_request_that_it_cannot_answer_is_refused_with_a_reason(
    url: str, body: bytes, message: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(
            urllib.request.Request(
                f"{url}/chat/completions", body, {"Content-Type": "application/json"}
            )
        )
    assert caught.value.code == 400
    assert message in json.loads(caught.value.read())["error"]["message"]
    caught.value.close()
