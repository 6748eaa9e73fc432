"""What a run is asked for, every value visible. A run is begun with one of the presets and what `--set` changes of it.

Fields marked PLACE say how fast or how often, and may differ when a run is resumed; all others may not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_type_hints

from omr_data.arguments import read_values
from omr_data.errors import TrainError
from omr_data.identity import PLACE, Spec
from omr_data.teachers import tiny

TINY = "tiny"


@dataclass(frozen=True)
class Model(Spec):
    """The model, and how it is held.

    `model`: a folder that transformers reads, a Hub id, or "tiny" for the embedded model. `start`: "random" takes the
    architecture alone. `recompute`: activations are computed again in the backward pass, for memory. `max_pixels` of an image.
    """

    model: str = TINY
    revision_of_model: str | None = None
    start: Literal["weights", "random"] = "weights"
    precision: Literal["float32", "bfloat16"] = "float32"
    recompute: bool = False
    compile: bool = False
    max_pixels: int | None = None

    @property
    def folder(self) -> str:
        """Where the model is read from."""
        return str(tiny.FOLDER) if self.model == TINY else self.model


@dataclass(frozen=True)
class SFT(Model):
    """Supervised fine-tuning: AdamW, linear warm-up over the share `warm_up` of all steps, cosine decay to zero.

    `capacity`: tokens of one pack; longer rows are counted and left out. `packs_per_step`: over all ranks, a multiple of
    their number. `steps`, or as many as `epochs` have. `loaders`: processes that read and encode, for each rank.
    """

    capacity: int = 4_096
    packs_per_step: int = 1
    steps: int | None = None
    epochs: float = 1.0
    rate: float = 1e-4
    warm_up: float = 0.1
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.95)
    clip_norm: float = 1.0
    seed: int = 0
    loaders: int = field(default=0, metadata=PLACE)
    save_every: int = field(default=500, metadata=PLACE)
    keep: int = field(default=2, metadata=PLACE)


@dataclass(frozen=True)
class GSPO(Model):
    """Reinforcement learning with verified rewards; see `gspo.py` for the losses.

    `prompts_per_step` questions are answered `rollouts` times at `temperature`, and learned from in `minibatches` optimiser
    steps. The published run had one, at which the ratio is always 1 and the clip never acts; the GSPO paper has four.
    `max_prompt` and `max_tokens` of prompt and answer; `pack_tokens`: tokens of one forward pass. Reward: `format_weight` for
    the format, the rest for the answer. `overlong`: an answer that was cut off is left out ("mask"), wrong ("zero"), or loses up
    to 1 over the last `overlong_buffer` tokens ("soft", DAPO's equation 13). `kl`: weight of the k3 estimate to the model that
    the run began with. `correction`: most that a sequence or token weighs for the difference between sampling and training
    engine. `rate` is constant after `warm_up` steps. `engine`: "transformers" samples with the model itself, a URL like
    http://HOST:8000 with the vLLM server there (see `served.py`). `collapse`: the run stops when accuracy over the last `window`
    steps is under this share of its best.
    """

    loss: Literal["gspo", "grpo", "dapo"] = "gspo"
    clip_low: float = 3e-4
    clip_high: float = 4e-4
    steps: int = 100
    prompts_per_step: int = 32
    rollouts: int = 8
    minibatches: int = 4
    temperature: float = 1.0
    top_p: float = 1.0
    max_prompt: int = 4_096
    max_tokens: int = 28_696
    pack_tokens: int = 32_768
    format_weight: float = 0.1
    overlong: Literal["mask", "zero", "soft"] = "mask"
    overlong_buffer: int = 4_096
    kl: float = 0.0
    correction: float = 2.0
    rate: float = 1e-6
    warm_up: int = 25
    weight_decay: float = 0.1
    betas: tuple[float, ...] = (0.9, 0.999)
    clip_norm: float = 1.0
    seed: int = 0
    window: int = field(default=10, metadata=PLACE)
    collapse: float = field(default=0.5, metadata=PLACE)
    engine: str = field(default="transformers", metadata=PLACE)
    save_every: int = field(default=50, metadata=PLACE)
    keep: int = field(default=2, metadata=PLACE)


@dataclass(frozen=True)
class Eval(Model):
    """A measurement: `n` answers to each of the first `questions` questions (all where None); temperature 0 is greedy.

    `pass_at`: the numbers k for which the chance of a right answer among k is estimated; each at most n.
    """

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 2_048
    pass_at: tuple[int, ...] = ()
    questions: int | None = None
    seed: int = 0


PRESETS: Mapping[str, SFT | GSPO] = {
    # Paper, tables of the appendix. One pack of 61,440 tokens for each of 32 GPUs; clipping of the norm is not published.
    "omr-7b-sft": SFT(
        model="Qwen/Qwen2.5-VL-7B-Instruct", precision="bfloat16", recompute=True, max_pixels=4_194_304, capacity=61_440,
        packs_per_step=32, steps=4_300, rate=5e-5, betas=(0.9, 0.999), loaders=4,
    ),
    # The model is the SFT checkpoint: --set model=DIR. The published run had minibatches=1.
    "omr-7b-gspo": GSPO(
        model="Qwen/Qwen2.5-VL-7B-Instruct", precision="bfloat16", recompute=True, max_pixels=4_194_304, steps=1_232,
        prompts_per_step=128, rollouts=16,
    ),
    "tiny-sft": SFT(start="random", capacity=4_096, steps=2_500, rate=2e-3, weight_decay=0.01, betas=(0.9, 0.99), save_every=500),
    "tiny-gspo": GSPO(
        steps=400, max_prompt=448, max_tokens=64, pack_tokens=16_384, minibatches=2, rate=1e-4, warm_up=5, weight_decay=0.0, save_every=100,
    ),
}  # fmt: skip

S = TypeVar("S", SFT, GSPO, Eval)


def preset(kind: type[S], name: str) -> S:
    """A preset. Raises TrainError where this kind of run has none of that name."""
    base = PRESETS.get(name)
    if not isinstance(base, kind):
        known = ", ".join(name for name, one in PRESETS.items() if isinstance(one, kind))
        raise TrainError(f"there is no preset {name!r} for {kind.__name__}. There are: {known}.")
    return base


def changed(settings: S, given: Mapping[str, str]) -> S:
    """The settings with some values changed, given as text. Raises TrainError for a name or a value that does not fit."""
    hints = get_type_hints(type(settings))
    declared = {name: hints[name] for name in type(settings).__dataclass_fields__}
    return replace(settings, **read_values(type(settings).__name__, declared, given, TrainError))


def as_json(settings: Model) -> dict[str, Any]:
    """The settings as plain values."""
    return {name: getattr(settings, name) for name in type(settings).__dataclass_fields__}
