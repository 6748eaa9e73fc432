"""A real vLLM on CPU, as a server and in this process, with the embedded weights: `make test-vllm`.

OMR_VLLM_QUESTIONS is how many questions are asked eight times in each place (200). Prints one JSON
line of what was measured.
"""

import io
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from omr_data.errors import TeacherError
from omr_data.operators.verify import Answers
from omr_data.records import RIGHT, Message, Record, Response
from omr_data.source import Files
from omr_data.sources import synthetic
from omr_data.sources.locator import LocalDatasets
from omr_data.sources.prompts import read_questions
from omr_data.store.images import ImageStore, RowImages
from omr_data.store.rollouts import RolloutStore
from omr_data.teacher import Budget, Failure, Request
from omr_data.teachers import openai_api, vllm_offline
from omr_data.teachers.tiny.export import export
from omr_data.teachers.tiny.model import load
from omr_data.teachers.tiny.prompts import END, encode_prompt
from omr_data.train.batches import collate
from omr_data.train.chat import Encoder, Example
from omr_data.train.model import Policy, load_policy
from omr_data.train.ranks import Ranks
from omr_data.train.release import PolicyPrompt
from omr_data.train.rewards import concat_prompt_response
from omr_data.train.samplers.base import Completion, SamplingParams
from omr_data.train.samplers.vllm import VLLMSampler
from omr_data.train.settings import ModelSettings
from omr_data.verifiers.cascade import Verifier
from tests.omr import ROOT, command, environment, omr
from tests.vllm.recipe import ENGINE, NAME, sample, source

QUESTIONS = int(os.environ.get("OMR_VLLM_QUESTIONS", "200"))
ROLLOUTS = 8
RESAMPLES = 4_000
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # On a model this small, threads wait for one another, and longer where others use the cores.
    "OMP_NUM_THREADS": "1",
}
os.environ.update(QUIET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / NAME
    export(folder)
    return folder


@contextmanager
def vllm_server(folder: Path, log: Path, *more: str, **extra: str) -> Iterator[str]:
    """Starts a server on a free port, with more arguments and environment; waits until it is up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [
        f"--{name.replace('_', '-')}={json.dumps(value)}"
        for name, value in ENGINE.items()
        if not isinstance(value, bool | str)
    ]
    options += [
        "--dtype=float32",
        "--enforce-eager",
        "--no-enable-chunked-prefill",
        f"--served-model-name={NAME}",
    ]
    arguments = [f"--model={folder}", "--host=127.0.0.1", f"--port={port}", *options]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments, *more],
            stdout=output,
            stderr=output,
            cwd=folder,
            env=os.environ | extra,
        )
        try:
            _wait_until_up(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_up(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended:\n{log.read_text()[-3_000:]}"
        try:
            with urllib.request.urlopen(url):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"the server is not up after 300 s:\n{log.read_text()[-3_000:]}")


# ------------------------------------------------------------------------------------- three places


@dataclass(frozen=True, slots=True)
class Asked:
    """What one build asked for: each question's texts, its share of right answers, and the pace."""

    texts: list[list[str]]
    right: list[float]
    failures: int
    per_second: float

    @property
    def samples(self) -> int:
        return sum(len(texts) for texts in self.texts)

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.right))

    def equal_share(self, other: "Asked") -> float:
        pairs = [
            (one, two)
            for mine, others in zip(self.texts, other.texts, strict=True)
            for one, two in zip(mine, others, strict=True)
        ]
        return sum(one == two for one, two in pairs) / len(pairs)


def build(teacher: str, work: Path, path: str = "", url: str = "") -> Asked:
    """`omr build` in a workspace of its own, and what is in its store afterwards."""
    recipe = ROOT / "tests" / "vllm" / "recipe.py"
    settings = [
        text
        for name in (f"teacher={teacher}", f"path={path}", f"questions={QUESTIONS}")
        for text in ("--set", name)
    ]
    places = ["--work", work, "--releases", work / "releases", "--workers", 2]
    extra = {openai_api.URLS: url} if url else {}
    done = subprocess.run(
        command("build", recipe, *settings, *places),
        env=environment(**extra, **QUIET),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=3_000,
    )
    assert done.returncode == 0, f"{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    return read(teacher, work)


def records(images: ImageStore, questions: int) -> list[Record]:
    problems = source(questions)
    return [
        problems.convert(row, RowImages(Path(), images))
        for part in problems.parts(Files())
        for row in problems.rows(Files(), part)
    ]


