"""Checkpoints that are complete or absent: written aside, synced, a manifest with checksums last, then renamed.

Both loops save through `Accelerator.save_state` (weights as safetensors; optimizer, scaler and the generators of every
process without arbitrary pickles) and add `progress.json`, the state of this package.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors import safe_open
from safetensors.torch import load_model
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from finetune_cli.errors import MissingError, RunFailedError
from finetune_cli.system.files import (
    disk_errors_explained,
    publish_directory,
    remove_directory,
    sync_directory,
    write_json,
)
from finetune_cli.training.manifest import PROGRESS, files_below, find_damage, seal

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
MPS_GENERATOR = "mps_generator.bin"  # of Apple's GPU, which Accelerate leaves out; there is one process
STEP_NAME = re.compile(r"step-(\d{6,})")


@dataclass
class Progress:
    """What a continued run needs beside weights, optimizer and generators.

    evaluated_step: the last update after which the model was scored. history_bytes: length of history.jsonl.
    skipped_updates: those that were not finite and left the weights as they were.
    """

    step: int = 0
    seconds: float = 0.0
    history_bytes: int = 0
    evaluated_step: int = 0
    best_step: int = 0
    best_score: float | None = None
    best_loss: float | None = None  # of best_step, while its score is not defined
    evaluations_without_gain: int = 0
    skipped_updates: int = 0


def use_bare_weight_names(accelerator: Accelerator) -> None:
    """Have save_state and load_state use the bare model's names, so that 2 processes' checkpoints continue on 1."""

    def save(models: list[nn.Module], weights: list[dict[str, Any]], _directory: str) -> None:
        weights[:] = [
            _kept(accelerator.unwrap_model(one), accelerator.get_state_dict(one, unwrap=True)) for one in models
        ]

    def load(models: list[nn.Module], directory: str) -> None:
        device = accelerator.device
        name = "cpu" if device.type == "cpu" else str(device)  # several CPU processes have cpu:0, which is refused
        while models:  # models left in the list would be loaded once more, by their wrapped names
            model = accelerator.unwrap_model(models.pop())
            load_model(model, Path(directory) / WEIGHTS, strict=not _is_quantized(model), device=name)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _kept(model: nn.Module, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights that a checkpoint holds: all, but of a quantized model what is trained. Its body is loaded anew."""
    if not _is_quantized(model):
        return weights
    return {name: weights[name] for name, weight in model.named_parameters() if weight.requires_grad}


def _is_quantized(model: nn.Module) -> bool:
    return any(not weight.is_floating_point() for weight in model.parameters())


