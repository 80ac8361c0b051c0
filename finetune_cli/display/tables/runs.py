"""What `finetune runs` prints."""

from __future__ import annotations

from finetune_cli.display.progress import duration
from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.run import RunRecord
from finetune_cli.runs.listing import ListedRun, RunList
from finetune_cli.tasks import METRICS

HEADER = ["run", "kind", "status", "task", "model", "score", "seeds", "time", "size", "started (UTC)"]
LONGEST_NAME = 28
MOST_NAMED = 2  # collapsed runs of several
UNITS = ("B", "kB", "MB", "GB", "TB")


def runs_result(out: Output, listed: RunList, *, sort: str) -> None:
    """A table, newest first unless asked otherwise; what could not be read is named below it."""
    if out.as_json:
        out.json(listed.to_json())
        return
    if listed.runs:
        out.table(HEADER, [_row(run, sort) for run in listed.runs], left=6)
    else:
        out.line(f"No runs below {listed.directory}.")
    for path, reason in listed.unreadable.items():
        out.warn(f"{path} cannot be read: {reason}")


def _row(run: ListedRun, sort: str) -> list[str]:
    record = run.record
    seconds = record.training_seconds or record.seconds
    return [
        run.path,
        record.kind,
        _status(run),
        record.task or "-",
        _short(record.model or "-"),
        _score(record, sort),
        _seeds(record),
        "-" if seconds is None else duration(seconds),
        "-" if record.size_bytes is None else size(record.size_bytes),
        (record.started or "-")[:16].replace("T", " "),
    ]


def _status(run: ListedRun) -> str:
    """The status, with the exit code where that says more."""
    code = run.record.exit_code
    says_more = code and run.record.status != "running" and run.status != "pruned"
    return f"{run.status or 'unknown'}{f' ({code})' if says_more else ''}"


def _score(record: RunRecord, sort: str) -> str:
    """The score that is sorted by, else the one that picked the best model, as `f1 0.899 [0.872, 0.923] n=408`."""
    name = sort if sort == "loss" or sort in METRICS else record.metric_for_best
    score = (record.scores or {}).get(name or "")
    if score is None or score.value is None:
        return f"-{_collapsed(record)}"
    return f"{name} {MetricValue(score.value, score.low, score.high)} n={record.scored_rows}{_collapsed(record)}"


def _collapsed(record: RunRecord) -> str:
    """That every row got the same answer; of several runs, which of them answer so."""
    if not record.collapsed:
        return ""
    which = [] if isinstance(record.collapsed, str) else record.collapsed
    named = ", ".join(which) if len(which) <= MOST_NAMED else counted(len(which), "run")
    return f", {named} collapsed" if which else ", collapsed"


def _seeds(record: RunRecord) -> str:
    seeds = record.seeds if record.seeds is not None else [record.seed]
    return ",".join(str(seed) for seed in seeds if seed is not None) or "-"


def _short(name: str) -> str:
    """The end of a long path tells more than its start."""
    return name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"


def size(count: float) -> str:
    """1.2 GB; a thousand bytes are 1 kB."""
    for unit in UNITS[:-1]:
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"