def read(teacher: str, work: Path) -> Asked:
    step = sample(teacher)
    asked = records(ImageStore(work / "images"), QUESTIONS)
    keys = [step.requests(record)[0].key for record in asked]
    with RolloutStore.read(work / "rollouts.sqlite") as store:
        stored, failures = store.responses(keys), store.stats().failures
    with closing(sqlite3.connect(work / "rollouts.sqlite")) as database:
        (seconds,) = database.execute(
            "SELECT max(stored_at) - min(stored_at) FROM rollouts"
        ).fetchone()
        (later,) = database.execute(
            "SELECT count(*) FROM rollouts WHERE stored_at > (SELECT min(stored_at) FROM rollouts)"
        ).fetchone()
    answered = [step.attach(record, [stored[key]]) for record, key in zip(asked, keys, strict=True)]
    verified = Answers(Verifier()).apply_batch(answered)
    right = [
        np.mean(
            [one.verdict is not None and one.verdict.outcome == RIGHT for one in record.responses]
        )
        for record in verified
    ]
    texts = [[response.text for response in record.responses] for record in answered]
    return Asked(
        texts, [float(share) for share in right], failures, later / seconds if later else 0.0
    )


def interval(one: Asked, two: Asked) -> tuple[float, float]:
    """The middle 95% of the difference in accuracy over samples of questions.

    Questions are drawn with replacement (paired cluster bootstrap).
    """
    difference = np.array(one.right) - np.array(two.right)
    drawn = np.random.default_rng(0).integers(0, len(difference), (RESAMPLES, len(difference)))
    low, high = np.quantile(difference[drawn].mean(1), (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


def test_a_server_this_process_and_the_embedded_path_agree_and_asking_again_draws_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with vllm_server(folder, tmp_path / "server.log") as url:
        server = build("server", tmp_path / "server", url=url)
        again = build("server", tmp_path / "again", url=url)
    offline = build("offline", tmp_path / "offline", path=str(folder))
    embedded = build("embedded", tmp_path / "embedded")
    places = {"server": server, "again": again, "offline": offline, "embedded": embedded}
    found = {
        "questions": QUESTIONS,
        **{
            name: {"samples": asked.samples, "failures": asked.failures}
            for name, asked in places.items()
        },
        "accuracy": {name: round(asked.accuracy, 4) for name, asked in places.items()},
        "samples_per_second": {name: round(asked.per_second) for name, asked in places.items()},
        "equal_texts": {
            "server, again": server.equal_share(again),
            "server, offline": server.equal_share(offline),
        },
        "difference_95": {
            "server - embedded": interval(server, embedded),
            "offline - embedded": interval(offline, embedded),
        },
    }
    with capsys.disabled():
        print(f"\n{json.dumps(found)}")
    for asked in places.values():
        assert (asked.samples, asked.failures) == (QUESTIONS * ROLLOUTS, 0)
    assert server.equal_share(again) > 0.99
    assert server.equal_share(offline) > 0.99
    for asked in (server, offline):
        low, high = interval(asked, embedded)
        assert low <= 0 <= high
    assert 0.3 < embedded.accuracy < 0.8


# ---------------------------------------------------------------------------------- in this process


def test_in_this_process_failures_are_told_logprobs_are_right_and_a_dead_engine_loses_nothing(
    folder: Path, tmp_path: Path
) -> None:
    """In one test, because loading the model takes most of a minute."""
    images = ImageStore(tmp_path)
    teacher = sample("offline", str(folder)).teacher
    assert isinstance(teacher, vllm_offline.Teacher)
    with (
        pytest.raises(TeacherError, match="sampling parameters"),
        replace(teacher, temperature=-1.0).open(1, images, Budget()),
    ):
        pass
    asked = records(images, 16)
    step = sample("offline", str(folder), rollouts=4)
    requests = [step.requests(record)[0] for record in asked]
    with teacher.open(1, images, Budget()) as session:
        long = teacher.request((Message("user", "word " * 3_000),), (), 2)
        strip = teacher.request(
            (Message("user", "<image>What is this?"),), (images.put(_strip()),), 2
        )
        found = {
            request.key: results
            for answers in session.answer(iter([[long, strip, *requests]]))
            for request, results in answers
        }
        for refused in (long, strip):
            failures = [one for one in found[refused.key] if isinstance(one, Failure)]
            assert [(one.attempt, one.kind, one.retriable) for one in failures] == [
                (0, "rejected", False),
                (1, "rejected", False),
            ]
        later = replace(requests[0], attempts=(1, 3))
        parts = [
            one
            for answers in session.answer(iter([[later]]))
            for _, results in answers
            for one in results
        ]
        assert {one.attempt: one.text for one in parts} == {
            place: found[later.key][place].text for place in (1, 3)
        }
        _check_logprobs(folder, images, requests, found)
        with pytest.raises(TeacherError, match="engine stopped"):
            for answers in session.answer(_until_killed(teacher, asked)):
                assert all(isinstance(one, Response) for _, results in answers for one in results)


def _strip() -> bytes:
    """An image that no Qwen-VL takes: 500 times as wide as high."""
    buffer = io.BytesIO()
    Image.new("RGB", (2_000, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def _check_logprobs(
    folder: Path,
    images: ImageStore,
    requests: list[Request],
    found: dict[str, list[Response | Failure]],
) -> None:
    """What vLLM says of each answer is what the model gives by our own code, at temperature 1."""
    model, tokenizer = load(folder)
    checked = 0
    for request in requests:
        prompt = encode_prompt(tokenizer, request.messages, images(request.images[0]))
        for response in found[request.key]:
            assert isinstance(response, Response) and response.logprob is not None
            ids = tokenizer.encode(response.text + END).ids
            if response.finish_reason != "stop" or len(ids) != response.completion_tokens:
                continue  # the same text in other tokens
            whole = torch.tensor([[*prompt.ids, *ids]])
            logits = model(
                input_ids=whole,
                attention_mask=torch.ones_like(whole),
                pixel_values=torch.from_numpy(prompt.patches),
                image_grid_thw=torch.tensor([[1, 8, 8]]),
                mm_token_type_ids=(whole == model.config.image_token_id).long(),
            ).logits[0, len(prompt.ids) - 1 : -1]
            logprob = (
                torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None]).sum().item()
            )
            assert response.logprob == pytest.approx(logprob, abs=1e-3)
            checked += 1
    assert checked > len(requests)


def _until_killed(teacher: vllm_offline.Teacher, asked: list[Record]) -> Iterator[list[Request]]:
    """Questions without end; after the first batches the engine's process is killed."""
    for number in range(10_000):
        if number == 4:
            for child in psutil.Process().children(recursive=True):
                if "EngineCore" in " ".join([child.name(), *child.cmdline()]):
                    child.send_signal(signal.SIGKILL)
        yield [
            teacher.request((Message("user", f"What is {number} + {place}?"),), (), 4)
            for place in range(16)
        ]
    raise AssertionError(f"the engine outlived its death, with {len(asked)} records")


# ---------------------------------------------------------------------------------- for the trainer


def test_a_server_samples_for_the_trainer_with_the_weights_of_every_step(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its log-probabilities are the trainer's own after new weights; a run goes through it."""
    alone = Ranks(0, 1, torch.device("cpu"))
    encoder = Encoder(str(folder))
    policy = load_policy(ModelSettings(model=str(folder)), alone)
    questions, _ = read_questions(synthetic.Source(split="heldout", count=10), LocalDatasets())
    prompts = [PolicyPrompt.from_record(one.record, one.images) for one in questions]
    encoded = [encoder.prompt(prompt.messages, prompt.images) for prompt in prompts]
    dev = vllm_server(
        folder,
        tmp_path / "server.log",
        "--logprobs-mode=processed_logprobs",
        VLLM_SERVER_DEV_MODE="1",
    )
    with dev as url:
        sampler = VLLMSampler(url, tmp_path / "served", policy, encoder, alone)
        params = SamplingParams(n=8, max_tokens=64, temperature=1.0)
        gaps = []
        for scale in (1.0, 1.2):
            with torch.no_grad():
                policy.model.model.language_model.norm.weight.mul_(scale)
            if scale != 1.0:  # not told of it yet
                stale = sampler.sample(prompts, encoded, params, 0)
                assert _gap(policy, encoder, encoded, stale) > 0.05
            sampler.sync()
            sampled = sampler.sample(prompts, encoded, params, 0)
            gaps.append(_gap(policy, encoder, encoded, sampled))
        assert max(gaps) < 1e-3
        one, two = (sampler.sample(prompts, encoded, params, step) for step in (1, 2))
        assert one != two
        work = ["--work", tmp_path / "work", "--releases", tmp_path / "releases", "--workers", 1]
        few = ["--set=questions=60", "--set=rollouts=4"]
        omr("build", ROOT / "recipes/omr_rl_tiny.py", *few, *work)
        release = tmp_path / "releases/omr-rl-tiny/1.0.0"
        small = {"prompts_per_step": 8, "rollouts": 4, "steps": 3, "engine": url}
        given = [f"--set={name}={value}" for name, value in small.items()]
        run = ["train", "gspo", release, "--preset", "tiny-gspo", "--out", tmp_path / "run"]
        omr(*run, *given, **QUIET, HF_DATASETS_CACHE=tmp_path / "cache")
    steps = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert all(step["formatted"] > 0.8 for step in steps)
    differences = [round(gap, 7) for gap in gaps]
    with capsys.disabled():
        print(f"\n{json.dumps({'trainer_and_server_logprobs_differ_at_most': differences})}")


@torch.no_grad()
def _gap(
    policy: Policy, encoder: Encoder, encoded: list[Example], sampled: list[list[Completion]]
) -> float:
    """The largest difference between the engine's log-probability of a token and the policy's."""
    examples, theirs = [], []
    for prompt, completions in zip(encoded, sampled, strict=True):
        for one in completions:
            assert one.logprobs is not None
            examples.append(concat_prompt_response(prompt, one))
            theirs += one.logprobs
    ours, _ = policy(collate(examples, encoder))
    return float((ours - torch.tensor(theirs)).abs().max())
