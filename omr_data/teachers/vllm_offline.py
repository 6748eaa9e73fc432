"""A model in this process, by vLLM: for one GPU node without a server. Comes with the extra `vllm`.

    vllm_offline.Teacher("Qwen/Qwen3-VL-8B-Instruct", max_tokens=8_192, engine='{"tensor_parallel_size": 2}')

It is asked for what `openai_api.Teacher` asks a server for, with the same fields and the same seeds; so its answers have the
same keys, and a set that was begun with one of them goes on with the other.

**Run**: consecutive attempts of one question; one request to the engine, whose sample i has the run's seed plus i.
**Engine**: vLLM's scheduler and model, in processes of their own. Runs are given to it while earlier ones are answered, and each
is handed over when its last sample has ended. So the engine never waits for the slowest answer of a batch, and `kill -9`
loses at most what is in the engine.
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
from omr_data.teacher import Answers, Batch, Budget, Failure, ReadImage, Request, Session
from omr_data.teachers.openai_api.model import ChatModel
from omr_data.teachers.openai_api.wire import (
    EMPTY,
    failure,
    is_empty,
    messages,
    runs,
    sampling,
    seed,
)

if TYPE_CHECKING:
    from vllm import LLM, CompletionOutput, RequestOutput, SamplingParams

GROUP_SECONDS = 0.05
"""Answers are handed over, and committed, at most this often."""
OF_THE_CHAT = (
    "chat_template",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
    "mm_processor_kwargs",
)
"""Fields of `extra_body` that say how a chat becomes a prompt; the others are vLLM's sampling parameters."""


@dataclass(frozen=True)
class Teacher(ChatModel):
    """A model that is loaded into this process; None leaves a sampling parameter to its generation_config.json.

    The fields below are no identity. `path`: a folder with the weights; without it, `model` is fetched from the Hub.
    `engine`: arguments of vllm.LLM, a JSON object as text (max_model_len, limit_mm_per_prompt, tensor_parallel_size...). Weights
    that differ by them (quantization, dtype) are told apart by `revision_of_model`, as they are behind a server.
    `concurrency`: most samples in the engine; more of them than it decodes at once (max_num_seqs) wait there, so that it never
    runs dry. `logprob`: whether to keep the summed log-probability of each answer; answers that are stored already have none.

    Raises:
        TeacherError: a parameter that no engine takes, or text that is no JSON object.
    """

    name: ClassVar[str] = ChatModel.name
    at_least_one: ClassVar[tuple[str, ...]] = (*ChatModel.at_least_one, "concurrency")
    json_objects: ClassVar[tuple[str, ...]] = (*ChatModel.json_objects, "engine")

    path: str | None = runtime_field(None)
    engine: str = runtime_field("{}")
    concurrency: int = runtime_field(2_048)
    logprob: Literal["none", "sum"] = runtime_field("none")

    @contextmanager
    def open(self, workers: int, read_image: ReadImage, budget: Budget) -> Iterator[Session]:
        """Loads the model. `workers` does not matter: `engine` says how many GPUs there are.

        Raises:
            MissingExtra: vLLM is not installed.
            TeacherError: the model cannot be loaded, or a parameter is none of vLLM's.
        """
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtra("vllm", "vllm")
        from vllm import LLM
        from vllm.exceptions import VLLMError

        wanted = _wanted(self)
        _parameters(wanted, {})  # raises now, and not when a large model is loaded
        # vLLM's own default would draw the same numbers in every process, where attempts have no seeds of their own.
        arguments = {"seed": 0 if self.seed is not None else random.randrange(2**31)} | json.loads(
            self.engine
        )
        try:
            llm = LLM(self.path or self.model, **arguments)
        except (VLLMError, ValueError, TypeError, OSError, RuntimeError) as error:
            raise TeacherError(
                f"vLLM cannot load {self.path or self.model} with {self.engine}: {error}"
            ) from error
        try:
            yield _Session(self, llm, wanted, read_image, budget)
        finally:
            llm.llm_engine.engine_core.shutdown()


@dataclass(frozen=True, slots=True)
class _Run:
    request: Request
    attempts: tuple[int, ...]
    began: float


