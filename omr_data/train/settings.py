"""Settings of a run, every value visible. A run starts from a preset, and `--set` changes values.

Runtime fields say how fast or how often, and may differ when a run is resumed; the others may not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

from omr_data.arguments import read_values
from omr_data.errors import TrainError
from omr_data.identity import Spec, runtime_field
from omr_data.teachers import tiny

TINY = "tiny"
"""The name of the embedded model."""
MIN_PIXELS = 1_024
"""The smallest limit of an image's area: 32 x 32, one image token of Qwen3-VL."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The values that a number may have."""

    low: float
    """The least value."""
    high: float = float("inf")
    """The largest value."""
    above: bool = False
    """Whether `low` itself is excluded."""
    below: bool = False
    """Whether `high` itself is excluded."""
    hint: str = ""
    """What the number is, where its name does not tell, or what to give instead."""

    # Written so that NaN, which is in no order with any number, never holds.
    def holds(self, value: float) -> bool:
        """Returns whether a value is allowed."""
        above = value > self.low or (value == self.low and not self.above)
        under = value < self.high or (value == self.high and not self.below)
        return above and under

    def __str__(self) -> str:
        """The rule in words, as "at least 1" or "above 0 and at most 1"."""
        rule = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        if self.high == float("inf"):
            return rule
        return f"{rule} and {'below' if self.below else 'at most'} {self.high:g}"


AT_LEAST_1 = Bound(1)
POSITIVE = Bound(0, above=True)
NOT_NEGATIVE = Bound(0)
SHARE = Bound(0, 1)


@dataclass(frozen=True)
class ModelSettings(Spec):
    """The model of a run. Raises TrainError for a number that is out of bounds."""

    bounds: ClassVar[Mapping[str, Bound]] = MappingProxyType(
        {"max_pixels": Bound(MIN_PIXELS, hint="It is an area, such as 4194304 for 2048 x 2048.")}
    )
    """The bounds of each number, by name. A class adds its own to those of its base."""

    model: str = TINY
    """A folder that transformers reads, a Hub id, or "tiny" for the embedded model."""
    revision_of_model: str | None = None
    """The model's commit or tag on the Hub."""
    start: Literal["weights", "random"] = "weights"
    """Whether to start from the model's weights, or from random ones in its architecture."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The precision of computations. Master weights are always float32."""
    max_pixels: int | None = None
    """Limit of an image's area after resizing, in pixels; None for the model's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds: dict[str, Bound] = {}
        # From the base up, so that a class may tighten what its base allows.
        for kind in reversed(type(self).__mro__):
            bounds |= kind.__dict__.get("bounds", {})
        for name, bound in bounds.items():
            value = getattr(self, name)
            # A tuple's bound is that of each of its numbers.
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and not bound.holds(number):
                    hint = f" {bound.hint}" if bound.hint else ""
                    raise TrainError(
                        f"{type(self).__name__}: {name} is {number}, and must be {bound}.{hint}"
                    )

    @property
    def folder(self) -> str:
        """Where the model is read from."""
        return str(tiny.FOLDER) if self.model == TINY else self.model


@dataclass(frozen=True)
class TrainSettings(ModelSettings):
    """How a model is trained, for SFT and RL alike: AdamW with clipped gradients."""

    bounds: ClassVar[Mapping[str, Bound]] = MappingProxyType(
        {
            "lr": POSITIVE,
            "weight_decay": NOT_NEGATIVE,
            "betas": Bound(0, 1, below=True),
            "grad_clip": Bound(
                0,
                above=True,
                hint="A norm of 0 would turn every gradient into 0; 1e9 never clips.",
            ),
            "save_every": AT_LEAST_1,
            "keep": AT_LEAST_1,
        }
    )
    """The bounds of these numbers."""

    lr: float = 1e-4
    """The highest learning rate."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """AdamW's two decay rates of its averages."""
    grad_clip: float = 1.0
    """The gradient is scaled down to this norm where it is larger."""
    seed: int = 0
    """The seed of orders, of sampling and of random weights."""
    activation_checkpointing: bool = runtime_field(False)
    """Computes activations again in the backward pass: less memory for a third more arithmetic."""
    compile: bool = runtime_field(False)
    """Compiles the blocks of the model."""
    save_every: int = runtime_field(100)
    """Steps between two checkpoints."""
    keep: int = runtime_field(2)
    """How many of the last checkpoints are kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.betas) != 2:
            raise TrainError(
                f"{type(self).__name__}: betas has {len(self.betas)} numbers, and AdamW takes two. "
                "Write for example betas=0.9,0.999."
            )


@dataclass(frozen=True)
class SFT(TrainSettings):
    """Supervised fine-tuning: linear warm-up, then cosine decay to zero."""

    bounds: ClassVar[Mapping[str, Bound]] = MappingProxyType(
        {
            "pack_length": AT_LEAST_1,
            "packs_per_step": AT_LEAST_1,
            "steps": AT_LEAST_1,
            "epochs": POSITIVE,
            "warmup": Bound(0, 1, hint="It is a share of all steps, such as 0.1."),
            "loaders": NOT_NEGATIVE,
        }
    )
    """The bounds of these numbers."""

    pack_length: int = 4_096
    """Tokens of one pack. Longer rows are counted and left out."""
    packs_per_step: int = 1
    """Packs of one step over all ranks: a multiple of their number."""
    steps: int | None = None
    """Steps of the run; None for as many as `epochs` has."""
    epochs: float = 1.0
    """How often each row is used, where `steps` is None."""
    warmup: float = 0.1
    """The share of all steps over which the learning rate rises."""
    loaders: int = runtime_field(0)
    """Processes of each rank that read and encode rows; 0 for the rank's own."""


