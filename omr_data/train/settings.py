"""What a run is asked for, every value visible. A run is begun with one of the presets and what `--set` changes of it.

Fields marked NOT_IDENTITY say how fast or how often, and may differ when a run is resumed; all others may not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

from omr_data.arguments import read_values
from omr_data.errors import TrainError
from omr_data.identity import Spec, runtime_field
from omr_data.teachers import tiny

TINY = "tiny"


@dataclass(frozen=True)
class Model(Spec):
    """The model: a folder that transformers reads, a Hub id, or "tiny" for the embedded one; `start="random"` takes its
    architecture alone. `max_pixels` of an image.

    Raises:
        TrainError: a number that must be at least 1 is not.
    """

    positive: ClassVar[tuple[str, ...]] = ()

    model: str = TINY
    revision_of_model: str | None = None
    start: Literal["weights", "random"] = "weights"
    precision: Literal["float32", "bfloat16"] = "float32"
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.positive:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TrainError(
                    f"{type(self).__name__}: {name} is {value}, and must be at least 1."
                )

    @property
    def folder(self) -> str:
        """Where the model is read from."""
        return str(tiny.FOLDER) if self.model == TINY else self.model


@dataclass(frozen=True)
class Trained(Model):
    """How a model is trained, whatever for: AdamW, with the gradient's norm clipped at `grad_clip`.

    `activation_checkpointing`: activations are computed again in the backward pass, for memory. A checkpoint is written every
    `save_every` steps, and the last `keep` are kept.
    """

    lr: float = 1e-4
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    grad_clip: float = 1.0
    seed: int = 0
    activation_checkpointing: bool = runtime_field(False)
    compile: bool = runtime_field(False)
    save_every: int = runtime_field(100)
    keep: int = runtime_field(2)


@dataclass(frozen=True)
class SFT(Trained):
    """Supervised fine-tuning: linear warm-up over the share `warmup` of all steps, cosine decay to zero.

    `pack_length`: tokens of one pack; longer rows are counted and left out. `packs_per_step`: over all ranks, a multiple of
    their number. `steps`, or as many as `epochs` have. `loaders`: processes that read and encode, for each rank.
    """

    positive: ClassVar[tuple[str, ...]] = (
        "pack_length",
        "packs_per_step",
        "steps",
        "save_every",
        "keep",
    )

    pack_length: int = 4_096
    packs_per_step: int = 1
    steps: int | None = None
    epochs: float = 1.0
    warmup: float = 0.1
    loaders: int = runtime_field(0)


@dataclass(frozen=True)
class GSPO(Trained):
    """Reinforcement learning with verified rewards; see `losses.py` for the losses.

    `prompts_per_step` questions are answered `rollouts` times at `temperature`, and learned from in `minibatches` optimizer
    steps. The published run had one, at which the ratio is always 1 and the clip never acts; the GSPO paper has four.
    `clip_low` and `clip_high`: None for those of the loss. `max_prompt` and `max_tokens` of prompt and answer; `pack_length`: tokens
    of one forward pass. Reward: `format_weight` for the format, the rest for the answer. `overlong`: an answer that was cut off is
    left out ("mask"), wrong ("zero"), or loses up to 1 over the last `overlong_buffer` tokens ("soft", DAPO's equation 13). `kl`:
    weight of the k3 estimate to the model that the run began with. `importance_cap`: most that a sequence or token weighs for the
    difference between sampling and training engine. `lr` is constant after `warmup` steps. `engine`: "transformers" samples with
    the model itself, a URL like http://HOST:8000 with the vLLM server there (see `served.py`). `collapse`: the run stops when
    accuracy over the last `window` steps is under this share of its best.
    """

    positive: ClassVar[tuple[str, ...]] = (
        "steps", "prompts_per_step", "rollouts", "minibatches", "max_tokens", "pack_length", "window", "save_every", "keep",
    )  # fmt: skip

    loss: Literal["gspo", "grpo", "dapo"] = "gspo"
    clip_low: float | None = None
    clip_high: float | None = None
    steps: int = 100
    prompts_per_step: int = 32
    rollouts: int = 8
    minibatches: int = 4
    temperature: float = 1.0
    max_prompt: int = 4_096
    max_tokens: int = 28_696
    format_weight: float = 0.1
    overlong: Literal["mask", "zero", "soft"] = "mask"
    overlong_buffer: int = 4_096
    kl: float = 0.0
    importance_cap: float = 2.0
    lr: float = 1e-6
    warmup: int = 25
    weight_decay: float = 0.1
    pack_length: int = runtime_field(32_768)
    window: int = runtime_field(10)
    collapse: float = runtime_field(0.5)
    engine: str = runtime_field("transformers")

    @property
    def clip(self) -> tuple[float, float]:
        """How far below and above 1 a ratio may count."""
        low, high = CLIPS[self.loss]
        return (
            low if self.clip_low is None else self.clip_low,
            high if self.clip_high is None else self.clip_high,
        )


CLIPS: Mapping[str, tuple[float, float]] = {
    "gspo": (3e-4, 4e-4),
    "grpo": (0.2, 0.2),
    "dapo": (0.2, 0.28),
}
"""Lower and upper clip of each paper; GSPO's are the published run's."""


@dataclass(frozen=True)
class Eval(Model):
    """A measurement: `n` answers to each of the first `questions` questions (all where None); temperature 0 is greedy.

    `pass_at`: the numbers k for which the chance of a right answer among k is estimated; each at most n.
    """

    positive: ClassVar[tuple[str, ...]] = ("n", "max_tokens", "questions")

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 2_048
    pass_at: tuple[int, ...] = ()
    questions: int | None = None
    seed: int = 0


PRESETS: Mapping[str, SFT | GSPO] = {
    # The paper's table. One pack of 61,440 tokens for each of 32 GPUs; a clipped norm is not published for SFT.
    "omr-7b-sft": SFT(
        model="Qwen/Qwen2.5-VL-7B-Instruct", precision="bfloat16", activation_checkpointing=True, max_pixels=4_194_304, pack_length=61_440,
        packs_per_step=32, steps=4_300, lr=5e-5, loaders=4, save_every=500,
    ),
    # The model is the SFT checkpoint: --set model=DIR; the engine a vLLM server, as answers are long: --set engine=http://HOST:8000.
    # The published run had minibatches=1.
    "omr-7b-gspo": GSPO(
        model="Qwen/Qwen2.5-VL-7B-Instruct", precision="bfloat16", activation_checkpointing=True, max_pixels=4_194_304, steps=1_232,
        prompts_per_step=128, rollouts=16,
    ),
    "tiny-sft": SFT(start="random", pack_length=4_096, steps=2_500, lr=2e-3, weight_decay=0.01, betas=(0.9, 0.99), save_every=500),
    "tiny-gspo": GSPO(
        steps=400, max_prompt=448, max_tokens=64, pack_length=16_384, minibatches=2, lr=1e-4, warmup=5, weight_decay=0.0,
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
    """The settings as plain values, those that are left to others filled in."""
    values = {name: getattr(settings, name) for name in type(settings).__dataclass_fields__}
    return (
        values | dict(zip(("clip_low", "clip_high"), settings.clip, strict=True))
        if isinstance(settings, GSPO)
        else values
    )
