"""Scores are what their definitions say, and what cannot be asked is counted."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from omr_data.errors import SourceError, TrainError
from omr_data.sources import prompts
from omr_data.sources.locator import LocalDatasets
from omr_data.train import evaluate
from omr_data.train.release import PolicyPrompt
from omr_data.train.settings import Eval, changed
from tests.builders import png
from tests.omr import command, omr
from tests.train.helpers import run_on_two, write_release

BOTH = (True, True)


def score_source(name: str, of: Mapping[str, str], **given: str) -> evaluate.Score:
    questions, bad = prompts.read_questions(prompts.named_source(name, of), LocalDatasets())
    asked = [PolicyPrompt.from_record(one.record, one.images) for one in questions]
    return evaluate.evaluate(changed(Eval(), {"max_tokens": "32"} | given), asked, name, bad)[0]


def test_a_model_is_measured_over_a_source() -> None:
    found = score_source("synthetic", {"split": "heldout", "count": "30", "families": "text"})
    assert (found.questions, found.answers, dict(found.skipped)) == (30, 30, {})
    assert found.accuracy.low > 0.3
    assert str(found.accuracy).startswith("0.")
    assert set(found.by_source) == {"synthetic"}
    assert found.by_source["synthetic"] == found.accuracy


@pytest.mark.parametrize(
    ("name", "of", "complaint"),
    [
        ("drawing", {}, "omr_data.sources has no source of that name"),
        ("prompts", {}, "omr_data.sources has no source of that name"),
        ("synthetic", {"spilt": "heldout"}, "Did you mean split"),
    ],
)
def test_a_source_that_is_not_there_is_refused(
    name: str, of: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SourceError, match=complaint):
        prompts.named_source(name, of)


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainError, match="cannot be loaded"):
        score_source("synthetic", {"count": "3"}, model="/nowhere")


def test_a_question_that_cannot_be_asked_is_left_out_and_counted() -> None:
    chat = ({"role": "user", "content": "<image>?"},)
    bad = PolicyPrompt("bad", chat, (b"no image",), "1")
    good = PolicyPrompt("good", chat, (png(),), "1")
    settings = Eval(max_tokens=64)
    found, results = evaluate.evaluate(settings, [bad, good], "two", {"row broken": 3})
    assert dict(found.skipped) == {"image broken": 1, "row broken": 3}
    assert [one.id for one in results] == ["good"]
    with pytest.raises(TrainError, match="no question of one can be put to tiny: image broken"):
        evaluate.evaluate(settings, [bad], "one")
    with pytest.raises(TrainError, match="nothing has no question"):
        evaluate.evaluate(settings, [], "nothing")


def test_accuracy_counts_undecided_answers_as_not_right_and_apart() -> None:
    results = [
        evaluate.ProblemResult("1", "a", "4", ("4", "5"), ("RIGHT", "WRONG"), BOTH),
        evaluate.ProblemResult("2", "b", "4", ("4", "?"), ("RIGHT", "UNDECIDED"), BOTH),
        evaluate.ProblemResult("3", "b", "4", ("4", "4"), ("RIGHT", "RIGHT"), BOTH),
    ]
    found = evaluate.score(results, Eval(n=2, temperature=1.0, pass_at=(1, 2)), "x", {})
    assert found.accuracy.value == pytest.approx(4 / 6)
    assert found.undecided == pytest.approx(1 / 6)
    assert (found.questions, found.answers) == (3, 6)
    assert found.pass_at[1].value == pytest.approx(4 / 6)
    assert found.pass_at[2].value == 1.0
    sources = {name: one.value for name, one in found.by_source.items()}
    assert sources == {"a": 0.5, "b": 0.75}


def test_what_was_cut_off_is_left_out_of_accuracy_and_pass_at_k_and_shown_apart() -> None:
    cut = ("RIGHT", "UNDECIDED")
    results = [
        evaluate.ProblemResult("1", "a", "4", ("4", "So"), cut, (True, False)),
        evaluate.ProblemResult("2", "a", "4", ("5", "5"), ("WRONG", "WRONG"), BOTH),
        evaluate.ProblemResult("3", "b", "4", ("So", "So"), ("UNDECIDED",) * 2, (False, False)),
    ]
    settings = Eval(n=2, temperature=1.0, pass_at=(1, 2))
    found = evaluate.score(results, settings, "x", {})
    assert found.accuracy.value == found.pass_at[1].value == 0.5
    assert found.pass_at[2].value == 0.0
    assert (found.undecided, found.left_out) == (0.5, 0.5)
    assert set(found.by_source) == {"a"}
    assert set(evaluate.score(results[:1], settings, "x", {}).pass_at) == {1}
    with pytest.raises(TrainError, match="none of the 2 answers of tiny to x counts"):
        evaluate.score(results[2:], settings, "x", {})


def test_pass_at_k_is_the_chance_over_all_ways_to_draw_k() -> None:
    outcomes = ["RIGHT", "WRONG", "UNDECIDED", "RIGHT"]
    for k in (1, 2, 3, 4):
        chosen = list(itertools.combinations(outcomes, k))
        share = sum("RIGHT" in some for some in chosen) / len(chosen)
        assert evaluate.pass_at(outcomes, k) == pytest.approx(share)


@pytest.mark.parametrize("n", [1, 4])
def test_an_interval_covers_the_truth_about_as_often_as_it_says(n: int) -> None:
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        rates = random.beta(2, 2, 150) if n > 1 else np.full(150, 0.5)
        found = evaluate.interval(random.binomial(n, rates) / n, n)
        hits += found.low <= 0.5 <= found.high
    assert 89 <= hits <= 99


def test_an_interval_of_equal_values_still_has_a_width() -> None:
    """Wilson's for 10 of 10: from 1 / (1 + z^2 / 10) to 1."""
    found = evaluate.interval(np.ones(10), 4)
    assert (found.value, found.high) == (1.0, pytest.approx(1.0))
    assert found.low == pytest.approx(1 / (1 + 1.959964**2 / 10))


@pytest.mark.build
def test_the_command_measures_a_release_and_writes_every_answer(tmp_path: Path) -> None:
    release = write_release(tmp_path, answered=False, count=40)
    out = tmp_path / "score.json"
    given = [f"--set={name}" for name in ("n=4", "temperature=1", "pass_at=1,4", "max_tokens=32")]
    done = omr("eval", "tiny", release, *given, "--out", out, OMP_NUM_THREADS=1)
    found = json.loads(out.read_text())
    accuracy = found["accuracy"]
    assert 0 < accuracy["low"] < accuracy["value"] < accuracy["high"] < 1
    assert found["pass_at"]["1"] == accuracy
    assert found["pass_at"]["4"]["value"] > accuracy["value"]
    assert len(found["answered"]) == found["questions"] == 40
    assert len(found["answered"][0]["texts"]) == 4
    assert "pass@4" in done.stdout
    assert "95% interval" in done.stdout


@pytest.mark.slow
def test_two_processes_measure_what_one_does_with_texts_on_one_and_images_on_the_other(
    tmp_path: Path,
) -> None:
    """Greedy, so that nothing depends on random numbers. Families take turns, as processes do."""
    of = [f"--of={value}" for value in ("split=heldout", "count=16", "families=text,sum")]
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    common = ["eval", "tiny", "synthetic", *of, "--set=max_tokens=32"]
    omr(*common, "--out", one, OMP_NUM_THREADS=1)
    done = run_on_two(command(*common, "--out", two))
    assert done.stdout.count("95% interval") == 1
    assert json.loads(one.read_text()) == json.loads(two.read_text())
