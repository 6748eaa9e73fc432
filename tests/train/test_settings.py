"""Settings are read by their types, refused where they make no sense, and hold published values."""

import pytest

from omr_data.errors import TrainError
from omr_data.train.settings import GSPO, SFT, Bound, Eval, as_json, changed, preset


@pytest.mark.parametrize(
    ("settings", "given", "complaint"),
    [
        (SFT(), {"grad_clip": "0"}, "grad_clip is 0.0, and must be above 0. A norm of 0"),
        (SFT(), {"lr": "-1"}, "lr is -1.0, and must be above 0"),
        (SFT(), {"lr": "0"}, "lr is 0.0, and must be above 0"),
        (SFT(), {"warmup": "3"}, "must be at least 0 and at most 1. It is a share of all steps"),
        (SFT(), {"warmup": "-0.1"}, "warmup is -0.1"),
        (
            SFT(),
            {"max_pixels": "100"},
            "max_pixels is 100, and must be at least 1024. It is an area",
        ),
        (SFT(), {"weight_decay": "-1"}, "weight_decay is -1.0, and must be at least 0"),
        (SFT(), {"betas": "0.9,1"}, "betas is 1.0, and must be at least 0 and below 1"),
        (SFT(), {"betas": "0.9"}, "betas has 1 numbers, and AdamW takes two"),
        (SFT(), {"packs_per_step": "0"}, "packs_per_step is 0, and must be at least 1"),
        (SFT(), {"steps": "0"}, "steps is 0, and must be at least 1"),
        (SFT(), {"epochs": "0"}, "epochs is 0.0, and must be above 0"),
        (SFT(), {"keep": "0"}, "keep is 0, and must be at least 1"),
        (SFT(), {"loaders": "-1"}, "loaders is -1"),
        (GSPO(), {"grad_clip": "-1"}, "grad_clip is -1.0"),
        (
            GSPO(),
            {"rollouts": "1"},
            "rollouts is 1, and must be at least 2. A completion is compared",
        ),
        (GSPO(), {"temperature": "0"}, "temperature is 0.0, and must be above 0. At 0 all"),
        (GSPO(), {"format_weight": "1.5"}, "format_weight is 1.5"),
        (GSPO(), {"clip_low": "0"}, "clip_low is 0.0, and must be above 0 and at most 1"),
        (GSPO(), {"warmup": "-1"}, "warmup is -1"),
        (GSPO(), {"kl": "-1"}, "kl is -1.0"),
        (GSPO(), {"collapse": "2"}, "collapse is 2.0"),
        (Eval(), {"n": "4"}, "greedy answers are all the same. Give a temperature"),
        (Eval(), {"pass_at": "2"}, "pass@k takes at least k answers. Raise n"),
        (Eval(), {"pass_at": "0"}, "pass_at has 0"),
        (Eval(), {"temperature": "-1"}, "temperature is -1.0"),
        (Eval(), {"top_p": "0"}, "top_p is 0.0, and must be above 0 and at most 1"),
        (Eval(), {"questions": "0"}, "questions is 0, and must be at least 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_where_settings_are_made(
    settings: SFT | GSPO | Eval, given: dict[str, str], complaint: str
) -> None:
    with pytest.raises(TrainError) as caught:
        changed(settings, given)
    assert complaint in str(caught.value)
    assert (
        str(caught.value).startswith(type(settings).__name__)
        or "pass" in complaint
        or given.get("n")
    )


def test_a_bound_includes_its_ends_unless_it_says_otherwise() -> None:
    closed, opened = Bound(0, 1), Bound(0, 1, above=True, below=True)
    assert [closed.holds(value) for value in (-0.1, 0, 0.5, 1, 1.1)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert [opened.holds(value) for value in (-0.1, 0, 0.5, 1, 1.1)] == [False] * 2 + [True] + [
        False
    ] * 2
    assert not closed.holds(float("nan"))
    assert str(opened) == "above 0 and below 1"


def test_the_ends_of_a_bound_can_be_given() -> None:
    assert changed(SFT(), {"warmup": "1", "weight_decay": "0", "max_pixels": "1024"}).warmup == 1
    assert changed(GSPO(), {"warmup": "0", "kl": "0", "collapse": "0"}).warmup == 0


def test_the_presets_hold_the_published_hyperparameters() -> None:
    sft, gspo = preset(SFT, "omr-7b-sft"), preset(GSPO, "omr-7b-gspo")
    assert (sft.lr, sft.weight_decay, sft.warmup, sft.steps) == (5e-5, 0.0, 0.1, 4_300)
    assert (sft.pack_length, sft.max_pixels) == (61_440, 4_194_304)
    assert (gspo.lr, gspo.warmup, gspo.weight_decay) == (1e-6, 25, 0.1)
    assert (gspo.grad_clip, gspo.steps, gspo.prompts_per_step) == (1.0, 1_232, 128)
    assert (gspo.rollouts, gspo.max_prompt, gspo.max_tokens) == (16, 4_096, 28_696)
    assert (gspo.clip, gspo.kl, gspo.format_weight) == ((3e-4, 4e-4), 0.0, 0.1)
    assert gspo.temperature == 1.0


def test_a_clip_that_is_not_given_is_that_of_the_loss() -> None:
    tiny = preset(GSPO, "tiny-gspo")
    assert changed(tiny, {"loss": "dapo"}).clip == (0.2, 0.28)
    assert changed(tiny, {"loss": "grpo", "clip_high": "0.3"}).clip == (0.2, 0.3)
    assert changed(tiny, {"clip_low": "0.1"}).clip == (0.1, 4e-4)
    assert as_json(preset(GSPO, "omr-7b-gspo"))["clip_high"] == 4e-4


def test_settings_are_read_by_their_types() -> None:
    given = {"lr": "3e-4", "steps": "none", "betas": "0.9,0.99", "compile": "true"}
    found = changed(SFT(), given | {"precision": "bfloat16"})
    assert (found.lr, found.steps, found.betas) == (3e-4, None, (0.9, 0.99))
    assert (found.compile, found.precision) == (True, "bfloat16")
    assert changed(Eval(), {"pass_at": "1,8", "n": "8", "temperature": "1"}).pass_at == (1, 8)


@pytest.mark.parametrize("given", [{"warmpu": "1"}, {"steps": "many"}, {"start": "zero"}])
def test_a_setting_that_cannot_be_read_is_refused(given: dict[str, str]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(TrainError, match=f"{name}|{value}"):
        changed(SFT(), given)


def test_a_preset_of_another_kind_is_refused() -> None:
    with pytest.raises(TrainError, match="There are: omr-7b-sft, tiny-sft"):
        preset(SFT, "tiny-gspo")
