"""The embedded teacher answers in its format, often rightly, and the same whoever else is asked."""

import hashlib
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omr_data.errors import TeacherError, WorkerError
from omr_data.operators.rollout import Sample
from omr_data.records import RIGHT, Record, Response
from omr_data.source import Files
from omr_data.sources.synthetic import Source
from omr_data.store.images import ImageStore, RowImages
from omr_data.teacher import Budget, Request
from omr_data.teachers import tiny
from omr_data.verifiers.api import verify


@pytest.fixture(scope="module")
def synthetic_records(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], ImageStore]:
    store = ImageStore(tmp_path_factory.mktemp("images"))
    source = Source(count=60)
    (part,) = source.parts(Files())
    return [
        source.convert(row, RowImages(Path(), store)) for row in source.rows(Files(), part)
    ], store


def requests(records: list[Record], teacher: tiny.Teacher, n: int = 4) -> list[Request]:
    return [request for record in records for request in Sample(teacher, n=n).requests(record)]


def answers(
    teacher: tiny.Teacher, asked: list[Request], store: ImageStore, workers: int = 1
) -> dict[tuple[str, int], Response]:
    batches = iter(
        [asked[start : start + teacher.batch] for start in range(0, len(asked), teacher.batch)]
    )
    found = {}
    with teacher.open(workers, store, Budget()) as session:
        for group in session.answer(batches):
            for request, results in group:
                for result in results:
                    assert isinstance(result, Response)
                    found[request.key, result.attempt] = result
    return found


@pytest.mark.build
def test_it_is_often_right_on_problems_it_never_saw(
    synthetic_records: tuple[list[Record], ImageStore],
) -> None:
    records, store = synthetic_records
    teacher = tiny.Teacher()
    asked = requests(records, teacher)
    found = answers(teacher, asked, store)
    right = [
        sum(
            verify(found[request.key, attempt].text, record.answer, record.options).outcome == RIGHT
            for attempt in range(4)
        )
        for record, request in zip(records, asked, strict=True)
    ]
    assert sum(right) / (4 * len(right)) > 0.4
    assert sum(0 < one < 4 for one in right) > len(right) / 4
    tagged = [
        response.text.count("<answer>") == response.text.count("</answer>") == 1
        for response in found.values()
    ]
    assert sum(tagged) / len(tagged) > 0.95


@pytest.mark.build
def test_the_text_is_the_same_in_any_company_for_any_workers_and_for_attempts_asked_later(
    synthetic_records: tuple[list[Record], ImageStore],
) -> None:
    records, store = synthetic_records
    teacher = tiny.Teacher()
    asked = requests(records[:20], teacher, n=12)
    whole = answers(teacher, asked, store)
    assert answers(teacher, asked, store, workers=2) == whole
    assert answers(teacher, asked[3:5], store) == {
        key: whole[key] for key in whole if key[0] in (asked[3].key, asked[4].key)
    }
    later = [replace(request, attempts=(8, 9, 10, 11)) for request in asked]
    assert answers(teacher, later, store) == {
        key: response for key, response in whole.items() if key[1] >= 8
    }


@pytest.mark.build
def test_attempts_differ_and_another_seed_draws_others(
    synthetic_records: tuple[list[Record], ImageStore],
) -> None:
    records, store = synthetic_records
    one = requests(records[:8], tiny.Teacher())
    texts = {key: response.text for key, response in answers(tiny.Teacher(), one, store).items()}
    assert len(set(texts.values())) > 8
    other = {
        key: response.text for key, response in answers(tiny.Teacher(seed=1), one, store).items()
    }
    assert texts != other


def test_greedy_attempts_are_equal(synthetic_records: tuple[list[Record], ImageStore]) -> None:
    records, store = synthetic_records
    teacher = tiny.Teacher(temperature=0)
    found = answers(teacher, requests(records[:8], teacher), store)
    assert all(found[key, 0].text == found[key, attempt].text for key, attempt in found)


def test_an_answer_that_is_cut_off_says_so(
    synthetic_records: tuple[list[Record], ImageStore],
) -> None:
    records, store = synthetic_records
    teacher = tiny.Teacher(max_tokens=3)
    found = answers(teacher, requests(records[:4], teacher), store)
    assert {response.finish_reason for response in found.values()} == {"length"}
    assert {response.completion_tokens for response in found.values()} == {3}


@pytest.mark.build
def test_long_questions_large_images_and_strange_bytes_are_answered_too(tmp_path: Path) -> None:
    from tests.builders import png, record

    store = ImageStore(tmp_path)
    ref = store.put(png(size=(500, 300)))
    asked = [
        record("long", question="word " * 3_000),
        record("image", question="<image>" + "word " * 3_000 + "?", images=(ref,)),
        record("bytes", question="<|im_end|> \u0000 \U0001f600 <image_pad> 中文"),
    ]
    teacher = tiny.Teacher()
    found = answers(teacher, requests(asked, teacher), store)
    assert len(found) == 12
    assert max(response.prompt_tokens for response in found.values()) == 448


