"""Where a run's files are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from finetune_cli.errors import ConfigError
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.run import RunRecord
from finetune_cli.system.files import remove_directory, write_json
from finetune_cli.system.places import in_home

UNFINISHED = (".writing-*", ".deleting-*", ".probe-*", ".*.[0-9]*.tmp")  # what a killed process leaves of its writing
WORKING = "working.lock"  # in the folder of a sweep: held by every process that works at it

# What runs inside a run directory are called, seed-1 and so on, and several of them.
MEMBERS = {"seed": "seeds", "fold": "folds", "share": "shares", "trial": "trials", "finalist": "finalists"}
NUMBER = re.compile(r"\d+(\.\d+)?(e-\d+)?")  # a share of train is written as Python writes it


def member_number(number: float) -> str:
    """As it stands in the name of a run's directory: 1, and 1.0 likewise, or 0.25."""
    return str(number).removesuffix(".0")


class RunDir:
    """The files of one run; paths only, nothing is created by asking."""

    def __init__(self, path: Path | str) -> None:
        self.path = in_home(path)
        self.config = self.path / "config.yaml"
        self.record = self.path / "run.json"
        self.history = self.path / "history.jsonl"
        self.log = self.path / "run.log"
        self.lock = self.path / "run.lock"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.summary = self.path / "summary.json"
        self.metrics = self.path / "metrics"
        self.report = self.path / "report.html"
        self.tracking = self.path / "tracking"
        self.sweep = self.path / "sweep"
        self.best = self.path / "best"
        self.best_config = self.path / "best.yaml"

    def evaluation(self, split: str) -> Path:
        return self.path / "eval" / split

    def read_scores(self, split: str = "validation") -> EvalReport:
        """The scores of a split. Raises OSError where there are none, ValueError or KeyError for a damaged file."""
        return EvalReport.from_json(json.loads((self.evaluation(split) / "metrics.json").read_text(encoding="utf-8")))

    def predictions(self, split: str = "validation") -> Path:
        """The answer to each row of a split."""
        return self.evaluation(split) / "predictions.jsonl"

    def read_history(self) -> Iterator[dict[str, Any]]:
        """The lines of history.jsonl, if there is one. The last may be half written: it is left out."""
        lines = self.history.read_bytes().splitlines() if self.history.is_file() else []
        for line in lines:
            with suppress(ValueError):
                yield json.loads(line)

    def member(self, kind: str, number: float) -> RunDir:
        """One of several runs inside this directory, such as that of a seed."""
        return RunDir(self.path / f"{kind}-{member_number(number)}")

    def members(self, kind: str | None = None) -> list[RunDir]:
        """The runs inside this directory, of one kind or of all, by number; empty for an ordinary run."""
        configs = self.path.glob(f"{kind or '*'}-*/config.yaml")
        numbered = ((*path.parent.name.partition("-")[::2], path.parent) for path in configs)
        members = [
            (name, float(number), path)
            for name, number, path in numbered
            if NUMBER.fullmatch(number) and name in MEMBERS
        ]
        return [RunDir(path) for _, _, path in sorted(members)]

    @property
    def final(self) -> RunDir:
        """The model of all rows, beside the folds that score it."""
        return RunDir(self.path / "final")

    def require_one_run(self) -> None:
        """Raise ConfigError that names the runs when this directory holds several models."""
        if runs := self.members():
            several = MEMBERS[runs[0].path.name.partition("-")[0]]
            named = [self.final, *runs] if self.final.model.is_dir() else runs
            names = ", ".join(str(run.path) for run in named)
            raise ConfigError(f"{self.path} holds a run for each of several {several}. Name one of them: {names}")

    def holds_work(self) -> bool:
        """Whether a run got as far as something that can be lost: a checkpoint or a model, beside its config."""
        return self.config.is_file() and (self.model.is_dir() or any(self.checkpoints.glob("step-*")))

    def read_record(self) -> RunRecord:
        """run.json; an empty record when it is not there or was damaged."""
        try:
            return self.read_whole_record()
        except (OSError, ValueError):
            return RunRecord()

    def read_whole_record(self) -> RunRecord:
        """run.json. Raises OSError or ValueError when it is not there or was damaged."""
        entries = json.loads(self.record.read_bytes())
        if not isinstance(entries, dict):
            raise ValueError(f"found {type(entries).__name__}, expected an object")
        return RunRecord.from_json(entries)

    def write_record(self, record: RunRecord) -> None:
        write_json(self.record, record.to_json())

    def clear(self) -> None:
        """Remove what earlier runs left, of several seeds too (locks stay); files that are not a run's are kept.

        The record goes first and the config last: killed in between, this is the same run, unfinished.
        """
        self.record.unlink(missing_ok=True)
        for member in self.members() + ([self.final] if self.final.config.is_file() else []):
            member.clear()
        for path in (self.checkpoints, self.model, self.path / "eval", self.metrics, self.tracking, self.sweep):
            remove_directory(path)
        for file in (self.history, self.log, self.summary, self.report, self.best, self.best_config, self.config):
            file.unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Remove what killed processes left of files that they were writing; call it with the lock held."""
        folders = (self.path, self.checkpoints, self.model, *self.path.glob("eval/*"))
        for folder, pattern in product(folders, UNFINISHED):
            for path in list(folder.glob(pattern)):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