class _Session:
    """The engine at work. `_waiting` holds the runs in it by vLLM's number for them."""

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
        self._sampling = llm.model_config.get_diff_sampling_param() | wanted
        self._waiting: dict[str, _Run] = {}
        self._results: list[tuple[Request, list[Response | Failure]]] = []
        self._began, self._tokens = time.monotonic(), 0

    def note(self) -> str:
        """Samples in the engine, and tokens a second."""
        rate = self._tokens / max(time.monotonic() - self._began, 0.001)
        return f"{self._samples():,} in the engine, {rate:,.0f} tokens/s"

    def answer(self, batches: Iterator[Batch]) -> Iterator[Answers]:
        """Raises TeacherError when the engine died; what came before is given first."""
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
            except TeacherError as error:
                fatal = error
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
        """Gives the engine a batch. A question that it refuses (too long, say) is a failure, as it is behind a server."""
        from vllm.exceptions import VLLMClientError, VLLMServerError

        for request in batch:
            chat: Any = messages(
                request,
                lambda image: data_url(image, base64.b64encode(self._read_image(image)).decode()),
            )
            for attempts in runs(request.attempts, len(request.attempts)):
                base = self._teacher.seed
                own = {
                    "n": len(attempts),
                    "seed": None if base is None else seed(base, request.key, attempts[0]),
                }
                try:
                    (number,) = self._llm.enqueue_chat(
                        chat, _parameters(self._sampling, own), use_tqdm=False, **self._chat
                    )
                except VLLMServerError as error:
                    raise _stopped(error) from error
                except (VLLMClientError, ValueError) as error:
                    failures: list[Response | Failure] = [
                        failure(one, "rejected", str(error), 0, 1, retriable=False)
                        for one in attempts
                    ]
                    self._results.append((request, failures))
                else:  # vLLM adds a random tail to its number, and gives the answer without it
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
            if output.finished:
                run = self._waiting.pop(output.request_id)
                self._results.append((run.request, self._read(run, output)))

    def _read(self, run: _Run, output: "RequestOutput") -> list[Response | Failure]:
        """Each sample as a response, or as the failure that it is. The first carries the prompt's tokens."""
        seconds = round(time.monotonic() - run.began, 3)
        found: list[Response | Failure] = []
        for place, (attempt, sample) in enumerate(zip(run.attempts, output.outputs, strict=True)):
            self._tokens += len(sample.token_ids)
            prompt_tokens = len(output.prompt_token_ids or ()) if place == 0 else 0
            found.append(self._response(run.request.key, attempt, sample, prompt_tokens, seconds))
        return found

    def _response(
        self, key: str, attempt: int, sample: "CompletionOutput", prompt_tokens: int, seconds: float
    ) -> Response | Failure:
        reason = sample.finish_reason or "stop"
        if reason in ("abort", "error"):
            return failure(
                attempt, "server error", f"vLLM ended it with {reason!r}", 0, 1, retriable=True
            )
        if is_empty(sample.text, reason):
            return failure(attempt, EMPTY, "the answer's text is empty", 0, 1, retriable=True)
        return Response(
            text=sample.text,
            attempt=attempt,
            model=self._teacher.model_id,
            finish_reason=reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=len(sample.token_ids),
            key=key,
            seconds=seconds,
            logprob=sample.cumulative_logprob,
        )


def _stopped(error: Exception) -> TeacherError:
    return TeacherError(f"vLLM's engine stopped: {error}. Answers so far are kept.")


def _wanted(teacher: Teacher) -> dict[str, Any]:
    """What is asked of every run, in vLLM's names: the format of an answer has another one there than in a request's body."""
    from vllm.sampling_params import StructuredOutputsParams

    fields = sampling(teacher) | {
        "max_tokens": teacher.max_tokens,
        "logprobs": 0 if teacher.logprob == "sum" else None,
    }
    wanted = fields.pop("response_format", None) or {"type": "text"}
    match wanted:
        case {"type": "text"}:
            return fields
        case {"type": "json_object"}:
            return fields | {"structured_outputs": StructuredOutputsParams(json_object=True)}
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return fields | {"structured_outputs": StructuredOutputsParams(json=schema)}
    raise TeacherError(
        f"response_format is {wanted}; in this process it is text, json_object, or json_schema with a schema."
    )


def _parameters(wanted: Mapping[str, Any], own: Mapping[str, Any]) -> "SamplingParams":
    """What one run asks for. Raises TeacherError for what vLLM does not take."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError

    fields = {name: value for name, value in {**wanted, **own}.items() if name not in OF_THE_CHAT}
    try:
        return SamplingParams.from_optional(**fields)
    except (VLLMClientError, ValueError, TypeError) as error:
        raise TeacherError(f"vLLM does not take these sampling parameters: {error}") from error
