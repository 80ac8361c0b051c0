"""Checkpoints that are complete or absent: written aside, synced, a manifest with checksums last, then renamed.

Both loops save through `Accelerator.save_state` (weights as safetensors; optimizer, scaler and the generators of every
process without arbitrary pickles) and add `progress.json`, the state of this package.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
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
from finetune_cli.training.manifest import PROGRESS, find_damage, seal
from finetune_cli.training.progress import Progress
from finetune_cli.training.state import (
    WEIGHTS,
    failing_together,
    is_sharded,
    least_bytes,
    load_state,
    require_every_weight,
    save_state,
)

logger = logging.getLogger(__name__)

STEP_NAME = re.compile(r"step-(\d{6,})")


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

        Raises RunFailedError.
        """
        with failing_together(accelerator):
            needed, disk = least_bytes(optimizer), shutil.disk_usage(self.directory.parent)
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
        add_files: Callable[[Path], None] = lambda directory: None,
    ) -> Path:
        """Write the checkpoint of `progress.step`; called by all processes together, after the update is finished.

        Then old ones are removed. add_files: writes what else belongs into it, in the main process.
        Raises RunFailedError, in every process, when one cannot write: nothing of the new checkpoint is left then.
        """
        target = self.path(progress.step)
        aside = self.directory / f".writing-{target.name}"
        main = accelerator.is_main_process
        try:
            with failing_together(accelerator), disk_errors_explained(self.directory):
                if main:
                    remove_directory(aside)
                    aside.mkdir(parents=True)
            sharded = is_sharded(accelerator)
            with failing_together(accelerator, at_once=sharded), disk_errors_explained(self.directory):
                save_state(accelerator, aside)
            with failing_together(accelerator), disk_errors_explained(self.directory):
                if main:
                    if not sharded:
                        require_every_weight(aside, accelerator)
                    add_files(aside)
                    # A function that wraps the schedule's own is made anew by whoever put it there.
                    schedule_state = {key: value for key, value in schedule.state_dict().items() if not callable(value)}
                    state = {"progress": asdict(progress), "schedule": schedule_state}
                    write_json(aside / PROGRESS, {**state, "processes": accelerator.num_processes})
                    seal(aside, step=progress.step)
                    publish_directory(aside, target)
                    self._rotate(progress)
        except BaseException:
            if main:
                shutil.rmtree(aside, ignore_errors=True)  # room for the record of what happened
            raise
        self.current = target
        return target

    def restore(self, path: Path, accelerator: Accelerator, schedule: LRScheduler) -> Progress:
        """Bring the training back to where it was when `path` was saved. Raises MissingError as `load_state` does."""
        load_state(accelerator, path)
        state = json.loads((path / PROGRESS).read_text(encoding="utf-8"))
        schedule.load_state_dict(state["schedule"])
        self.current = path
        return Progress(**state["progress"])

    def remove_after(self, step: int) -> None:
        """Remove the checkpoints after this update, from which the run goes on. Main process alone.

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
        paths = [path for path in self.directory.glob("step-*") if STEP_NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(paths, key=step_of, reverse=True)

    def _rotate(self, progress: Progress) -> None:
        """Keep the newest ones and the best."""
        checkpoints = self._all_newest_first()
        kept = {*checkpoints[: self.keep], self.path(progress.best_step)}
        for path in checkpoints:
            if path not in kept:
                remove_directory(path)


def step_of(checkpoint: Path | None) -> int:
    """The update after which a checkpoint was written; 0 for none."""
    return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0
