"""What came back: each choice of a reply is judged alone, by one set of rules for every teacher.

A reply holds one choice per sample. A good choice is a Response at once, whatever became of the
others. A bad one is a Failure of its own attempt, with the status that `AttemptStatus` documents.
An attempt without a choice is left out, and asked for again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from omr_data.records import ANSWER_FINISH_REASONS, Response, storable_text
from omr_data.teacher import AttemptStatus, Failure
from omr_data.teachers.openai_api.settings import ServedModel, Usage

EMPTY = "empty answer"
MALFORMED = "malformed answer"
DETAIL = 500
"""Most characters of a server's message that are kept."""
FILTER_REASONS = ("content_filter", "safety", "refusal")
TOOL_REASONS = ("tool_calls", "function_call")


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What one 2xx reply came to."""

    responses: tuple[Response, ...] = ()
    """The good choices, in order of attempt."""
    failures: tuple[Failure, ...] = ()
    """The bad choices, in order of attempt, each tried once."""
    usage: Usage | None = None
    """What the server counted. None where it sent nothing that can be believed."""
    served: str = ""
    """The model that the server says it served. Empty where it says none."""
    fault: str = ""
    """What is wrong with the whole reply, so that it holds no choices. Empty for a readable one."""
    detail: str = ""
    """More about the fault."""

    @property
    def choices(self) -> int:
        """How many attempts have a choice, good or bad."""
        return len(self.responses) + len(self.failures)


@dataclass(frozen=True, slots=True)
class Choice:
    """The parts of one choice that matter."""

    text: str
    """The visible text."""
    reasoning: str | None
    """What the server returned apart from it."""
    reason: str | None
    """The finish reason as the server said it."""
    refusal: str = ""
    """The model's or the provider's refusal in words. Empty without one."""

    @classmethod
    def from_json(cls, raw: Any) -> "Choice":
        """Reads a choice. One that cannot be read has the finish reason "malformed"."""
        try:
            message = raw["message"]
            content = message.get("content")
        except (KeyError, TypeError, AttributeError):
            return cls("", None, "malformed")
        # Some servers answer in parts, as requests may be asked.
        if isinstance(content, list):
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "".join(text for text in texts if isinstance(text, str))
        if not isinstance(content, str):
            content = ""
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        # No reasoning is None and not "", as it is in a Response.
        if not isinstance(reasoning, str) or not reasoning:
            reasoning = None
        else:
            reasoning, _ = storable_text(reasoning)
        reason = raw.get("finish_reason")
        if reason is not None:
            reason, _ = storable_text(str(reason))
        return cls(
            text=storable_text(content)[0],
            reasoning=reasoning,
            reason=reason,
            refusal=str(message.get("refusal") or ""),
        )


def read_reply(
    raw: bytes, teacher: ServedModel, key: str, attempts: Sequence[int], seconds: float
) -> ChatReply:
    """Reads a 2xx reply. Fewer choices than attempts are no fault here.

    Args:
        raw: The body.
        teacher: The asked model, which says what other models it accepts answers of.
        key: The question's key.
        attempts: The attempt numbers that were asked for, in order.
        seconds: How long the request took.
    """
    try:
        # Bytes that are not UTF-8 are replaced: the answer around them was paid for.
        payload = json.loads(raw.decode("utf-8", "replace"))
        listed = payload["choices"]
        if not isinstance(listed, list):
            raise TypeError("choices is not a list")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        begins = raw[:80].decode("utf-8", "replace")
        return ChatReply(
            fault=MALFORMED, detail=f"{type(error).__name__}: {error}; it begins {begins!r}"
        )
    usage = Usage.from_json(payload.get("usage"))
    served = storable_text(str(payload.get("model") or ""))[0]
    if not listed:
        return ChatReply((), (), usage, served, MALFORMED, "it has no choices")
    responses: list[Response] = []
    failures: list[Failure] = []
    sizes: list[int] = []
    # More choices than attempts are ignored: nobody asked for them.
    for attempt, raw_choice in zip(attempts, _in_order(listed), strict=False):
        choice = Choice.from_json(raw_choice)
        failed = judge(attempt, choice)
        if failed is None and not teacher.accepts(served):
            # Kept as a failure, so that `omr rollouts failures` names the other model.
            detail = f"asked for {teacher.model}, and {served} was served"
            failed = failure(attempt, AttemptStatus.FAILED, "another model", detail)
        # Bad choices have a share as well, or good ones would seem to cost more.
        sizes.append(len(choice.text) + len(choice.reasoning or ""))
        if failed is not None:
            failures.append(replace(failed, http_status=200))
            continue
        responses.append(
            Response(
                text=choice.text,
                attempt=attempt,
                model=served or teacher.model,
                finish_reason=choice.reason or "",
                reasoning=choice.reasoning,
                key=key,
                seconds=round(seconds, 3),
            )
        )
    counted = _with_tokens(responses, usage, attempts, sizes)
    return ChatReply(tuple(counted), tuple(failures), usage, served)


def judge(attempt: int, choice: Choice) -> Failure | None:
    """Returns None for an answer, and else how the attempt ended.

    Args:
        attempt: The attempt number.
        choice: What came back for it.
    """
    reason = choice.reason
    if choice.refusal or reason in FILTER_REASONS:
        detail = choice.refusal or f"the finish reason is {reason!r}"
        return failure(attempt, AttemptStatus.REFUSED, "content filter", detail)
    # Asked again with the same seed, the model would call the tool again.
    if reason in TOOL_REASONS:
        return failure(
            attempt,
            AttemptStatus.REJECTED,
            "tool call",
            "the model called a tool instead of answering. Ask without tools in extra_body.",
        )
    if reason not in ANSWER_FINISH_REASONS:
        kind = f"finish reason {reason[:40]}" if reason else "no finish reason"
        return failure(attempt, AttemptStatus.FAILED, kind, f"it begins {choice.text[:80]!r}")
    # What was cut off is an answer, if an empty one: asking again would cost the same again.
    if not choice.text.strip() and reason != "length":
        kind = "reasoning without an answer" if choice.reasoning else EMPTY
        return failure(attempt, AttemptStatus.FAILED, kind, "the answer's text is empty")
    return None


def failure(
    attempt: int,
    status: AttemptStatus,
    kind: str,
    detail: str,
    http_status: int = 0,
    tries: int = 1,
) -> Failure:
    """A failed attempt. Its detail is cut to 500 characters that can be stored.

    Args:
        attempt: The attempt number.
        status: Refused, rejected or failed.
        kind: A short word for counting.
        detail: What the server said, without secrets.
        http_status: The HTTP status, if there was one.
        tries: How often it was tried.
    """
    return Failure(
        attempt=attempt,
        status=status,
        kind=storable_text(kind)[0],
        detail=storable_text(detail[:DETAIL])[0],
        http_status=http_status,
        tries=tries,
    )


def is_served_as_asked(asked: str, served: str) -> bool:
    """Whether a served model's name is that of the asked one, or one that servers make of it.

    Hosted servers add a date or a build (`gpt-4o-2024-08-06`), local ones show the folder's name.
    """
    # Prefixes of a path or an organization differ between servers of one model.
    asked_name, served_name = asked.rpartition("/")[2], served.rpartition("/")[2]
    return not served or served_name.startswith(asked_name) or asked.endswith(served)


def _in_order(choices: Sequence[Any]) -> list[Any]:
    """The choices by their index. Where one has no usable index, in the order that they came."""

    def index(choice: Any) -> int:
        if isinstance(choice, dict) and isinstance(choice.get("index"), int):
            return int(choice["index"])
        return -1

    indexes = [index(choice) for choice in choices]
    # An index that is missing or used twice says nothing about any of them.
    if sorted(indexes) != list(range(len(choices))):
        return list(choices)
    return sorted(choices, key=index)


def _with_tokens(
    responses: Sequence[Response],
    usage: Usage | None,
    attempts: Sequence[int],
    sizes: Sequence[int],
) -> list[Response]:
    """The responses with their token counts, so that sums are what the server counted.

    The first answer carries the prompt's tokens, and completion tokens are shared by length. The
    share of a bad choice is in no response: it is only part of what was spent.
    """
    if usage is None:
        return list(responses)
    whole = sum(sizes) or 1
    shares: dict[int, int] = {}
    before = given = 0
    # Strict only in the model: a reply may hold fewer choices than were asked for.
    for attempt, size in zip(attempts, sizes, strict=False):
        before += size
        upto = usage.completion * before // whole
        # Rounding down the running total keeps the sum exact.
        shares[attempt] = upto - given
        given = upto
    # The rest, where all choices are empty, goes to the last one.
    shares[attempts[len(sizes) - 1]] += usage.completion - given
    counted = [
        replace(response, completion_tokens=shares[response.attempt]) for response in responses
    ]
    if counted:
        counted[0] = replace(counted[0], prompt_tokens=usage.prompt)
    return counted