CLIPS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"gspo": (3e-4, 4e-4), "grpo": (0.2, 0.2), "dapo": (0.2, 0.28)}
)
"""Lower and upper clip of each loss, from its paper; GSPO's are the published run's."""


@dataclass(frozen=True)
class GSPO(TrainSettings):
    """Reinforcement learning with verified rewards; `losses.py` has the losses."""

    bounds: ClassVar[Mapping[str, Bound]] = MappingProxyType(
        {
            "clip_low": Bound(0, 1, above=True),
            "clip_high": POSITIVE,
            "steps": AT_LEAST_1,
            "prompts_per_step": AT_LEAST_1,
            "rollouts": Bound(2, hint="A completion is compared with the others of its group."),
            "minibatches": AT_LEAST_1,
            "temperature": Bound(
                0, above=True, hint="At 0 all completions of a group would be the same."
            ),
            "max_prompt": AT_LEAST_1,
            "max_tokens": AT_LEAST_1,
            "format_weight": SHARE,
            "overlong_buffer": AT_LEAST_1,
            "kl": NOT_NEGATIVE,
            "importance_cap": POSITIVE,
            "warmup": NOT_NEGATIVE,
            "pack_length": AT_LEAST_1,
            "window": AT_LEAST_1,
            "collapse": SHARE,
        }
    )
    """The bounds of these numbers."""

    loss: Literal["gspo", "grpo", "dapo"] = "gspo"
    """The policy loss."""
    clip_low: float | None = None
    """How far below 1 a ratio may count; None for the loss's own."""
    clip_high: float | None = None
    """How far above 1 a ratio may count; None for the loss's own."""
    steps: int = 100
    """Steps of the run. Each samples anew."""
    prompts_per_step: int = 32
    """Prompts of one step over all ranks: a multiple of `minibatches` times the ranks."""
    rollouts: int = 8
    """Completions of each prompt: the size of a group."""
    minibatches: int = 4
    """Optimizer steps on the completions of one step. The published run had one, at which the ratio
    is always 1 and the clip never acts; the GSPO paper has four."""
    temperature: float = 1.0
    """The temperature of sampling, and of the log-probabilities that are trained on."""
    max_prompt: int = 4_096
    """Tokens of a prompt, at most. Longer ones are counted and left out."""
    max_tokens: int = 28_696
    """Tokens of a completion, at most."""
    format_weight: float = 0.1
    """The share of the reward that is for the format; the rest is for the answer."""
    overlong: Literal["mask", "zero", "soft"] = "mask"
    """A completion that was cut off is left out ("mask"), gets no reward for anything ("zero"), or
    loses up to 1 over the last `overlong_buffer` tokens ("soft", DAPO's equation 13)."""
    overlong_buffer: int = 4_096
    """Tokens before `max_tokens` over which the penalty of "soft" rises."""
    kl: float = 0.0
    """Weight of the estimated divergence from the model that the run began with. Above 0, that
    model is held in memory as well."""
    importance_cap: float = 2.0
    """The largest weight of the correction for the sampling engine."""
    lr: float = 1e-6
    """The learning rate after the warm-up."""
    warmup: int = 25
    """Steps over which the learning rate rises."""
    weight_decay: float = 0.1
    """AdamW's weight decay."""
    pack_length: int = runtime_field(32_768)
    """Tokens of one forward pass."""
    window: int = runtime_field(10)
    """Steps over which accuracy is averaged before it is compared with `collapse`."""
    collapse: float = runtime_field(0.5)
    """The run stops when accuracy over a window is under this share of its best."""
    engine: str = runtime_field("transformers")
    """The program that samples: "transformers" for the policy itself, or the URL of a vLLM server
    such as http://HOST:8000 (see `samplers/vllm.py`)."""

    @property
    def clip(self) -> tuple[float, float]:
        """How far below and above 1 a ratio may count."""
        low, high = CLIPS[self.loss]
        if self.clip_low is not None:
            low = self.clip_low
        if self.clip_high is not None:
            high = self.clip_high
        return low, high


