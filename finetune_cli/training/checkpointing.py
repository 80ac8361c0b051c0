"""Checkpoints that are complete or absent: written aside, synced, a manifest with checksums last, then renamed.

Both loops save through `Accelerator.save_state` (weights as safetensors; optimizer, scaler and the generators of every
process without arbitrary pickles) and add `progress.json`, the state of this package.
"""

from __future__ import annotations

import hashlib
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
from safetensors.torch import load_model
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from finetune_cli.errors import MissingError, RunFailedError
from finetune_cli.run_dir import disk_errors_explained, publish_directory, remove_directory, write_json

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
PROGRESS = "progress.json"
WEIGHTS = "model.safetensors"
STEP_NAME = re.compile(r"step-(\d{6,})")


@dataclass
class Progress:
    """What a continued run needs beside weights, optimizer and generators.

    evaluated_step: the last update after which the model was scored. history_bytes: length of history.jsonl.
    """

    step: int = 0
    seconds: float = 0.0
    history_bytes: int = 0
    evaluated_step: int = 0
    best_step: int = 0
    best_score: float | None = None
    evaluations_without_gain: int = 0


def use_bare_weight_names(accelerator: Accelerator) -> None:
    """Have save_state and load_state use the bare model's names, so that 2 processes' checkpoints continue on 1."""

    def save(models: list[nn.Module], weights: list[dict[str, Any]], _directory: str) -> None:
        weights[:] = [accelerator.get_state_dict(model, unwrap=True) for model in models]

    def load(models: list[nn.Module], directory: str) -> None:
        device = accelerator.device
        name = "cpu" if device.type == "cpu" else str(device)  # several CPU processes have cpu:0, which is refused
        while models:  # models left in the list would be loaded once more, by their wrapped names
            load_model(accelerator.unwrap_model(models.pop()), Path(directory) / WEIGHTS, device=name)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


class Checkpoints:
    """The checkpoints of one run, `step-000459/` each; `keep` newest ones stay, and the best one always."""

    def __init__(self, directory: Path, *, keep: int) -> None:
        self.directory = directory
        self.keep = keep

    def path(self, step: int) -> Path:
        return self.directory / f"step-{step:06d}"

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
            with _failing_together(accelerator), disk_errors_explained(self.directory):
                _save_state(accelerator, aside)
            with _failing_together(accelerator), disk_errors_explained(self.directory):
                if main:
                    self._complete(aside, target, accelerator, schedule, progress, add_files)
        except BaseException:
            if main:
                shutil.rmtree(aside, ignore_errors=True)  # room for the record of what happened
            raise
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
        _seal(aside, step=progress.step)
        publish_directory(aside, target)  # in place of a damaged one that the run went back behind
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
        state = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        schedule.load_state_dict(state["schedule"])
        return Progress(**state["progress"])

    def newest(self) -> Path | None:
        """The newest undamaged checkpoint; damaged ones are named in a warning. None when there is none at all.

        Raises MissingError when every checkpoint is damaged.
        """
        damaged = []
        for path in self._all_newest_first():
            problem = find_damage(path)
            if problem is None:
                return path
            damaged.append(f"{path}: {problem}")
            logger.warning("Damaged checkpoint left out: %s: %s", path, problem)
        if damaged:
            raise MissingError(
                "Every checkpoint of this run is damaged:\n  "
                + "\n  ".join(damaged)
                + "\nStart anew with --overwrite, or restore a checkpoint from a backup."
            )
        return None

    def undamaged(self, path: Path) -> Path:
        """`path` itself, when it is a checkpoint with all checksums right. Raises MissingError otherwise."""
        if (problem := find_damage(path)) is not None:
            raise MissingError(
                f"The checkpoint {path} cannot be used: {problem}. Expected a directory such as "
                f"{self.directory / 'step-000459'}; --resume auto takes the newest, --overwrite starts anew."
            )
        return path

    def _all_newest_first(self) -> list[Path]:
        found = [path for path in self.directory.glob("step-*") if STEP_NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=_step_of, reverse=True)

    def _rotate(self, progress: Progress) -> None:
        """Keep the newest ones and the best. Those after this step are damaged or given up: the run went back."""
        found = self._all_newest_first()
        upto_now = [path for path in found if _step_of(path) <= progress.step]
        kept = {*upto_now[: self.keep], self.path(progress.best_step)}
        for path in found:
            if path not in kept:
                remove_directory(path)


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint: a missing, shortened or altered file. None when all checksums hold."""
    if not path.is_dir():
        return "there is no such directory"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        expected = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        return f"no {MANIFEST}"
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is unreadable"
    if PROGRESS not in expected:
        return f"{MANIFEST} does not list {PROGRESS}"
    for name, (size, checksum) in expected.items():
        file = path / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return f"{MANIFEST} names a file outside the checkpoint: {name!r}"
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, expected {size}"
        if _sha256(file) != checksum:
            return f"{name} was altered (checksum differs)"
    return None


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


@contextmanager
def _failing_together(accelerator: Accelerator) -> Iterator[None]:
    """All processes leave the block together; when it fails in one, it fails in all, so that none waits for ever."""
    problem: Exception | None = None
    try:
        yield
    except Exception as err:
        problem = err
    if accelerator.num_processes > 1:
        failed = torch.tensor(int(problem is not None), device=accelerator.device)
        torch.distributed.all_reduce(failed, op=torch.distributed.ReduceOp.MAX)
        if failed and problem is None:
            problem = RunFailedError("Another process could not write its part of the checkpoint.")
    if problem is not None:
        raise problem


def _save_state(accelerator: Accelerator, directory: Path) -> None:
    """Have Accelerate write its part. Raises OSError when the disk is full."""
    try:
        accelerator.save_state(str(directory))
    except RuntimeError:
        _raise_disk_error(directory)
        raise


def _raise_disk_error(directory: Path) -> None:
    """torch's writer does not say why it failed: write more than it could, and let that say it."""
    block = bytes(2**20)
    largest = max((file.stat().st_size for file in _files(directory)), default=0)
    with (directory / "probe").open("wb") as file:
        for _ in range(1 + -(-largest // len(block))):
            file.write(block)


def _seal(directory: Path, *, step: int) -> None:
    files = {}
    for file in sorted(_files(directory)):
        files[str(file.relative_to(directory))] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    write_json(directory / MANIFEST, {"step": step, "files": files})


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    """A schedule's state without its functions, which JSON cannot hold and which are built anew anyway."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, list):
        return [_plain(item) for item in value if not callable(item)]
    return value
