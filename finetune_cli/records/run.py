"""run.json: what a run was started with, how it went and how it ended."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from finetune_cli.records.plain import from_plain

Status = Literal["running", "finished", "stopped", "failed"]
PRUNED_BEFORE = "Pruned after update"  # how the error of a pruned trial began, when it had no entry of its own yet
WRITTEN_AS_NULL = ("git_commit", "exit_code")  # the other entries are left out where they are not known


@dataclass(frozen=True)
class Fingerprints:
    """Of the prepared rows, and of the pretrained model; no model for one that is new, or in a run of several seeds."""

    data: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class HubUpload:
    """Where the model was uploaded to, with the address of the commit, or why that failed."""

    repo_id: str
    private: bool
    commit_url: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Score:
    """A score with the ends of its interval, None where there is none; the value is None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass
class RunRecord:
    """The entries of run.json, in its order. None: not known, as in a file of an older version or a damaged one.

    status is None, too, where there is no file. pruned: true for a trial that its sweep ended early. seed, or seeds: of
    one run, or of several. folds: how many runs a cross-validation has. shares: of train, of a learning curve. trials:
    of a sweep. task, model: as the config names them. resumed_from: the update it went on from, 0 for a fresh start.
    skipped_updates: those that were not finite and left the weights as they were. stopped_early: true where
    training.early_stopping ended it. training_seconds: in training, over
    all resumes; seconds: of the last process. rows_per_second: over the whole run, resumes and scoring included.
    scores: of the best model on the scored_rows of the split "validation"; of several runs, their means. collapsed: the
    class that this model gives to every row; of several runs, the names of those whose models do. size_bytes: of all
    files, when the run ended. further: entries of another version, kept.
    """

    command: str | None = None
    started: str | None = None
    versions: dict[str, str | None] | None = None
    platform: str | None = None
    git_commit: str | None = None
    seed: int | None = None
    seeds: list[int] | None = None
    folds: int | None = None
    shares: list[float] | None = None
    trials: int | None = None
    task: str | None = None
    model: str | None = None
    processes: int | None = None
    devices: list[str] | None = None
    fingerprints: Fingerprints = Fingerprints()
    status: Status | None = None
    pruned: bool | None = None
    exit_code: int | None = None
    precision: str | None = None
    micro_batch_size: int | None = None
    steps: int | None = None
    best_step: int | None = None
    resumed_from: int | None = None
    skipped_updates: int | None = None
    stopped_early: bool | None = None
    training_seconds: float | None = None
    rows_per_second: float | None = None
    torch_threads: int | None = None
    error: str | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    metric_for_best: str | None = None
    scores: dict[str, Score] | None = None
    scored_rows: int | None = None
    collapsed: str | list[str] | None = None
    size_bytes: int | None = None
    hub: HubUpload | None = None
    further: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What the directory holds: one run, or several of which kind."""
        if self.trials is not None:
            return "sweep"
        if self.folds is not None:
            return "folds"
        if self.shares is not None:
            return "curve"
        return "run" if self.seeds is None else "seeds"

    @property
    def is_finished(self) -> bool:
        return self.status == "finished"

    def to_json(self) -> dict[str, Any]:
        entries = dataclasses.asdict(self)
        further = entries.pop("further")
        if self.fingerprints == Fingerprints():
            del entries["fingerprints"]
        if self.hub:
            entries["hub"] = _without_unknown(entries["hub"])
        return {**_without_unknown(entries, keep=WRITTEN_AS_NULL), **further}

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> RunRecord:
        """The record; an entry of another type than it has here is as good as not there."""
        from pydantic import ValidationError

        names = {entry.name for entry in dataclasses.fields(cls)} - {"further"}
        known = {name: entry for name, entry in entries.items() if name in names}
        try:
            record = from_plain(cls, known)
        except ValidationError as err:
            wrong = {error["loc"][0] for error in err.errors()}
            record = from_plain(cls, {name: entry for name, entry in known.items() if name not in wrong})
        if record.status == "stopped" and (record.error or "").startswith(PRUNED_BEFORE):
            record.pruned = True
        record.further = {name: entry for name, entry in entries.items() if name not in names}
        return record


def _without_unknown(entries: dict[str, Any], *, keep: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if value is not None or name in keep}
