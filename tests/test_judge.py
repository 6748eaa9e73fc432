"""A judge votes on what rules leave undecided, and one that is down decides nothing."""

import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

import omr_data
from omr_data.errors import RecipeError, VerifyError
from omr_data.identity import fingerprint
from omr_data.operators.verify import Judged
from omr_data.records import RIGHT, UNDECIDED, WRONG, Verdict
from omr_data.store.ledger import read_json
from omr_data.teachers import echo
from omr_data.verifiers.base import AnswerPair
from omr_data.verifiers.judge import Judge, vote
from tests.builders import record, response
from tests.omr import ROOT, omr
from tests.recipes.judged import Reachable

JUDGED = ROOT / "tests" / "recipes" / "judged.py"
OPEN = Verdict(UNDECIDED, "units.Verifier", 1, "12 or so", "cannot tell")
PAIR = AnswerPair("<answer>12 or so</answer>", "12", question="How many?")


def judge(*answers: str, votes: int = 3, needed: int = 2) -> Judge:
    return Judge(echo.Teacher(answers=answers), votes, needed)


def said(*words: str) -> list[object]:
    return [response(word, attempt=number) for number, word in enumerate(words)]


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        (("RIGHT", "RIGHT", "WRONG"), RIGHT),
        (("WRONG", "right.", "**Wrong**"), WRONG),
        (("RIGHT", "WRONG", "UNSURE"), UNDECIDED),
        (("RIGHT",), UNDECIDED),
        ((), UNDECIDED),
    ],
)
def test_an_outcome_counts_when_enough_votes_agree(votes: tuple[str, ...], outcome: str) -> None:
    verdict = judge("RIGHT").count(OPEN, said(*votes))  # type: ignore[arg-type]
    assert verdict.outcome == outcome
    assert verdict.extracted == "12 or so"
    assert "of 3 by echo; 2 are needed" in verdict.reason


def test_only_the_one_word_outside_the_thinking_is_a_vote() -> None:
    assert vote(response("<think>RIGHT? no.</think>They differ.\nWRONG")) == WRONG
    assert vote(response("<think>x</think><answer>right</answer>")) == RIGHT
    assert (
        vote(response("It is RIGHT to say that they are not the same, I think, in every way"))
        is None
    )
    assert vote(response("RIGHT", finish_reason="length")) is None
    assert vote(response("<think>RIGHT")) is None


def test_the_judge_is_asked_only_about_undecided_answers() -> None:
    pairs = [
        PAIR,
        AnswerPair("12", "12"),
        AnswerPair("13", "12"),
        AnswerPair("<think>cut", "12", finish_reason="length"),
    ]
    verdicts = omr_data.verify_many(pairs, judge=judge("RIGHT"))
    assert [verdict.outcome for verdict in verdicts] == [RIGHT, RIGHT, WRONG, UNDECIDED]
    assert [verdict.verifier for verdict in verdicts][:2] == ["judge.Judge", "cascade.Verifier"]


def test_a_judge_that_is_down_leaves_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMR_TEST_DOWN", "1")
    (verdict,) = omr_data.verify_many([PAIR], judge=Judge(Reachable(answers=("RIGHT",))))
    assert verdict.outcome == UNDECIDED
    assert "3 no vote" in verdict.reason


def test_what_the_judge_is_asked_holds_the_answer_and_not_the_reasoning() -> None:
    pair = AnswerPair(
        "<think>secret</think><answer>{gold} <image></answer>",
        "12",
        ("12", "13"),
        question="<image>How many?",
    )
    request = judge("RIGHT").request(pair, Verdict(UNDECIDED, "x", 1, "{gold} <image>", ""))
    assert request is not None
    text = request.messages[0].text
    assert "Student's answer: {gold} \n" in text
    assert "(B) 13" in text
    assert "secret" not in text and "<image>" not in text


def test_model_votes_and_prompt_are_the_identity() -> None:
    one = judge("RIGHT")
    others = [
        judge("WRONG"),
        judge("RIGHT", votes=5, needed=3),
        Judge(one.teacher, prompt="{question}{gold}{claim}"),
    ]
    assert len({fingerprint(judge) for judge in [one, *others]}) == 4


def test_a_minority_and_a_prompt_without_places_are_refused() -> None:
    with pytest.raises(VerifyError, match="2 of 4 votes is not a majority"):
        judge("RIGHT", votes=4)
    with pytest.raises(VerifyError, match=r"has no place \{gold\}"):
        Judge(echo.Teacher(), prompt="{question} {claim}")


def test_judging_needs_verdicts_first() -> None:
    with pytest.raises(RecipeError, match=r"put verify.Answers\(\) before it"):
        Judged(judge("RIGHT")).requests(record(responses=(response(),)))


@pytest.mark.build
def test_votes_are_stored_and_a_build_with_a_judge_that_is_down_goes_on_later(
    tmp_path: Path,
) -> None:
    places = ("--work", tmp_path / "work", "--releases", tmp_path / "releases", "--workers", 1)
    failed = omr("build", JUDGED, *places, code=1, OMR_TEST_DOWN=1)
    assert failed.stderr.strip().endswith("the judge cannot be reached.")
    before = stored(tmp_path)
    omr("build", JUDGED, *places)
    assert stored(tmp_path)[0] > before[0]
    manifest = read_json(tmp_path / "releases/judged/1.0.0/manifest.json")
    tallies = {line["step"]: Counter(line["tally"]) for line in manifest["counts"]}
    assert tallies["verify.Answers"][UNDECIDED] > tallies["verify.Judged"][UNDECIDED] > 0
    assert tallies["verify.Judged"].total() == tallies["verify.Answers"].total()
    # More votes are asked for exactly: five for each distinct question that had three.
    plan = json.loads(
        omr("plan", JUDGED, "--set", "votes=5", "--work", tmp_path / "work", "--json").stdout
    )
    (calls,) = [node["teacher_calls"] for node in plan["nodes"] if node["name"] == "verify.Judged"]
    assert calls * 3 == (stored(tmp_path)[1]) * 2


def stored(folder: Path) -> tuple[int, int]:
    """All stored answers, and those of the judge."""
    with sqlite3.connect(folder / "work/rollouts.sqlite") as store:
        (every,) = store.execute("SELECT count(*) FROM rollouts").fetchone()
        (early,) = store.execute("SELECT count(*) FROM rollouts WHERE attempt < 4").fetchone()
        assert every == early
        keys = [
            key
            for (key,) in store.execute("SELECT key FROM rollouts GROUP BY key HAVING count(*) = 3")
        ]
    return every, 3 * len(keys)