class Checkpoints:
    """The checkpoints of one run, `step-000459/` each; `keep` newest ones stay, and the best one always.

    current: the one that this object restored or saved last, from which its training could go on; None at first.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.directory = directory
        self.keep = keep
        self.current: Path | None = None

    def path(self, step: int) -> Path:
        return self.directory / f"step-{step:06d}"

    def require_room(self, accelerator: Accelerator, optimizer: Optimizer) -> None:
        """Refuse to train when the disk cannot hold a single checkpoint; called by all processes together.

        Counts the least that one takes: the trainable weights, and with Adam two averages of each. Raises
        RunFailedError.
        """
        with _failing_together(accelerator):
            needed, disk = _least_bytes(optimizer), shutil.disk_usage(self.directory.parent)
            if disk.free < needed and disk.total:  # a file system that does not tell its size says 0
                raise RunFailedError(
                    f"{self.directory}: the disk has {disk.free / 1e6:,.1f} MB left, and one checkpoint takes "
                    f"{needed / 1e6:,.1f} MB or more. Free some space and run the same command again, or choose "
                    f"another directory with --output-dir."
                )

    def save(
        self,
        accelerator: Accelerator,
        schedule: LRScheduler,
        progress: Progress,
        *,
        add_files: Callable[[Path], None] | None = None,
    ) -> Path:
        """Write the checkpoint of `progress.step`; called by all processes together, after the update is finished.

        Raises RunFailedError, in every process, when one cannot write: nothing of the new checkpoint is left then.
        """
        target = self.path(progress.step)
        aside = self.directory / f".writing-{target.name}"
        main = accelerator.is_main_process
        try:
            with _failing_together(accelerator), disk_errors_explained(self.directory):
                if main:
                    remove_directory(aside)
                    aside.mkdir(parents=True)
            sharded = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
            with _failing_together(accelerator, at_once=sharded), disk_errors_explained(self.directory):
                _save_state(accelerator, aside)
                if _on_mps(accelerator):
                    torch.save(torch.mps.get_rng_state(), aside / MPS_GENERATOR)
            with _failing_together(accelerator), disk_errors_explained(self.directory):
                if main:
                    if not sharded:
                        _require_every_weight(aside, accelerator)
                    self._complete(aside, target, accelerator, schedule, progress, add_files)
        except BaseException:
            if main:
                shutil.rmtree(aside, ignore_errors=True)  # room for the record of what happened
            raise
        self.current = target
        return target

    def _complete(
        self,
        aside: Path,
        target: Path,
        accelerator: Accelerator,
        schedule: LRScheduler,
        progress: Progress,
        add_files: Callable[[Path], None] | None,
    ) -> None:
        """Main process: add our own state and the manifest, make it visible under its name, remove old ones."""
        if add_files is not None:
            add_files(aside)
        state = {
            "progress": asdict(progress),
            "schedule": schedule.state_dict(),
            "processes": accelerator.num_processes,
        }
        write_json(aside / PROGRESS, _plain(state))
        seal(aside, step=progress.step)
        publish_directory(aside, target)
        self._rotate(progress)

    def restore(self, path: Path, accelerator: Accelerator, schedule: LRScheduler) -> Progress:
        """Bring model, optimizer, scaler, generators and schedule back to where they were when `path` was saved.

        Raises MissingError when a file holds more than tensors and numbers: loading it could run code.
        """
        try:
            accelerator.load_state(str(path))
        except pickle.UnpicklingError as err:
            raise MissingError(
                f"The checkpoint {path} cannot be used: a file in it was not written by a training run, and loading it "
                f"could run code. Take another checkpoint with --resume PATH, or start anew with --overwrite."
            ) from err
        if _on_mps(accelerator) and (path / MPS_GENERATOR).is_file():
            torch.mps.set_rng_state(torch.load(path / MPS_GENERATOR, weights_only=True))
        state = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        schedule.load_state_dict(state["schedule"])
        self.current = path
        return Progress(**state["progress"])

    def give_up_after(self, step: int) -> None:
        """Remove those after this update, which the run goes back behind. Main process alone.

        Before the history is cut: killed in between, the run finds no checkpoint that needs the lines cut off.
        """
        if later := [path for path in self._all_newest_first() if step_of(path) > step]:
            for path in later:
                remove_directory(path)
            sync_directory(self.directory)

    def newest(self) -> Path | None:
        """The newest undamaged checkpoint; damaged ones are named in a warning. None when there is none at all.

        One whose best model is damaged counts as damaged: the run would go on to an end without a result, while an
        earlier one trains the best model again. Raises MissingError when none can be used.
        """
        damaged: list[str] = []
        for path in self._all_newest_first():
            problem = find_damage(path) or self._damage_of_best(path, may_be_gone=bool(damaged))
            if problem is None:
                return path
            damaged.append(f"{path}: {problem}")
            logger.warning("Damaged checkpoint left out: %s: %s", path, problem)
        if damaged:
            raise MissingError(
                "The run cannot go on from any of its checkpoints:\n  "
                + "\n  ".join(damaged)
                + "\nBring the damaged files back from a backup, or start anew with --overwrite."
            )
        return None

    def undamaged(self, path: Path) -> Path:
        """`path` itself, when it and its best model have all checksums right. Raises MissingError otherwise."""
        named = None if STEP_NAME.fullmatch(path.name) else "its name does not say after which update it was written"
        if (problem := find_damage(path) or named or self._damage_of_best(path, may_be_gone=True)) is not None:
            raise MissingError(
                f"The checkpoint {path} cannot be used: {problem}. Expected a directory such as "
                f"{self.directory / 'step-000459'}; --resume auto takes the newest, --overwrite starts anew."
            )
        return path

    def best_weights(self, step: int) -> Path:
        """The weights after the best update, in their file. Raises MissingError when they are damaged."""
        if (problem := find_damage(self.path(step), only=(WEIGHTS,))) is not None:
            raise MissingError(
                f"The best model, in {self.path(step)}, cannot be used: {problem}. Bring it back from a backup, or run "
                f"the same command again: it goes on from a checkpoint before it, when there is one."
            )
        return self.path(step) / WEIGHTS

    def _damage_of_best(self, path: Path, *, may_be_gone: bool) -> str | None:
        """What is wrong with the best model that an undamaged checkpoint knows.

        may_be_gone: rotation removes a best model once a later checkpoint has a better one.
        """
        progress = json.loads((path / PROGRESS).read_text(encoding="utf-8"))["progress"]
        best = self.path(progress["best_step"])
        if not progress["best_step"] or best == path or (may_be_gone and not best.exists()):
            return None
        problem = find_damage(best, only=(WEIGHTS,))
        return problem and f"its best model, in {best.name}, cannot be used: {problem}"

    def _all_newest_first(self) -> list[Path]:
        found = [path for path in self.directory.glob("step-*") if STEP_NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=step_of, reverse=True)

    def _rotate(self, progress: Progress) -> None:
        """Keep the newest ones and the best."""
        found = self._all_newest_first()
        kept = {*found[: self.keep], self.path(progress.best_step)}
        for path in found:
            if path not in kept:
                remove_directory(path)


def _on_mps(accelerator: Accelerator) -> bool:
    return accelerator.device.type == "mps"


def _least_bytes(optimizer: Optimizer) -> int:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    copies = 3 if isinstance(optimizer, torch.optim.Adam) else 1
    return copies * sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def step_of(checkpoint: Path | None) -> int:
    """The update after which a checkpoint was written; 0 for none."""
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0


@contextmanager
def _failing_together(accelerator: Accelerator, *, at_once: bool = False) -> Iterator[None]:
    """All processes leave the block together; when it fails in one, it fails in all, so that none waits for ever.

    at_once: a block in which the processes exchange data. The others are in the middle of that and cannot be told; the
    end of this process ends them, through the lost connection or the launcher.
    """
    problem: Exception | None = None
    try:
        yield
    except Exception as err:
        if at_once:
            raise
        problem = err
    if accelerator.num_processes > 1:
        failed = torch.tensor(int(problem is not None), device=accelerator.device)
        torch.distributed.all_reduce(failed, op=torch.distributed.ReduceOp.MAX)
        if failed and problem is None:
            problem = RunFailedError("Another process could not write its part of the checkpoint.")
    if problem is not None:
        raise problem


def _require_every_weight(directory: Path, accelerator: Accelerator) -> None:
    """Raise RunFailedError when a weight of the model is not in the checkpoint: it would be lost, hours from now.

    What is saved under another name counts (tied weights are the same numbers).
    """
    with safe_open(directory / WEIGHTS, "pt") as file:
        saved = set(file.keys())
    for model in accelerator._models:
        weights = _kept(accelerator.unwrap_model(model), accelerator.unwrap_model(model).state_dict())
        kept = {(value.data_ptr(), value.shape) for name, value in weights.items() if name in saved}
        lost = [
            name
            for name, value in weights.items()
            if name not in saved and value.numel() and (value.data_ptr(), value.shape) not in kept
        ]
        if lost:
            raise RunFailedError(
                f"{directory.parent}: a checkpoint would lack {len(lost)} weights of the model, first {lost[0]!r}, so "
                f"that the run could neither go on nor be saved. Nothing is trained further; take a model of another "
                f"type."
            )


def _save_state(accelerator: Accelerator, directory: Path) -> None:
    """Have Accelerate write its part. Raises OSError when the disk is full."""
    own_checksums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)  # half of torch.save's time; the manifest has ours
    try:
        accelerator.save_state(str(directory))
    except RuntimeError:
        _raise_disk_error(directory)
        raise
    finally:
        torch.serialization.set_crc32_options(own_checksums)


def _raise_disk_error(directory: Path) -> None:
    """torch's writer does not say why it failed: write more than it could, and let that say it."""
    block = bytes(2**20)
    largest = max((file.stat().st_size for file in files_below(directory)), default=0)
    with (directory / "probe").open("wb") as file:
        for _ in range(1 + -(-largest // len(block))):
            file.write(block)


def _plain(value: Any) -> Any:
    """A schedule's state without its functions, which JSON cannot hold and which are built anew anyway."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, list):
        return [_plain(item) for item in value if not callable(item)]
    return value
