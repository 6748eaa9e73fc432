"""When a run stops: the rules that tell a fault of the set-up from a fault of one request.

- Wrong credentials, an empty balance, an unknown model and a redirect stop the run while nothing
  has succeeded. After a success they are failures of their request, and 20 of them in a row on one
  endpoint stop the run.
- A first stretch of nothing but rejections (20 questions) stops the run. Until the first success
  rejections are held back, so that a wrong set-up does not settle questions for good.
- Endpoints that are away are waited for. The run stops when all of them have been away for
  `outage` seconds and nothing is in flight.
- Paid replies without an answer stop the run when they are more than `stop_share` of the last 200.
- Usage above what a request can use at most contradicts the budget, and stops the run.

A stopped run sends nothing more. What is in flight is paid for, so it is waited for and stored.
"""

from collections import Counter, deque
from collections.abc import Sequence

from omr_data.errors import TeacherError
from omr_data.http import redact, secrets_of, shown_url
from omr_data.records import Response
from omr_data.teacher import Failure, Request
from omr_data.teachers.openai_api.endpoints import Endpoint
from omr_data.teachers.openai_api.settings import ServedModel, Usage

WINDOW = 200
"""Paid replies over which the share without an answer is taken."""
DENIED_IN_A_ROW = 20
FIRST_STRETCH = 20
"""Questions that may be rejected before the first success."""
KEPT = "Every answer so far is kept."

Result = tuple[Request, list[Response | Failure]]


class StopRules:
    """Watches what comes back in one run, and decides when it stops."""

    def __init__(self, teacher: ServedModel, endpoints: Sequence[Endpoint], key: str | None):
        self._teacher = teacher
        self._endpoints = endpoints
        self._secrets = secrets_of((endpoint.url for endpoint in endpoints), key)
        self._paid: deque[str] = deque(maxlen=WINDOW)
        self._held: list[Result] = []
        self._held_keys: set[str] = set()
        self._words = ""
        self.succeeded = False
        """Whether any answer came in this run."""
        self.fatal: TeacherError | None = None
        """Why the run stops, or None while it goes on."""

    def redacted(self, text: str) -> str:
        """The text without the key and what may be secret in URLs."""
        return redact(text, self._secrets)

    def stop(self, why: str) -> None:
        """Stops the run. The first reason stays."""
        if self.fatal is None:
            self.fatal = TeacherError(self.redacted(why))

    @property
    def waits_for_a_success(self) -> bool:
        """Whether nothing is sent before one request in flight succeeds: so much was rejected."""
        return not self.succeeded and len(self._held_keys) >= FIRST_STRETCH

    def answer_came(self) -> list[Result]:
        """Notes a good reply, and returns the rejections that were held back until it."""
        self._paid.append("")
        self.succeeded = True
        return self.release()

    def release(self) -> list[Result]:
        """Returns the rejections that were held back."""
        held, self._held = self._held, []
        return held

    def paid_without_answer(self, kind: str) -> None:
        """Notes a reply that was paid for and holds no answer."""
        self._paid.append(kind)
        # Only paid replies are in the window: an outage must not look like a bad model.
        failed = Counter(fault for fault in self._paid if fault)
        if len(self._paid) == WINDOW and failed.total() > self._teacher.stop_share * WINDOW:
            kinds = ", ".join(f"{count} {fault}" for fault, count in failed.most_common())
            self.stop(
                f"{failed.total()} of the last {WINDOW} requests failed ({kinds}). Stopped before "
                f"more is paid for. {KEPT}"
            )

    def denied(self, endpoint: Endpoint, status: int, words: str) -> None:
        """Notes a reply about credentials, balance, model name or address.

        Args:
            endpoint: Where it came from.
            status: The HTTP status.
            words: What the server said.
        """
        # Any answer of the endpoint sets this back to 0.
        endpoint.denied += 1
        if not self.succeeded or endpoint.denied >= DENIED_IN_A_ROW:
            self.stop(
                f"{shown_url(endpoint.url)} answers {status} to {self._teacher.model}: "
                f"{words[:300]}. Check the URL, the model's name, the key and the balance. {KEPT}"
            )

    def rejected(self, result: Result, status: int, words: str) -> list[Result]:
        """Notes a rejected request, and returns what may be handed over now.

        Args:
            result: The request with its failures.
            status: The HTTP status.
            words: What the server said.
        """
        if self.succeeded:
            return [result]
        # Held in memory only: a killed run has settled none of them.
        self._held.append(result)
        self._held_keys.add(result[0].key)
        self._words = f"{status}: {words[:300]}"
        return []

    def all_returned(self) -> list[Result]:
        """Decides about held rejections when nothing is in flight any more.

        Returns:
            Rejections to hand over: so few that they say nothing about the set-up.
        """
        if self.waits_for_a_success:
            self.stop(
                f"the first {len(self._held_keys)} questions to {self._teacher.model} were all "
                f"rejected, and none was answered. The last one with {self._words}. Mend the "
                f"teacher's fields or the server: nothing was settled by this. {KEPT}"
            )
            # Not handed over, so that the next run asks for them again.
            self._held.clear()
        return self.release()

    def endpoint_failed(self, now: float) -> None:
        """Notes a fault of an endpoint, and stops when all have been away for too long."""
        # The failed one still counts as in flight. While there are others, an answer may come.
        in_flight = sum(endpoint.in_flight for endpoint in self._endpoints) - 1
        # One endpoint that works is enough to go on.
        since = [endpoint.failing_since for endpoint in self._endpoints]
        began = [at for at in since if at is not None]
        if in_flight or len(began) < len(since) or now - max(began) < self._teacher.outage:
            return
        where = ", ".join(shown_url(endpoint.url) for endpoint in self._endpoints)
        troubles = [endpoint.trouble for endpoint in self._endpoints]
        self.stop(
            f"no answer for {self._teacher.outage:g} s from {where}; the last failure was: "
            f"{troubles[-1][:300]}. {KEPT} The same command goes on when the server is back."
        )

    def contradicts_budget(self, usage: Usage, most: Usage) -> bool:
        """Stops the run when a reply used more than its request can use at most.

        Args:
            usage: What the server counted.
            most: The bound that was reserved.
        """
        # The answer itself is kept: it was paid for.
        if usage.prompt <= most.prompt and usage.completion <= most.completion:
            return False
        self.stop(
            f"the server counts {usage.prompt:,} prompt and {usage.completion:,} completion "
            f"tokens, where one request to {self._teacher.model} can have at most "
            f"{most.prompt:,} and {most.completion:,}. So no budget in dollars can be kept. Raise "
            "image_tokens_at_most if its images are larger, or run without --budget if the server "
            f"does not keep to max_tokens. {KEPT}"
        )
        return True
