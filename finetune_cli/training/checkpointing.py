"""Checkpoints that are complete or absent: written aside, synced, a manifest with checksums last, then renamed.

Both loops save through `Accelerator.save_state` (weights as safetensors; optimizer, scaler and the generators of every
process without arbitrary pickles) and add `progress.json`, the state of this package.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import load_model
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from finetune_cli.errors import MissingError
from finetune_cli.run_dir import sync_directory, sync_file, write_json

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
        while models:  # models left in the list would be loaded once more, by their wrapped names
            load_model(
                accelerator.unwrap_model(models.pop()), Path(directory) / WEIGHTS, device=str(accelerator.device)
            )

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
        """Write the checkpoint of `progress.step`; called by all processes together, after the update is finished."""
        target = self.path(progress.step)
        aside = self.directory / f".writing-{target.name}"
        if accelerator.is_main_process:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(aside))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if add_files is not None:
                add_files(aside)
            state = {
                "progress": asdict(progress),
                "schedule": schedule.state_dict(),
                "processes": accelerator.num_processes,
            }
            write_json(aside / PROGRESS, _plain(state))
            _seal(aside, step=progress.step)
            shutil.rmtree(target, ignore_errors=True)
            aside.rename(target)
            sync_directory(self.directory)
            self._rotate(best_step=progress.best_step)
        accelerator.wait_for_everyone()
        return target

    def restore(self, path: Path, accelerator: Accelerator, schedule: LRScheduler) -> Progress:
        """Bring model, optimizer, scaler, generators and schedule back to where they were when `path` was saved."""
        accelerator.load_state(str(path))
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
                + "\nStart anew with --overwrite, or "
                "restore a checkpoint from a backup."
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
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)

    def _rotate(self, *, best_step: int) -> None:
        for path in self._all_newest_first()[self.keep :]:
            if path != self.path(best_step):
                doomed = path.rename(path.with_name(f".deleting-{path.name}"))  # out of sight at once, then slowly gone
                shutil.rmtree(doomed, ignore_errors=True)


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint: a missing, shortened or altered file. None when all checksums hold."""
    if not path.is_dir():
        return "there is no such directory"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
    except FileNotFoundError:
        return f"no {MANIFEST}"
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError):
        return f"{MANIFEST} is unreadable"
    for name, expected in files.items():
        file = path / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return f"{MANIFEST} names a file outside the checkpoint: {name!r}"
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["bytes"]:
            return f"{name} has {file.stat().st_size} bytes, expected {expected['bytes']}"
        if _sha256(file) != expected["sha256"]:
            return f"{name} was altered (checksum differs)"
    return None


def _seal(directory: Path, *, step: int) -> None:
    files = {}
    for file in sorted(_files(directory)):
        sync_file(file)
        files[str(file.relative_to(directory))] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    write_json(directory / MANIFEST, {"step": step, "files": files})
    sync_directory(directory)


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
