"""Packed sequences never see each other, and logits need not all be held."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from omr_data.teachers import tiny
from omr_data.train.batches import collate
from omr_data.train.chat import Encoder, Example
from omr_data.train.model import Policy, load_policy, token_scores
from omr_data.train.samplers.base import SamplingParams
from omr_data.train.settings import ModelSettings, TrainSettings
from tests.train.helpers import ALONE, chat, mixed_examples, some_problems
from tests.train.models import random_policy


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
    held = policy if name == "embedded" else random_policy(name)
    examples = mixed_examples(encoder)
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
    examples = mixed_examples(encoder)
    plain, theirs = gradients(policy, [examples], encoder)
    again, ours = gradients(
        load_policy(TrainSettings(activation_checkpointing=True), ALONE), [examples], encoder
    )
    assert again == plain
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@torch.no_grad()
def test_what_one_sequence_says_changes_nothing_in_the_others(
    encoder: Encoder, policy: Policy
) -> None:
    examples = mixed_examples(encoder)
    before = policy(collate(examples, encoder))[0]
    changed = dataclasses.replace(examples[0], ids=np.roll(examples[0].ids, 1))
    after = policy(collate([changed, *examples[1:]], encoder))[0]
    own = int(examples[0].loss_mask.sum())
    assert not torch.equal(before[:own], after[:own])
    torch.testing.assert_close(before[own:], after[own:], rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_packed_forward_gives_what_transformers_gives_for_one_chat(
    encoder: Encoder, policy: Policy
) -> None:
    plain = AutoModelForImageTextToText.from_pretrained(tiny.FOLDER, dtype=torch.float32)
    for example in mixed_examples(encoder)[1:]:
        if not len(example.grids):
            continue
        ids = torch.from_numpy(example.ids)[None]
        logits = plain(
            input_ids=ids,
            pixel_values=torch.from_numpy(example.patches),
            image_grid_thw=torch.from_numpy(example.grids),
            mm_token_type_ids=(ids == encoder.image_token).int(),
        ).logits
        at = np.flatnonzero(example.loss_mask)
        theirs = logits[0].log_softmax(-1)[at - 1, example.ids[at]]
        torch.testing.assert_close(
            policy(collate([example], encoder))[0], theirs, rtol=0, atol=1e-5
        )


def test_the_first_token_of_a_sequence_is_never_a_target(encoder: Encoder) -> None:
    example = dataclasses.replace(
        mixed_examples(encoder)[0], loss_mask=np.ones(len(mixed_examples(encoder)[0]), dtype=bool)
    )
    batch = collate([example, example], encoder)
    assert len(batch.labels) == 2 * (len(example) - 1)
    assert batch.sequence.tolist() == [0] * (len(example) - 1) + [1] * (len(example) - 1)


def test_texts_alone_give_the_vision_tower_gradients_of_zero(
    encoder: Encoder, policy: Policy
) -> None:
    texts = [encoder.chat(*chat(problem)) for problem in some_problems(5) if not problem.has_image]
    _, found = gradients(policy, [texts], encoder)
    vision = {name: value for name, value in found.items() if ".visual." in name}
    assert vision and all(not value.any() for value in vision.values())
    assert any(value.any() for name, value in found.items() if name not in vision)


@torch.no_grad()
def test_generating_leaves_the_forward_as_it_was(encoder: Encoder, policy: Policy) -> None:
    examples = mixed_examples(encoder)
    before = policy(collate(examples, encoder))[0]
    chats = [chat(problem) for problem in some_problems(6)]
    prompts = [encoder.prompt(turns[:1], images) for turns, images in chats]
    params = SamplingParams(n=2, max_tokens=24, temperature=1.0)
    with policy.generating():
        torch.manual_seed(3)
        first = policy.generate(encoder, prompts, params)
        torch.manual_seed(3)
        assert policy.generate(encoder, prompts, params) == first
    assert [len(group) for group in first] == [2] * 6
    ended = [one for group in first for one in group if one.ended]
    assert ended
    assert all(one.ids.index(encoder.end_token) == len(one.ids) - 1 for one in ended)
    assert torch.equal(policy(collate(examples, encoder))[0], before)


@torch.no_grad()
def test_how_the_makers_of_a_model_would_sample_does_not_count(encoder: Encoder) -> None:
    plain, made = load_policy(ModelSettings(), ALONE), load_policy(ModelSettings(), ALONE).model
    made.generation_config.repetition_penalty = 1.5  # as a checkpoint may have it
    again = Policy(made)
    chats = [chat(problem) for problem in some_problems(4)]
    prompts = [encoder.prompt(turns[:1], images) for turns, images in chats]
    greedy = SamplingParams(n=1, max_tokens=24, temperature=0.0)
    with plain.generating(), again.generating():
        expected = plain.generate(encoder, prompts, greedy)
        assert again.generate(encoder, prompts, greedy) == expected
    assert again.published.repetition_penalty == 1.5


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 12), st.floats(0.3, 2.0))
def test_scores_in_chunks_are_those_of_the_whole_with_their_gradients(
    tokens: int, chunk: int, temperature: float
) -> None:
    draw = torch.Generator().manual_seed(tokens)
    states = torch.randn(tokens, 16, generator=draw, requires_grad=True)
    weight = torch.randn(50, 16, generator=draw, requires_grad=True)
    labels = torch.randint(50, (tokens,), generator=draw)
    found = {}
    for size in (chunk, tokens):
        logps, entropies = token_scores(states, weight, labels, temperature, size)
        found[size] = (logps, entropies, *torch.autograd.grad(-logps.sum(), (states, weight)))
    logits = (states @ weight.T) / temperature
    plain = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    expected = (
        -plain,
        torch.distributions.Categorical(logits=logits).entropy(),
        *torch.autograd.grad(plain.sum(), (states, weight)),
    )
    for size in (chunk, tokens):
        for ours_, theirs in zip(found[size], expected, strict=True):
            torch.testing.assert_close(ours_, theirs, rtol=1e-5, atol=1e-5)
