"""Checkpoints of a run, written by all ranks together (torch.distributed.checkpoint), and whole models for others to load.

`checkpoints/step-00000100/` holds the shards of parameters and optimizer, on however many ranks it was made, and can be read on
any number. It is written under another name and renamed, so it is there whole or not at all; the last `keep` are kept.
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from omr_data.errors import TrainError
from omr_data.train.chat import Encoder
from omr_data.train.model import Policy
from omr_data.train.ranks import Ranks

FOLDER = "checkpoints"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of the run in a folder."""

    out: Path
    ranks: Ranks
    keep: int

    def steps(self) -> list[int]:
        """The steps that have one, in order."""
        return sorted(
            int(path.name.partition("-")[2]) for path in (self.out / FOLDER).glob("step-????????")
        )

    def save(self, step: int, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
        """Writes one after `step` steps. Does nothing where it is there."""
        final = self.out / FOLDER / f"step-{step:08}"
        temporary = final.with_name(f".{final.name}.tmp")
        if final.exists():
            return
        if self.ranks.first:
            for stale in final.parent.glob(".step-*"):
                shutil.rmtree(stale)
            temporary.mkdir(parents=True)
        self.ranks.barrier()
        model, optim = get_state_dict(policy, optimizer)
        with _quiet():
            save(
                {"model": model, "optimizer": optim},
                checkpoint_id=temporary,
                no_dist=self.ranks.world == 1,
            )
        self.ranks.barrier()
        if self.ranks.first:
            os.sync()
            temporary.rename(final)
            for old in self.steps()[: -self.keep]:
                _remove(self.out / FOLDER / f"step-{old:08}")
        self.ranks.barrier()

    def last(self) -> int:
        """The step to go on from, 0 where there is none."""
        return max(self.steps(), default=0)

    def load(self, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
        """Puts the last one into the policy and the optimizer; does nothing where there is none.

        Raises:
            TrainError: it cannot be read.
        """
        if not self.steps():
            return
        folder = self.out / FOLDER / f"step-{self.last():08}"
        model, optim = get_state_dict(policy, optimizer)
        state: dict[str, Any] = {"model": model, "optimizer": optim}
        try:
            with _quiet():
                load(state, checkpoint_id=folder, no_dist=self.ranks.world == 1)
        except (CheckpointException, OSError, ValueError, RuntimeError) as error:
            raise TrainError(
                f"{folder} cannot be read: {str(error)[:300]}. Delete it to go on from the one before."
            ) from error
        set_state_dict(
            policy, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )


def _remove(folder: Path) -> None:
    """Deletes a folder that is never seen in pieces."""
    aside = folder.with_name(f".{folder.name}.old")
    folder.rename(aside)
    shutil.rmtree(aside)


@contextmanager
def _quiet() -> Iterator[None]:
    """One process alone is no group, and is warned of it each time."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


def export(
    policy: Policy, encoder: Encoder, folder: Path, ranks: Ranks, dtype: torch.dtype | None = None
) -> None:
    """Writes a folder of safetensors, config, tokenizer and image processor that transformers and vLLM load; replaces what is there.

    Gathers the model in the first rank's host memory. `dtype` None keeps float32.
    """
    state: dict[str, Any] = get_model_state_dict(
        policy, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if ranks.first:
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(folder.with_name(f".{folder.name}.old"), ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
        own = {name for name, _ in policy.named_parameters()}
        tied = {
            name for name, _ in policy.named_parameters(remove_duplicate=False)
        } - own  # written once, under its first name
        named = {
            name.removeprefix("model."): value.to(dtype or value.dtype)
            for name, value in state.items()
            if name not in tied
        }
        policy.model.save_pretrained(temporary, state_dict=named)
        policy.published.save_pretrained(temporary)
        encoder.tokenizer.save_pretrained(temporary)
        encoder.image_processor.save_pretrained(temporary)
        _declare(temporary / "config.json", str(dtype or torch.float32).removeprefix("torch."))
        os.sync()
        if folder.exists():
            _remove(folder)
        temporary.rename(folder)
    ranks.barrier()


def _declare(config: Path, dtype: str) -> None:
    """The dtype that the weights have, which is the one that a server loads them in."""
    held = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(held | {"dtype": dtype}, indent=2) + "\n", encoding="utf-8")
