"""The embedded model in a folder: other programs load it, and compute what we compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from omr_data.operators.rollout import Sample
from omr_data.records import IMAGE_MARK, Message, Record
from omr_data.source import Files
from omr_data.sources.synthetic import Source
from omr_data.store.images import ImageStore, RowImages
from omr_data.teachers import tiny
from omr_data.teachers.openai_api.wire import messages
from omr_data.teachers.tiny.export import export, export_processor
from omr_data.teachers.tiny.model import embed, hidden_states, load
from omr_data.teachers.tiny.prompts import IMAGE_PAD, MERGE, encode_prompt
from omr_data.teachers.tiny.train import save


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "omr-tiny"
    export(folder)
    return folder


@pytest.fixture(scope="module")
def synthetic_records(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], ImageStore]:
    store = ImageStore(tmp_path_factory.mktemp("images"))
    source = Source(count=5)
    (part,) = source.parts(Files())
    return [
        source.convert(row, RowImages(Path(), store)) for row in source.rows(Files(), part)
    ], store


def ours(folder: Path, record: Record, store: ImageStore) -> tuple[list[int], torch.Tensor]:
    """The prompt's ids and the logits at each of them, by our own code."""
    model, tokenizer = load(folder)
    (request,) = Sample(tiny.Teacher()).requests(record)
    prompt = encode_prompt(
        tokenizer, request.messages, store(record.images[0]) if record.images else None
    )
    ids = torch.from_numpy(prompt.ids)[None]
    patches = (
        torch.zeros(0, 64, 384)
        if prompt.patches is None
        else torch.from_numpy(prompt.patches)[None]
    )
    embeddings = embed(model, ids, patches, torch.arange(len(patches)))
    states = hidden_states(
        model, embeddings, torch.from_numpy(prompt.positions)[:, None], torch.ones_like(ids)
    )
    return prompt.ids.tolist(), model.lm_head(states)


def theirs(folder: Path, record: Record, store: ImageStore) -> tuple[list[int], torch.Tensor]:
    """The same by what transformers loads from the folder, from the chat as it goes to a server."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    (request,) = Sample(tiny.Teacher()).requests(record)
    chat = messages(request, lambda image: f"data:image/png;base64,{image.sha256}")
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    seen = {}
    if record.images:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        with Image.open(store.path(record.images[0])) as image:
            seen = dict(processor(images=image, return_tensors="pt"))
        text = text.replace(IMAGE_PAD, IMAGE_PAD * int(seen["image_grid_thw"].prod() // MERGE**2))
    ids = tokenizer(text, return_tensors="pt").input_ids
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    if record.images:
        seen["mm_token_type_ids"] = (ids == model.config.image_token_id).long()
    return ids[0].tolist(), model(input_ids=ids, attention_mask=torch.ones_like(ids), **seen).logits


@pytest.mark.slow
@pytest.mark.parametrize("family", ["text", "sum", "choice"])
def test_transformers_loads_the_folder_and_gives_our_logits(
    synthetic_records: tuple[list[Record], ImageStore], folder: Path, family: str
) -> None:
    records, store = synthetic_records
    record = next(record for record in records if record.meta["family"] == family)
    assert bool(record.images) == (family != "text")
    with torch.inference_mode():
        (our_ids, our_logits), (their_ids, their_logits) = (
            ours(folder, record, store),
            theirs(folder, record, store),
        )
    assert our_ids == their_ids
    torch.testing.assert_close(our_logits, their_logits)


def test_the_template_writes_every_role_as_we_do_and_marks_what_the_assistant_said(
    folder: Path,
) -> None:
    chat = (
        Message("system", "Be brief."),
        Message("user", "What is 3 + 4?"),
        Message("assistant", "7"),
        Message("user", "Sure?"),
    )
    said = [{"role": message.role, "content": message.text} for message in chat]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert (
        tokenizer.apply_chat_template(said, add_generation_prompt=True).input_ids
        == encode_prompt(load(folder)[1], chat, None).ids.tolist()
    )
    marked = tokenizer.apply_chat_template(
        said, return_dict=True, return_assistant_tokens_mask=True
    )
    spoken = np.array(marked["input_ids"])[np.array(marked["assistant_masks"]) == 1]
    assert tokenizer.decode(spoken) == "7<|im_end|>"


def test_an_image_stands_where_the_chat_has_it(folder: Path) -> None:
    parts = [
        {"type": "text", "text": "Before "},
        {"type": "image"},
        {"type": "text", "text": " after"},
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    text = tokenizer.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    assert (
        text
        == "<|im_start|>user\nBefore <|vision_start|><|image_pad|><|vision_end|> after<|im_end|>\n"
    )
    assert IMAGE_MARK not in text


@pytest.mark.parametrize(
    ("size", "grid"), [((64, 64), [1, 8, 8]), ((640, 640), [1, 8, 8]), ((500, 300), [1, 6, 10])]
)
def test_an_image_keeps_its_proportions_there_and_a_square_has_16_tokens(
    folder: Path, size: tuple[int, int], grid: list[int]
) -> None:
    processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    assert processor(images=Image.new("RGB", size))["image_grid_thw"].tolist() == [grid]


@pytest.mark.slow
def test_processor_files_go_beside_weights_of_ones_own(
    tmp_path: Path, synthetic_records: tuple[list[Record], ImageStore], folder: Path
) -> None:
    records, store = synthetic_records
    model, tokenizer = load(tiny.FOLDER)
    with torch.no_grad():
        model.model.language_model.norm.weight.mul_(1.5)
    save(model, tokenizer, tmp_path)
    with torch.inference_mode():
        (_, ours_now), (_, theirs_now) = (
            ours(tmp_path, records[1], store),
            theirs(tmp_path, records[1], store),
        )
        _, before = ours(folder, records[1], store)
    torch.testing.assert_close(ours_now, theirs_now)
    assert not torch.allclose(ours_now, before)


def test_the_packaged_processor_files_are_those_that_are_written_beside_other_weights(
    tmp_path: Path,
) -> None:
    export_processor(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert (
        written == {name: (tiny.FOLDER / name).read_text() for name in written}
        and len(written) == 3
    )
