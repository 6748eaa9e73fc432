"""A model in this process, by vLLM: for one GPU node without a server. Comes with the extra `vllm`.

    vllm_offline.Teacher("Qwen/Qwen3-VL-8B-Instruct", engine='{"tensor_parallel_size": 2}')

It is asked for what `openai_api.Teacher` asks a server for, with the same fields and the same
seeds. So its answers have the same keys, and a set that was begun with one goes on with the other.
How an attempt ended is judged by the same rules, too (`openai_api.replies.judge`).

A run is a number of consecutive attempts at one question: one request to the engine, whose sample i
has the run's seed plus i. The engine is vLLM's scheduler and model, in processes of their own. Runs
are given to it while earlier ones are answered, and each is handed over when its last sample has
ended. So the engine never waits for the slowest answer of a batch, and `kill -9` loses at most what
is in the engine.
"""

import base64
import importlib.util
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from omr_data.errors import MissingExtra, TeacherError
from omr_data.identity import runtime_field
from omr_data.records import Response, data_url
from omr_data.teacher import (
    Answers,
    AttemptStatus,
    Batch,
    Budget,
    Failure,
    ReadImage,
    Request,
    Session,
)
from omr_data.teachers.openai_api.model import ChatModel
from omr_data.teachers.openai_api.replies import Choice, failure, judge
from omr_data.teachers.openai_api.wire import messages, runs, sampling, seed

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams

GROUP_SECONDS = 0.05
"""Answers are handed over, and committed, at most this often."""
OF_THE_CHAT = (
    "chat_template",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
    "mm_processor_kwargs",
)
"""Fields of `extra_body` that say how a chat becomes a prompt. The others are vLLM's sampling
parameters."""


@dataclass(frozen=True)
class Teacher(ChatModel):
    """A model that is loaded into this process.

    None leaves a sampling parameter to the model's generation_config.json. Weights that differ by
    `engine` (quantization, dtype) are told apart by `revision_of_model`, as behind a server.

    Raises:
        TeacherError: A parameter that no engine takes, or text that is not a JSON object.
    """

    name: ClassVar[str] = ChatModel.name
    """One name for all ways of asking a model, so that they share rollout keys."""
    at_least_one: ClassVar[tuple[str, ...]] = (*ChatModel.at_least_one, "concurrency")
    """Fields that must be 1 or more."""
    json_objects: ClassVar[tuple[str, ...]] = (*ChatModel.json_objects, "engine")
    """Fields that hold a JSON object as text."""

    path: str | None = runtime_field(None)
    """A folder with the weights. Without it, `model` is fetched from the Hub."""
    engine: str = runtime_field("{}")
    """Arguments of vllm.LLM, a JSON object as text: max_model_len, tensor_parallel_size, ..."""
    concurrency: int = runtime_field(2_048)
    """Most samples in the engine. More than it decodes at once (max_num_seqs) wait in it, so that
    it never runs dry."""
    logprob: Literal["none", "sum"] = runtime_field("none")
    """Whether to keep the summed log-probability of each answer. Stored answers are left as is."""

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        """Loads the model.

        Args:
            workers: Not used: `engine` says how many GPUs there are.
            read_image: Reads the bytes of the requests' images.
            budget: What may be spent. Only its number of requests applies here.

        Raises:
            MissingExtra: vLLM is not installed.
            TeacherError: The model cannot be loaded, or vLLM does not have a parameter.
        """
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtra("vllm", "vllm")
        from vllm import LLM
        from vllm.exceptions import VLLMError

        wanted = _wanted(self)
        _parameters(wanted, {})  # raises now, and not when a large model is loaded
        # Without seeds per attempt, vLLM's default seed would give the same answers in every run.
        seed_of_engine = 0
        if self.seed is None:
            seed_of_engine = random.randrange(2**31)
        # The recipe's own arguments win, a seed of the engine included.
        arguments = {"seed": seed_of_engine} | json.loads(self.engine)
        try:
            llm = LLM(self.path or self.model, **arguments)
        except (VLLMError, ValueError, TypeError, OSError, RuntimeError) as error:
            raise TeacherError(
                f"vLLM cannot load {self.path or self.model} with {self.engine}: {error}"
            ) from error
        try:
            yield _Session(self, llm, wanted, read_image, budget)
        finally:
            # The engine is a process: without this it would hold the GPU after an error.
            llm.llm_engine.engine_core.shutdown()


@dataclass(frozen=True, slots=True)
class _Run:
    """One request to the engine."""

    request: Request
    """The question."""
    attempts: tuple[int, ...]
    """The attempts, one for each sample."""
    began: float
    """When the engine took it, on the monotonic clock."""


class _Session:
    """The engine at work. `_waiting` holds the runs in it, by vLLM's number for them."""

    def __init__(
        self,
        teacher: Teacher,
        llm: "LLM",
        wanted: dict[str, Any],
        read_image: ReadImage,
        budget: Budget,
    ) -> None:
        self._teacher, self._llm, self._read_image, self._budget = teacher, llm, read_image, budget
        self._chat = {name: wanted[name] for name in OF_THE_CHAT if name in wanted}
        # Left to the model where the recipe says nothing, as a server does.
        self._sampling = llm.model_config.get_diff_sampling_param() | wanted
        self._waiting: dict[str, _Run] = {}
        self._results: list[tuple[Request, list[Response | Failure]]] = []
        self._began, self._tokens = time.monotonic(), 0

    def note(self) -> str:
        """Samples in the engine, and tokens a second."""
        rate = self._tokens / max(time.monotonic() - self._began, 0.001)
        return f"{self._samples():,} in the engine, {rate:,.0f} tokens/s"

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Yields answers as runs end.

        Raises:
            TeacherError: The engine died. What came before is given first.
        """
        batches = self._budget.within(batches)
        left, handed = True, 0.0
        fatal: TeacherError | None = None
        while (left or self._waiting) and not fatal:
            try:
                while left and self._samples() < self._teacher.concurrency:
                    batch = next(batches, None)
                    left = batch is not None
                    self._add(batch or ())
                self._step()
            # Kept until what the engine finished before it died has been handed over.
            except TeacherError as error:
                fatal = error
            # Commits are grouped: one per answer would slow the engine's own loop.
            if self._results and (
                time.monotonic() - handed >= GROUP_SECONDS or fatal or not (left or self._waiting)
            ):
                results, self._results = self._results, []
                yield results
                handed = time.monotonic()
        if fatal:
            raise fatal

    def _samples(self) -> int:
        return sum(len(run.attempts) for run in self._waiting.values())

    def _add(self, batch: Batch) -> None:
        """Gives the engine a batch.

        A question that it refuses, such as one that is too long, is rejected as behind a server.
        """
        from vllm.exceptions import VLLMClientError, VLLMServerError

        for request in batch:
            chat: Any = messages(
                request,
                lambda image: data_url(image, base64.b64encode(self._read_image(image)).decode()),
            )
            for attempts in runs(request.attempts, len(request.attempts)):
                base = self._teacher.seed
                own = {"n": len(attempts)}
                if base is not None:
                    own["seed"] = seed(base, request.key, attempts[0])
                try:
                    (number,) = self._llm.enqueue_chat(
                        chat, _parameters(self._sampling, own), use_tqdm=False, **self._chat
                    )
                except VLLMServerError as error:
                    raise _stopped(error) from error
                except (VLLMClientError, ValueError) as error:
                    failures: list[Response | Failure] = [
                        failure(one, AttemptStatus.REJECTED, "rejected", str(error))
                        for one in attempts
                    ]
                    self._results.append((request, failures))
                else:
                    # vLLM adds a random tail to its number, and gives the answer without it.
                    self._waiting[number.partition("-")[0]] = _Run(
                        request, attempts, time.monotonic()
                    )

    def _step(self) -> None:
        """One step of the engine; what it finished becomes results."""
        from vllm.exceptions import VLLMServerError

        if not self._waiting:
            return
        try:
            outputs = self._llm.llm_engine.step()
        except VLLMServerError as error:
            raise _stopped(error) from error
        for output in outputs:
            # Unfinished outputs are looked at again after the next step.
            if not output.finished:
                continue
            run = self._waiting.pop(output.request_id)
            # The time of the whole run: samples of one run are decoded together.
            seconds = round(time.monotonic() - run.began, 3)
            found: list[Response | Failure] = []
            prompt_tokens = len(output.prompt_token_ids or ())
            for attempt, sample in zip(run.attempts, output.outputs, strict=True):
                self._tokens += len(sample.token_ids)
                # Reasoning stays in the text: only a server takes it apart.
                failed = judge(attempt, Choice(sample.text, None, sample.finish_reason))
                result: Response | Failure = failed or Response(
                    text=sample.text,
                    attempt=attempt,
                    model=self._teacher.model_id,
                    finish_reason=str(sample.finish_reason),
                    prompt_tokens=prompt_tokens,
                    completion_tokens=len(sample.token_ids),
                    key=run.request.key,
                    seconds=seconds,
                    logprob=sample.cumulative_logprob,
                )
                found.append(result)
                # The first sample carries the prompt's tokens, so that sums are right.
                prompt_tokens = 0
            self._results.append((run.request, found))


def _stopped(error: Exception) -> TeacherError:
    return TeacherError(f"vLLM's engine stopped: {error}. Answers so far are kept.")


def _wanted(teacher: Teacher) -> dict[str, Any]:
    """What is asked of every run, in vLLM's names.

    The format of an answer has another name there than in a request's body.
    """
    from vllm.sampling_params import StructuredOutputsParams

    fields = sampling(teacher) | {"max_tokens": teacher.max_tokens, "logprobs": None}
    if teacher.logprob == "sum":
        # None beside the sampled token's own: that is enough for their sum.
        fields["logprobs"] = 0
    # A server translates this field; in this process nobody does.
    wanted = fields.pop("response_format", None) or {"type": "text"}
    match wanted:
        case {"type": "text"}:
            return fields
        case {"type": "json_object"}:
            return fields | {"structured_outputs": StructuredOutputsParams(json_object=True)}
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return fields | {"structured_outputs": StructuredOutputsParams(json=schema)}
    raise TeacherError(
        f"response_format is {wanted}; in this process it is text, json_object, or json_schema "
        "with a schema."
    )


def _parameters(wanted: Mapping[str, Any], own: Mapping[str, Any]) -> "SamplingParams":
    """What one run asks for.

    Args:
        wanted: Fields of every run.
        own: Fields of this one.

    Raises:
        TeacherError: vLLM does not take them.
    """
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError

    fields = {name: value for name, value in {**wanted, **own}.items() if name not in OF_THE_CHAT}
    try:
        return SamplingParams.from_optional(**fields)
    except (VLLMClientError, ValueError, TypeError) as error:
        raise TeacherError(f"vLLM does not take these sampling parameters: {error}") from error