def test_options_are_answered_by_letter(synthetic_records: tuple[list[Record], ImageStore]) -> None:
    records, store = synthetic_records
    choices = [record for record in records if record.options]
    teacher = tiny.Teacher()
    found = answers(teacher, requests(choices, teacher), store)
    letters = [
        response.text.partition("<answer>")[2].partition("</answer>")[0] in ("A", "B", "C", "D")
        for response in found.values()
    ]
    assert sum(letters) / len(letters) > 0.95


def test_a_worker_that_is_killed_is_an_error_and_no_hang(
    synthetic_records: tuple[list[Record], ImageStore],
) -> None:
    import psutil

    records, store = synthetic_records
    teacher = tiny.Teacher()
    asked = requests(records, teacher)

    def batches() -> Iterator[list[Request]]:
        for start in range(0, len(asked), 16):
            yield asked[start : start + 16]
        for child in psutil.Process().children(recursive=True):
            if "spawn_main" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
        yield asked[:16]

    with (
        pytest.raises(WorkerError, match="a worker process was killed"),
        teacher.open(2, store, Budget()) as session,
    ):
        list(session.answer(batches()))


def test_its_identity_holds_the_weights_and_a_change_of_them_is_refused() -> None:
    with open(tiny.FOLDER / "model.safetensors", "rb") as stream:
        assert tiny.Teacher().weights == hashlib.file_digest(stream, "sha256").hexdigest()
    with pytest.raises(TeacherError, match="is asked for weights"):
        tiny.Teacher(weights="00")


@pytest.mark.build
def test_our_forward_equals_the_stock_model(
    synthetic_records: tuple[list[Record], ImageStore],
) -> None:
    """Our code makes embeddings and positions; transformers' own forward gives the same logits."""
    import torch

    from omr_data.teachers.tiny.model import embed, hidden_states, load
    from omr_data.teachers.tiny.prompts import GRID, encode_prompt

    records, store = synthetic_records
    model, tokenizer = load(tiny.FOLDER)
    record = next(record for record in records if record.images)
    (request,) = Sample(tiny.Teacher()).requests(record)
    prompt = encode_prompt(tokenizer, request.messages, store(record.images[0]))
    ids, patches = torch.from_numpy(prompt.ids)[None], torch.from_numpy(prompt.patches)
    with torch.inference_mode():
        states = hidden_states(
            model,
            embed(model, ids, patches[None], torch.tensor([0])),
            torch.from_numpy(prompt.positions)[:, None],
            torch.ones_like(ids),
        )
        stock = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=patches,
            image_grid_thw=torch.tensor([[1, GRID, GRID]]),
            mm_token_type_ids=(ids == model.config.image_token_id).long(),
        )
        torch.testing.assert_close(model.lm_head(states), stock.logits)


@pytest.mark.build
def test_the_numpy_forward_equals_transformers_on_text_and_images(
    synthetic_records: tuple[list[Record], ImageStore],
) -> None:
    import numpy as np
    import torch

    from omr_data.teachers.tiny.model import embed, hidden_states, load
    from omr_data.teachers.tiny.network import HIDDEN_BIAS, Cache, Network
    from omr_data.teachers.tiny.prompts import IMAGE_PAD, encode_prompt, token_id

    records, store = synthetic_records
    model, tokenizer = load(tiny.FOLDER)
    network = Network(tiny.FOLDER / "model.safetensors")
    for record in records[:12]:
        (request,) = Sample(tiny.Teacher()).requests(record)
        image = store(record.images[0]) if record.images else None
        prompt = encode_prompt(tokenizer, request.messages, image)
        embeddings = network.embeddings[prompt.ids][None]
        patches = np.zeros((0, 64, 384), np.float32)
        if prompt.patches is not None:
            patches = prompt.patches[None]
            marks = prompt.ids == token_id(tokenizer, IMAGE_PAD)
            embeddings[0, marks] = network.see(patches)[0]
        tokens = len(prompt.ids)
        causal = np.tril(np.ones((tokens, tokens), bool))
        bias = np.where(causal, np.float32(0), HIDDEN_BIAS)[None, None]
        ours = network.forward(embeddings, prompt.positions[:, None], bias, Cache.empty(1, tokens))
        ids = torch.from_numpy(prompt.ids)[None]
        with torch.inference_mode():
            seen = embed(model, ids, torch.from_numpy(patches), torch.arange(len(patches)))
            positions = torch.from_numpy(prompt.positions)[:, None]
            theirs = hidden_states(model, seen, positions, torch.ones_like(ids))
        np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-4)


@pytest.mark.build
def test_asking_the_embedded_teacher_imports_no_deep_learning_framework() -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from omr_data.teachers import tiny\n"
        "from omr_data.teacher import Budget\n"
        "from omr_data.records import Message\n"
        "request = tiny.Teacher().request([Message('user', 'What is 2 + 3?')], [], 1)\n"
        "with tiny.Teacher().open(1, None, Budget()) as session:\n"
        "    print(list(session.answer(iter([[request]])))[0][0][1][0].text)\n"
        "print({'torch', 'transformers', 'onnxruntime'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "<answer>" in done.stdout
    assert done.stdout.endswith("set()\n")
