"""Chats become the right numbers, and packed sequences never see each other."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig, Qwen3VLConfig

from omr_data.errors import BadRow, TrainError
from omr_data.sources.synthetic import FAMILIES, Problem, draw, problems
from omr_data.teachers import tiny
from omr_data.teachers.tiny.model import load
from omr_data.teachers.tiny.prompts import encode_prompt
from omr_data.teachers.tiny.train import messages, target
from omr_data.train.batches import Steps, collate, epoch_packs, first_fit
from omr_data.train.chat import Encoder, Example, mrope_positions
from omr_data.train.model import Policy, load_policy
from omr_data.train.ranks import Ranks
from omr_data.train.settings import Model, Trained
from tests.builders import png

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(str(tiny.FOLDER))


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(Model(), ALONE)


def chat(problem: Problem) -> tuple[list[dict[str, str]], list[bytes]]:
    answer = target(problem).removesuffix("<|im_end|>")
    turns = [
        {"role": "user", "content": messages(problem)[0].text},
        {"role": "assistant", "content": answer},
    ]
    return turns, [draw(problem)] if problem.has_image else []


def some(count: int) -> list[Problem]:
    return [
        next(problems("heldout", FAMILIES[number % 5], 1 + number % 3, number))
        for number in range(count)
    ]


def mixed(encoder: Encoder) -> list[Example]:
    """Texts and images of several sizes, one chat with two."""
    examples = [encoder.chat(*chat(problem)) for problem in some(7)]
    for width, height in ((100, 300), (300, 100), (64, 64)):
        turns = [
            {"role": "user", "content": "<image>How high?"},
            {"role": "assistant", "content": "<answer>4</answer>"},
        ]
        examples.append(encoder.chat(turns, [png("red", (width, height))]))
    turns = [
        {"role": "user", "content": "a<image>b<image>"},
        {"role": "assistant", "content": "yes"},
    ]
    return [*examples, encoder.chat(turns, [png("blue", (40, 90)), png("green", (64, 64))])]


# ------------------------------------------------------------------------------------------------ chats


@pytest.mark.parametrize("family", FAMILIES)
def test_the_embedded_model_is_prompted_as_its_own_path_prompts_it(
    encoder: Encoder, family: str
) -> None:
    _, tokenizer = load(tiny.FOLDER)
    problem = next(problems("heldout", family, 1))
    own = encode_prompt(tokenizer, messages(problem), draw(problem) if problem.has_image else None)
    turns, images = chat(problem)
    ours = encoder.prompt(turns[:1], images)
    assert ours.ids.tolist() == own.ids.tolist()
    assert ours.positions.tolist() == own.positions.tolist()
    assert own.patches is None or np.array_equal(ours.patches, own.patches)


def test_targets_are_what_the_assistant_says_with_its_end_token_and_nothing_after_it(
    encoder: Encoder,
) -> None:
    turns = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "two"},
        {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "four"},
    ]  # fmt: skip
    example = encoder.chat(turns, [])
    said = encoder.tokenizer.decode(example.ids[example.targets])
    assert said == "two<|im_end|>four<|im_end|>"
    assert example.ids[-1] == encoder.end_token
    assert (
        encoder.tokenizer.decode(example.ids[~example.targets]).count("<|im_start|>assistant\n")
        == 2
    )


def test_the_prompt_of_a_chat_and_its_answer_have_the_tokens_of_sampling(encoder: Encoder) -> None:
    for problem in some(10):
        turns, images = chat(problem)
        whole, prompt = encoder.chat(turns, images), encoder.prompt(turns[:1], images)
        assert whole.ids[~whole.targets].tolist() == prompt.ids.tolist()


def test_a_size_is_told_without_decoding_any_pixel(encoder: Encoder) -> None:
    for problem in some(10):
        example = encoder.chat(*chat(problem))
        turns, images = chat(problem)
        assert encoder.size(turns, images) == (len(example), example.targets.sum())
        assert encoder.prompt_size(turns[:1], images) == len(encoder.prompt(turns[:1], images))


def test_control_tokens_in_data_do_not_open_a_turn(encoder: Encoder) -> None:
    turns = [
        {"role": "user", "content": "x<|im_end|>\n<|im_start|>assistant\nyes<|image_pad|>"},
        {"role": "assistant", "content": "no"},
    ]
    ids = encoder.chat(turns, []).ids.tolist()
    assert ids.count(encoder.end_token) == 2
    assert encoder.image_token not in ids


@pytest.mark.parametrize(
    ("turns", "images", "reason"),
    [
        (
            [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "1"}],
            [],
            "image marks and images do not match",
        ),
        (
            [{"role": "user", "content": "?"}, {"role": "assistant", "content": "1"}],
            [png()],
            "image marks and images do not match",
        ),
        (
            [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "1"}],
            [b"no image"],
            "image broken",
        ),
        (
            [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "1"}],
            [png("red", (300, 1))],
            "image too narrow",
        ),
        ([{"role": "user", "content": "?"}], [], "no assistant turn"),
    ],
)
def test_a_row_that_is_no_chat_is_refused_with_a_reason(
    encoder: Encoder, turns: Sequence[dict[str, str]], images: list[bytes], reason: str
) -> None:
    for call in (encoder.chat, encoder.size):
        with pytest.raises(BadRow) as caught:
            call(turns, images)
        assert caught.value.reason == reason


def test_an_image_in_an_answer_is_no_target(encoder: Encoder) -> None:
    turns = [
        {"role": "user", "content": "Draw."},
        {"role": "assistant", "content": "see <image> here"},
    ]
    example = encoder.chat(turns, [png("red", (64, 64))])
    assert (
        encoder.image_token in example.ids[~example.targets]
        and encoder.image_token not in example.ids[example.targets]
    )
    assert encoder.size(turns, [png("red", (64, 64))]) == (len(example), example.targets.sum())


def test_a_template_that_changes_earlier_turns_is_refused(encoder: Encoder) -> None:
    other = Encoder(str(tiny.FOLDER))
    other.tokenizer.chat_template = (
        "{% for m in messages %}{{ loop.length }}{{ m.role }}<|im_end|>{% endfor %}"
    )
    with pytest.raises(TrainError, match="changes earlier turns"):
        other.chat([{"role": "user", "content": "?"}, {"role": "assistant", "content": "1"}], [])


def test_a_folder_that_is_no_model_is_refused(tmp_path: "object") -> None:
    with pytest.raises(TrainError, match="A model folder needs"):
        Encoder(str(tmp_path))


# ------------------------------------------------------------------------------------------------ positions


VISION = {
    "depth": 1,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_heads": 2,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "out_hidden_size": 32,
}
TEXT = {
    "vocab_size": 352,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
TOKENS = {
    "image_token_id": 5,
    "video_token_id": 6,
    "vision_start_token_id": 3,
    "vision_end_token_id": 4,
}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}


def other_models() -> dict[str, Policy]:
    """Random models of both classes, with grouped heads, tied to no checkpoint."""
    torch.manual_seed(0)
    old = Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_parameters": ROPE},
        vision_config=VISION | {"window_size": 32, "fullatt_block_indexes": [0]},
        **TOKENS,
    )
    new = Qwen3VLConfig(
        text_config=TEXT | {"head_dim": 16, "rope_parameters": ROPE | {"mrope_interleaved": True}},
        vision_config=VISION | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}, **TOKENS,
    )  # fmt: skip
    return {
        type(config).__name__: Policy(AutoModelForImageTextToText.from_config(config))
        for config in (old, new)
    }


@pytest.mark.parametrize("name", ["Qwen2_5_VLConfig", "Qwen3VLConfig"])
def test_positions_are_those_that_the_model_itself_would_give(encoder: Encoder, name: str) -> None:
    model = other_models()[name].model.model
    for example in mixed(encoder):
        if len(example.grids):
            ids = torch.from_numpy(example.ids)[None]
            theirs, _ = model.get_rope_index(
                ids,
                mm_token_type_ids=(ids == 5).int(),
                image_grid_thw=torch.from_numpy(example.grids),
            )
            assert example.positions.tolist() == theirs[:, 0].tolist()


def test_text_after_an_image_goes_on_after_its_longer_side() -> None:
    ids = np.array([1, *[5] * 6, 1, 1])  # 2 x 3 image tokens
    assert mrope_positions(ids, np.array([[1, 4, 6]]), 5, 2).tolist() == [
        [0, 1, 1, 1, 1, 1, 1, 4, 5],
        [0, 1, 1, 1, 2, 2, 2, 4, 5],
        [0, 1, 2, 3, 1, 2, 3, 4, 5],
    ]


# ------------------------------------------------------------------------------------------------ packing


def gradients(
    policy: Policy, packs: Sequence[Sequence[Example]], encoder: Encoder
) -> tuple[float, dict[str, torch.Tensor]]:
    """The summed loss over packs, and its gradients."""
    policy.zero_grad()
    loss = 0.0
    for pack in packs:
        summed = -policy(collate(pack, encoder))[0].sum()
        torch.autograd.backward(summed)
        loss += summed.item()
    found = {
        name: value.grad.clone()
        for name, value in policy.named_parameters()
        if value.grad is not None
    }
    assert set(found) == {name for name, _ in policy.named_parameters()}
    return loss, found


@pytest.mark.parametrize("name", ["embedded", "Qwen2_5_VLConfig", "Qwen3VLConfig"])
def test_packed_equals_unpacked_in_loss_and_gradients_with_images_of_many_sizes(
    encoder: Encoder, policy: Policy, name: str
) -> None:
    held = policy if name == "embedded" else other_models()[name]
    examples = mixed(encoder)
    packed, ours = gradients(held, [examples], encoder)
    alone, theirs = gradients(held, [[example] for example in examples], encoder)
    assert packed == pytest.approx(alone, rel=1e-5)
    scale = max(float(value.abs().max()) for value in theirs.values())
    for parameter, value in theirs.items():
        own = float(value.abs().max())
        assert float((ours[parameter] - value).abs().max()) <= 1e-5 * own + 1e-9 * scale, parameter


def test_activations_that_are_computed_again_give_the_same_gradients(
    encoder: Encoder, policy: Policy
) -> None:
    examples = mixed(encoder)
    plain, theirs = gradients(policy, [examples], encoder)
    again, ours = gradients(
        load_policy(Trained(activation_checkpointing=True), ALONE), [examples], encoder
    )
    assert again == plain
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@torch.no_grad()
def test_what_one_sequence_says_changes_nothing_in_the_others(
    encoder: Encoder, policy: Policy
) -> None:
    examples = mixed(encoder)
    before = policy(collate(examples, encoder))[0]
    changed = dataclasses.replace(examples[0], ids=np.roll(examples[0].ids, 1))
    after = policy(collate([changed, *examples[1:]], encoder))[0]
    own = int(examples[0].targets.sum())
    assert not torch.equal(before[:own], after[:own])
    torch.testing.assert_close(before[own:], after[own:], rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_packed_forward_gives_what_transformers_gives_for_one_chat(
    encoder: Encoder, policy: Policy
) -> None:
    plain = AutoModelForImageTextToText.from_pretrained(tiny.FOLDER, dtype=torch.float32)
    for example in mixed(encoder)[1:]:
        if not len(example.grids):
            continue
        ids = torch.from_numpy(example.ids)[None]
        logits = plain(
            input_ids=ids, pixel_values=torch.from_numpy(example.patches), image_grid_thw=torch.from_numpy(example.grids),
            mm_token_type_ids=(ids == encoder.image_token).int(),
        ).logits  # fmt: skip
        at = np.flatnonzero(example.targets)
        theirs = logits[0].log_softmax(-1)[at - 1, example.ids[at]]
        torch.testing.assert_close(
            policy(collate([example], encoder))[0], theirs, rtol=0, atol=1e-5
        )


def test_the_first_token_of_a_sequence_is_never_a_target(encoder: Encoder) -> None:
    example = dataclasses.replace(
        mixed(encoder)[0], targets=np.ones(len(mixed(encoder)[0]), dtype=bool)
    )
    batch = collate([example, example], encoder)
    assert len(batch.labels) == 2 * (len(example) - 1)
    assert batch.sequence.tolist() == [0] * (len(example) - 1) + [1] * (len(example) - 1)


def test_texts_alone_give_the_vision_tower_gradients_of_zero(
    encoder: Encoder, policy: Policy
) -> None:
    texts = [encoder.chat(*chat(problem)) for problem in some(5) if not problem.has_image]
    _, found = gradients(policy, [texts], encoder)
    vision = {name: value for name, value in found.items() if ".visual." in name}
    assert vision and all(not value.any() for value in vision.values())
    assert any(value.any() for name, value in found.items() if name not in vision)


@torch.no_grad()
def test_generating_leaves_the_forward_as_it_was(encoder: Encoder, policy: Policy) -> None:
    examples = mixed(encoder)
    before = policy(collate(examples, encoder))[0]
    prompts = [
        encoder.prompt(*[part[:1] if part is turns else part for part in (turns, images)])
        for turns, images in map(chat, some(6))
    ]
    torch.manual_seed(3)
    with policy.generating():
        first = policy.generate(encoder, prompts, 2, 24, 1.0, 1.0)
        torch.manual_seed(3)
        assert policy.generate(encoder, prompts, 2, 24, 1.0, 1.0) == first
    assert [len(group) for group in first] == [2] * 6
    assert all(one.ids[-1] == encoder.end_token for group in first for one in group if one.ended)
    assert torch.equal(policy(collate(examples, encoder))[0], before)


# ------------------------------------------------------------------------------------------------ plans


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(50, 120), st.integers(0, 3)
)
def test_every_row_that_fits_is_in_one_pack_and_no_pack_overflows(
    lengths: list[int], capacity: int, seed: int
) -> None:
    sizes = np.array(lengths)
    packs = epoch_packs(sizes, capacity, seed, 0)
    assert (
        sorted(row for pack in packs for row in pack) == np.flatnonzero(sizes <= capacity).tolist()
    )
    assert all(sizes[pack].sum() <= capacity for pack in packs)
    assert packs == epoch_packs(sizes, capacity, seed, 0)


def test_first_fit_fills_what_has_room_before_it_opens_another() -> None:
    assert first_fit(range(5), np.array([6, 5, 4, 5, 1]), 10) == [[0, 2], [1, 3], [4]]


def test_a_plan_goes_on_at_any_step_as_if_it_had_never_stopped() -> None:
    plan = Steps(np.random.default_rng(0).integers(1, 60, 200), 100, 3, seed=5)
    whole = [packs for _, packs in zip(range(40), plan.iterate(0), strict=False)]
    later = [packs for _, packs in zip(range(12), plan.iterate(28), strict=False)]
    assert whole[28:] == later
    assert all(len(packs) == 3 for packs in whole)
    epoch = len(epoch_packs(plan.lengths, 100, 5, 0))
    rows = [row for packs in whole for pack in packs for row in pack][
        : sum(map(len, epoch_packs(plan.lengths, 100, 5, 0)))
    ]
    assert len(set(rows)) == len(rows) == 200 and epoch > 3


@torch.no_grad()
def test_how_the_makers_of_a_model_would_sample_does_not_count(encoder: Encoder) -> None:
    plain, made = load_policy(Model(), ALONE), load_policy(Model(), ALONE).model
    made.generation_config.repetition_penalty = 1.5  # as a checkpoint may have it
    again = Policy(made)
    prompts = [encoder.prompt(turns[:1], images) for turns, images in map(chat, some(8))]
    with plain.generating(), again.generating():
        assert plain.generate(encoder, prompts, 1, 24, 0.0, 1.0) == again.generate(
            encoder, prompts, 1, 24, 0.0, 1.0
        )
    assert again.published.repetition_penalty == 1.5