@dataclass(frozen=True)
class Eval(ModelSettings):
    """An evaluation: accuracy, and pass@k where several answers are sampled."""

    bounds: ClassVar[Mapping[str, Bound]] = MappingProxyType(
        {
            "n": AT_LEAST_1,
            "temperature": NOT_NEGATIVE,
            "top_p": Bound(0, 1, above=True),
            "max_tokens": AT_LEAST_1,
            "questions": AT_LEAST_1,
        }
    )
    """The bounds of these numbers."""

    n: int = 1
    """Answers to each question."""
    temperature: float = 0.0
    """The temperature of sampling; 0 is greedy."""
    top_p: float = 1.0
    """Only the likeliest tokens whose probabilities add up to this are sampled."""
    max_tokens: int = 2_048
    """Tokens of an answer, at most."""
    pass_at: tuple[int, ...] = ()
    """The numbers k for which pass@k is estimated; each at most `n`."""
    questions: int | None = None
    """How many questions are asked, from the first; None for all."""
    seed: int = 0
    """The seed of sampling."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n > 1 and self.temperature == 0:
            raise TrainError(
                f"n is {self.n} at temperature {self.temperature}: greedy answers are all the "
                "same. Give a temperature above 0, or n=1."
            )
        if wrong := [k for k in self.pass_at if not 1 <= k <= self.n]:
            raise TrainError(
                f"pass_at has {wrong[0]}, and n is {self.n}: pass@k takes at least k answers. "
                "Raise n."
            )


PRESETS: Mapping[str, SFT | GSPO] = MappingProxyType(
    {
        # The paper's table. One pack of 61,440 tokens for each of 32 GPUs. The paper gives no norm
        # to clip gradients at for SFT.
        "omr-7b-sft": SFT(
            model="Qwen/Qwen2.5-VL-7B-Instruct",
            precision="bfloat16",
            activation_checkpointing=True,
            max_pixels=4_194_304,
            pack_length=61_440,
            packs_per_step=32,
            steps=4_300,
            lr=5e-5,
            loaders=4,
            save_every=500,
        ),
        # The model is meant to be the SFT checkpoint: --set model=DIR. Completions are long, so the
        # engine is meant to be a vLLM server: --set engine=http://HOST:8000. The published run had
        # minibatches=1.
        "omr-7b-gspo": GSPO(
            model="Qwen/Qwen2.5-VL-7B-Instruct",
            precision="bfloat16",
            activation_checkpointing=True,
            max_pixels=4_194_304,
            steps=1_232,
            prompts_per_step=128,
            rollouts=16,
        ),
        "tiny-sft": SFT(
            start="random",
            pack_length=4_096,
            steps=2_500,
            lr=2e-3,
            weight_decay=0.01,
            betas=(0.9, 0.99),
            save_every=500,
        ),
        "tiny-gspo": GSPO(
            steps=400,
            max_prompt=448,
            max_tokens=64,
            pack_length=16_384,
            minibatches=2,
            lr=1e-4,
            warmup=5,
            weight_decay=0.0,
        ),
    }
)
"""Settings to start from, by name."""

S = TypeVar("S", SFT, GSPO, Eval)


def preset(kind: type[S], name: str) -> S:
    """Returns a preset. Raises TrainError where this kind of run has none of that name."""
    base = PRESETS.get(name)
    if not isinstance(base, kind):
        known = ", ".join(name for name, one in PRESETS.items() if isinstance(one, kind))
        raise TrainError(f"{kind.__name__} has no preset {name!r}. There are: {known}.")
    return base


def changed(settings: S, given: Mapping[str, str]) -> S:
    """Returns settings with some values changed, which are given as text.

    Raises:
        TrainError: A name is unknown, or a value does not fit its type or its bounds.
    """
    hints = get_type_hints(type(settings))
    declared = {one.name: hints[one.name] for one in fields(settings)}
    # `replace` makes the settings anew, and so checks them again.
    values = read_values(type(settings).__name__, declared, given, TrainError)
    return replace(settings, **values)


def as_json(settings: ModelSettings) -> dict[str, Any]:
    """Returns settings as plain values, with those filled in that a loss gives."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    if isinstance(settings, GSPO):
        values["clip_low"], values["clip_high"] = settings.clip
    return values
