"""Verification for users, without a recipe.

>>> import omr_data
>>> omr_data.verify("<think>3 + 4</think><answer>7</answer>", gold="7").outcome
'RIGHT'
>>> omr_data.verify("The answer is (B).", gold="blue", options=("red", "blue")).reason
'it names (B) blue'
>>> omr_data.verify("12", gold="12 cm").reason
'it has no unit; the answer is in centimeter'
>>> omr_data.verify("I do not know.", gold="7").cause
'unstated'
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from omr_data.processes import mapper
from omr_data.records import Verdict
from omr_data.verifiers.base import AnswerPair
from omr_data.verifiers.base import Verifier as OneVerifier

if TYPE_CHECKING:
    from omr_data.verifiers import cascade, tasks
    from omr_data.verifiers.judge import Judge

Rules: TypeAlias = "tasks.Router | cascade.Verifier"


def verify(
    response: str,
    gold: str,
    options: Sequence[str] = (),
    finish_reason: str = "stop",
    verifiers: Sequence[OneVerifier] | None = None,
    task: str = "maths",
) -> Verdict:
    """The verdict on one response, with the answer that was read and the reason.

    Safe from any thread or event loop; whatever a response holds, it costs at most 3 seconds.

    Args:
        response: The whole text, thinking included.
        gold: The gold answer.
        options: The texts of the options, in order.
        finish_reason: "length" says that the response was cut off.
        verifiers: What decides, in order; without it, the verifiers of the task.
        task: What kind of answer is asked for (see `verifiers.tasks`).
    """
    # A pair is the one form in which verifiers are asked, also for a single response.
    pair = AnswerPair(response, gold, tuple(options), finish_reason, task=task)
    return _rules(verifiers).verify(pair)


def verify_many(
    pairs: Iterable[AnswerPair],
    verifiers: Sequence[OneVerifier] | None = None,
    workers: int = 1,
    judge: "Judge | None" = None,
) -> list[Verdict]:
    """The verdicts on many pairs, in order.

    Args:
        pairs: Responses with their gold answers.
        verifiers: What decides, in order; without it, the verifiers of each pair's task.
        workers: Processes, each of which takes about a second to start.
        judge: Votes on what is still UNDECIDED. Where it is down, that stays UNDECIDED.
    """
    # A list, since pairs may come from a generator and the judge needs them again.
    rules = _rules(verifiers)
    every = list(pairs)
    if workers == 1:
        verdicts = rules.verify_many(every)
    else:
        chunks = [
            (number, rules, every[start : start + _CHUNK])
            for number, start in enumerate(range(0, len(every), _CHUNK))
        ]

        with mapper(workers, _start) as processes:
            done = dict(processes.map(_verify_chunk, chunks))

        verdicts = []

        for number in sorted(done):
            verdicts += done[number]

    if judge is None:
        return verdicts

    return judge.verify_many(every, verdicts)


# Also small enough that the last chunks even out between the workers.
_CHUNK = 500
"""Pairs a task: about 30 ms of work, so that sending them costs little."""


def _rules(verifiers: Sequence[OneVerifier] | None) -> Rules:
    # The verifiers are loaded on first use: their patterns take a tenth of a second to compile,
    # and `import omr_data` offers this module to everybody.
    from omr_data.verifiers import cascade, tasks

    if verifiers is None:
        return tasks.STANDARD

    return cascade.Verifier(tuple(verifiers))


def _start() -> None:
    """A worker needs nothing of its own."""


def _verify_chunk(task: tuple[int, Rules, list[AnswerPair]]) -> tuple[int, list[Verdict]]:
    number, rules, pairs = task
    return number, rules.verify_many(pairs)
