"""Checkpoints of a run, and whole models for other programs.

`checkpoints/step-00000100/` holds the shards of parameters and optimizer states, written by all
ranks together (torch.distributed.checkpoint). Any number of ranks can read it. It is written under
another name and renamed, so a checkpoint is there as a whole or not at all; the last `keep` are
kept.
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
    """The run's folder."""
    ranks: Ranks
    """The processes that write and read together."""
    keep: int
    """How many checkpoints are kept."""

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, in order."""
        # Names of unfinished checkpoints start with a dot, so the pattern passes over them.
        found = (self.out / FOLDER).glob("step-????????")
        return sorted(int(path.name.removeprefix("step-")) for path in found)

    def save(self, step: int, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
        """Writes a checkpoint; does nothing where it is there already.

        Args:
            step: How many steps are done.
            policy: The policy.
            optimizer: Its optimizer.
        """
        final = self.out / FOLDER / f"step-{step:08}"
        temporary = final.with_name(f".{final.name}.tmp")
        if final.exists():
            return
        if self.ranks.is_main:
            # What a killed run left half-written or half-deleted.
            for stale in final.parent.glob(".step-*"):
                shutil.rmtree(stale)
            temporary.mkdir(parents=True)
        self.ranks.barrier()
        model, states = get_state_dict(policy, optimizer)
        with _no_group_warning():
            save(
                {"model": model, "optimizer": states},
                checkpoint_id=temporary,
                no_dist=self.ranks.world == 1,
            )
        self.ranks.barrier()
        if self.ranks.is_main:
            # Renamed before its bytes are on the disk, a checkpoint could be empty after a power
            # cut.
            os.sync()
            temporary.rename(final)
            # After the new one is in place: at no moment is there none.
            for old in self.steps()[: -self.keep]:
                _remove(self.out / FOLDER / f"step-{old:08}")
        self.ranks.barrier()

    def last(self) -> int:
        """Returns the step of the last checkpoint, or 0 where there is none."""
        return max(self.steps(), default=0)

    def load(self, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
        """Loads the last checkpoint into the policy and the optimizer; does nothing without one.

        Raises:
            TrainError: It cannot be read.
        """
        if not self.steps():
            return
        folder = self.out / FOLDER / f"step-{self.last():08}"
        model, states = get_state_dict(policy, optimizer)
        # The state of the new run says which tensors are read, and how they are sharded here.
        state: dict[str, Any] = {"model": model, "optimizer": states}
        try:
            with _no_group_warning():
                load(state, checkpoint_id=folder, no_dist=self.ranks.world == 1)
        except (CheckpointException, OSError, ValueError, RuntimeError) as error:
            raise TrainError(
                f"{folder} cannot be read: {str(error)[:300]}. "
                "Delete it to go on from the one before."
            ) from error
        set_state_dict(
            policy, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
        )


def export_model(
    policy: Policy, encoder: Encoder, folder: Path, ranks: Ranks, dtype: torch.dtype | None = None
) -> None:
    """Writes a model folder that transformers and vLLM load; replaces what is there.

    The model is gathered in the host memory of the main rank.

    Args:
        policy: The policy.
        encoder: Its tokenizer and image processor.
        folder: The folder to write: safetensors, configuration, tokenizer, image processor.
        ranks: The processes that share the policy.
        dtype: The precision of the written weights; None keeps float32.
    """
    # A whole model beside the shards might not fit a GPU.
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(policy, options=options)
    if ranks.is_main:
        temporary = folder.with_name(f".{folder.name}.tmp")
        shutil.rmtree(folder.with_name(f".{folder.name}.old"), ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)
        # Tied weights have several names, and safetensors takes each tensor once.
        every_name = {name for name, _ in policy.named_parameters(remove_duplicate=False)}
        tied = every_name - {name for name, _ in policy.named_parameters()}
        weights = {
            name.removeprefix("model."): value.to(dtype or value.dtype)
            for name, value in state.items()
            if name not in tied
        }
        policy.model.save_pretrained(temporary, state_dict=weights)
        policy.published.save_pretrained(temporary)
        encoder.tokenizer.save_pretrained(temporary)
        encoder.image_processor.save_pretrained(temporary)
        # The configuration still names the dtype of the masters, and servers load in what it names.
        config = temporary / "config.json"
        written = str(dtype or torch.float32).removeprefix("torch.")
        declared = json.loads(config.read_text(encoding="utf-8")) | {"dtype": written}
        config.write_text(json.dumps(declared, indent=2) + "\n", encoding="utf-8")
        os.sync()
        if folder.exists():
            _remove(folder)
        temporary.rename(folder)
    # The others go on when the folder is in place: a server may be told to read it next.
    ranks.barrier()


def _remove(folder: Path) -> None:
    """Deletes a folder that is never seen in pieces: it is renamed first."""
    aside = folder.with_name(f".{folder.name}.old")
    folder.rename(aside)
    shutil.rmtree(aside)


@contextmanager
def _no_group_warning() -> Iterator[None]:
    """Silences torch's warning about a single process, which is a way to run and not a mistake."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield
