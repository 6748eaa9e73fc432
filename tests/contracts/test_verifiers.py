"""What every verifier and every type of answer keeps, asked of each file that is found.

A new verifier is a file in omr_data/verifiers with a class `Verifier`, and a fixture of its name in
tests/fixtures/verifiers. It is given to a task in `tasks.TABLE`, or listed in `OPT_IN` below.
"""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

from omr_data import verifiers
from omr_data.records import RIGHT, UNDECIDED, WRONG
from omr_data.verifiers import base, tasks
from omr_data.verifiers.answers import answer_types, parse
from omr_data.verifiers.base import AnswerPair
from omr_data.verifiers.cascade import Verifier as Cascade

FIXTURES = Path(__file__).parents[1] / "fixtures" / "verifiers"
OPT_IN: frozenset[str] = frozenset()
"""Verifiers that no task is given to by default."""


def found() -> list[type[base.Verifier]]:
    """The verifiers of the package, one from each file that defines one."""
    classes = []
    for module in pkgutil.iter_modules(verifiers.__path__):
        loaded = importlib.import_module(f"{verifiers.__name__}.{module.name}")
        own = getattr(loaded, "Verifier", None)
        is_own = isinstance(own, type) and own.__module__ == loaded.__name__
        if is_own and issubclass(own, base.Verifier) and own is not base.Verifier:
            classes.append(own)
    return classes


VERIFIERS = found()
each_verifier = pytest.mark.parametrize("kind", VERIFIERS, ids=lambda kind: kind.name)


def fixture_of(kind: type[base.Verifier]) -> dict[str, list[dict[str, object]]]:
    """The table of a verifier. Fails with the words that say what to add."""
    path = FIXTURES / f"{kind.name.partition('.')[0]}.json"
    if not path.exists():
        pytest.fail(
            f"{kind.__module__} has no fixture. Write {path} with two lists: 'accepts' holds "
            '{"gold", "options", "accepted"}, and \'decides\' holds {"claim", "gold", "options", '
            '"outcome"}, at least one RIGHT, one other outcome, and one gold that is not accepted.'
        )
    table: dict[str, list[dict[str, object]]] = json.loads(path.read_text())
    return table


@each_verifier
def test_a_verifier_accepts_what_its_fixture_says(kind: type[base.Verifier]) -> None:
    rows = fixture_of(kind)["accepts"]
    assert {row["accepted"] for row in rows} == {True, False}
    for row in rows:
        options = tuple(row.get("options", ()))  # type: ignore[arg-type]
        assert kind().accepts(str(row["gold"]), options) == row["accepted"], row


@each_verifier
def test_a_verifier_decides_as_its_fixture_says(kind: type[base.Verifier]) -> None:
    rows = fixture_of(kind)["decides"]
    outcomes = {row["outcome"] for row in rows}
    # A verifier that leaves everything to a judge is never RIGHT by itself.
    assert len(outcomes) > 1 or outcomes == {UNDECIDED}
    for row in rows:
        options = tuple(row.get("options", ()))  # type: ignore[arg-type]
        assert kind().accepts(str(row["gold"]), options), row
        decision = kind().decide(str(row["claim"]), str(row["gold"]), options)
        assert decision.outcome == row["outcome"], (row, decision)
        assert decision.reason
        assert (decision.cause == "") == (decision.outcome != UNDECIDED), decision
        if "score" in row:
            assert decision.score == pytest.approx(row["score"])


@each_verifier
def test_a_verifier_never_raises_for_what_a_claim_holds(kind: type[base.Verifier]) -> None:
    row = fixture_of(kind)["decides"][0]
    options = tuple(row.get("options", ()))  # type: ignore[arg-type]
    for claim in ("", "\0", "\ud800", "[" * 500, "{" * 500, "9" * 5_000, "[1,2", '{"a":', "\\frac"):
        assert kind().decide(claim, str(row["gold"]), options).outcome in (RIGHT, WRONG, UNDECIDED)


@each_verifier
def test_a_verifier_is_given_to_a_task_or_listed_as_opt_in(kind: type[base.Verifier]) -> None:
    used = {type(one) for _, cascade in tasks.TABLE for one in cascade.verifiers}
    assert kind in used or kind.name in OPT_IN, (
        f"{kind.name} is asked nowhere. Give it to a task in omr_data/verifiers/tasks.py, "
        "or list it in OPT_IN here."
    )


def test_every_task_decides_through_the_public_entry() -> None:
    for task, cascade in tasks.TABLE:
        rows = fixture_of(type(cascade.verifiers[0]))["decides"]
        for row in rows:
            options = tuple(row.get("options", ()))  # type: ignore[arg-type]
            response = str(row["claim"])
            if not cascade.verifiers[0].reads_response:
                response = f"<answer>{response}</answer>"
            pair = AnswerPair(response, str(row["gold"]), options, task=task)
            verdict = tasks.STANDARD.verify(pair)
            if row["outcome"] != UNDECIDED:
                assert verdict.outcome == row["outcome"], (task, row, verdict)


@pytest.mark.parametrize("kind", answer_types(), ids=lambda kind: kind.__name__)
def test_a_type_of_answer_is_read_from_its_fixture_and_equals_itself(kind: type) -> None:
    """tests/fixtures/answers.json has texts for each type: the first reading is of that type."""
    texts = json.loads((FIXTURES.parent / "answers.json").read_text()).get(kind.__name__)
    assert texts, f"add texts for {kind.__name__} to tests/fixtures/answers.json"
    rules = Cascade()
    for text in texts:
        assert kind in {type(one) for one in parse(text)}, (text, parse(text))
        verdict = rules.verify(AnswerPair(f"<answer> {text} </answer>", text))
        assert verdict.outcome == RIGHT, (text, verdict)
