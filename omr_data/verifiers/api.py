"""Verification for users, without a recipe.

>>> import omr_data
>>> omr_data.verify("<think>3 + 4</think><answer>7</answer>", gold="7").outcome
'RIGHT'
>>> omr_data.verify("The answer is (B).", gold="blue", options=("red", "blue")).reason
'it names (B) blue'
>>> omr_data.verify("12", gold="12 cm").reason
'12 has no unit; the answer is in centimeter'
"""

from collections.abc import Iterable, Sequence

from omr_data.processes import mapper
from omr_data.records import Verdict
from omr_data.verifiers import cascade
from omr_data.verifiers.base import AnswerPair
from omr_data.verifiers.base import Verifier as OneVerifier
from omr_data.verifiers.judge import Judge


def verify(
    response: str,
    gold: str,
    options: Sequence[str] = (),
    finish_reason: str = "stop",
    verifiers: Sequence[OneVerifier] = cascade.DEFAULT,
) -> Verdict:
    """The verdict on one response: RIGHT, WRONG or UNDECIDED, with the answer that was read and the reason.

    `response` is the whole text, thinking included. `finish_reason="length"` says that it was cut off, which makes a
    missing answer UNDECIDED. Safe from any thread or event loop; a formula that does not finish costs at most 3 seconds.
    """
    return cascade.Verifier(tuple(verifiers)).verify(
        AnswerPair(response, gold, tuple(options), finish_reason)
    )


def verify_many(
    pairs: Iterable[AnswerPair],
    verifiers: Sequence[OneVerifier] = cascade.DEFAULT,
    workers: int = 1,
    judge: Judge | None = None,
) -> list[Verdict]:
    """The verdicts on many pairs, in order, from so many processes (each takes about a second to start).

    What is still UNDECIDED is put to the `judge`, if there is one; where it is down, it stays UNDECIDED.
    """
    rules = cascade.Verifier(tuple(verifiers))
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
        verdicts = [verdict for number in sorted(done) for verdict in done[number]]
    return verdicts if judge is None else judge.verify_many(every, verdicts)


_CHUNK = 500
"""Pairs a task: about 10 ms of work, so that sending them costs little."""


def _start() -> None:
    """A worker needs nothing of its own."""


def _verify_chunk(
    task: tuple[int, cascade.Verifier, list[AnswerPair]],
) -> tuple[int, list[Verdict]]:
    number, rules, pairs = task
    return number, rules.verify_many(pairs)
