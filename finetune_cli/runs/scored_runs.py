"""What runs answered on one split: read from their predictions.jsonl and paired row by row.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.data.label_sets import named_label
from finetune_cli.errors import ConfigError, DataError, MissingError, counted
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.runs.answers import Answers, in_order_of, read_answers
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.places import in_home
from finetune_cli.tasks import KIND_SPECS

SHOWN_IDS = 3


@dataclass(frozen=True)
class ScoredRun(Answers):
    """The answers of one run. `name`: as the user gave it. `config`: None for a bare predictions file."""

    name: str
    config: RunConfig | None

    @property
    def answers_in_words(self) -> str:
        if self.classes is None:
            return "numbers"
        return f"{list(self.classes)}{', several to a row' if KIND_SPECS[self.kind].several_labels else ''}"

    @property
    def collapsed(self) -> str | None:
        """The class, or set of them, that every row was given although the labels differ; None for a healthy run."""
        return self.task.collapsed(self.labels, self.predictions, self.classes or ())


def read_scored_runs(name: str, split: str) -> list[ScoredRun]:
    """The runs of each seed when `name` is a directory of several seeds, else that one run; see read_scored_run."""
    run = RunDir(name)
    if not run.members("seed") or not run.config.is_file():
        return [read_scored_run(name, split)]
    seeds = load_config(run.config).training.seeds or ()
    unfinished = [seed for seed in seeds if not run.member("seed", seed).model.is_dir()]
    if unfinished:
        raise MissingError(
            f"{name} is not finished: seeds without a model are {', '.join(map(str, unfinished))}. Train them first:\n"
            f"  finetune train {shlex.quote(str(run.config))}"
        )
    return [read_scored_run(str(run.member("seed", seed).path), split) for seed in seeds]


def read_scored_run(name: str, split: str) -> ScoredRun:
    """The rows of a run directory's split, or of a predictions file.

    Raises MissingError when there are none, DataError for a file that `finetune evaluate` did not write.
    """
    path, config = in_home(name), None
    if path.suffix in (".yaml", ".yml"):
        raise ConfigError(f"{name} is a config. Name the run directory that it trained, or a predictions.jsonl.")
    if path.is_dir():
        run = RunDir(path)
        if not run.members("fold"):  # of folds the directory has the scores of all rows
            run.require_one_run()
        if not run.config.is_file():
            raise MissingError(f"{name} is no run: it has no config.yaml. Name a run directory or a predictions.jsonl.")
        config = load_config(run.config)
        path = run.predictions(split)
        if not path.is_file():
            raise _no_scores(run, split)
    elif not path.is_file():
        raise MissingError(f"{name}: there is no such file or directory. Name a run directory or a predictions.jsonl.")
    answers = read_answers(path)
    if len(set(answers.ids)) < len(answers.ids):
        twice = Counter(answers.ids).most_common(1)[0][0]
        raise DataError(
            f"{path}: id {twice!r} is there twice, and rows are paired by id. Set data.id to a column without "
            "repeats, and score the run again."
        )
    return ScoredRun(**vars(answers), name=name, config=config)


def pair_rows(first: ScoredRun, other: ScoredRun) -> ScoredRun:
    """`other` with its rows and classes in the order of `first`.

    Raises DataError that says what differs when they are not about the same rows, labels and classes.
    """
    if set(first.classes or ()) != set(other.classes or ()) or first.kind != other.kind:
        kinds = ", ".join(f"{run.name} {run.answers_in_words}" for run in (first, other))
        raise DataError(f"The runs do not answer the same question: {kinds}. Compare runs of one task.")
    here, there = set(first.ids), set(other.ids)
    only_first = [row_id for row_id in first.ids if row_id not in there]
    only_other = [row_id for row_id in other.ids if row_id not in here]
    if only_first or only_other:
        raise DataError(
            f"{first.name} and {other.name} were not scored on the same rows: {_some(only_first)} only in the first, "
            f"{_some(only_other)} only in the second. {_same_rows(first, other)}"
        )
    paired = in_order_of(first, other)
    _require_same_labels(first, paired)
    return paired


def _same_rows(first: ScoredRun, other: ScoredRun) -> str:
    """What to type so that two runs are scored on the same rows."""
    named = dict.fromkeys("RUN" if run.config is None else shlex.quote(run.name) for run in (first, other))
    lines = "".join(f"\n  finetune evaluate {name} --data FILE" for name in named)
    drawn = [run.name for run in (first, other) if run.config and run.config.data.draws_from_train]
    why = f" ({drawn[0]} took a share of its train rows: data.splits and data.split_seed say which.)" if drawn else ""
    return (
        f"Score both on one labelled file, of rows that neither was trained on, and name --split file-STEM, FILE's "
        f"name without its ending:{lines}\nA split of the same rows in both, such as --split test, does as well.{why}"
    )


def _require_same_labels(first: ScoredRun, other: ScoredRun) -> None:
    rows = np.flatnonzero(~KINDS[first.kind].right(first.labels, other.labels))
    if len(rows):
        row = rows[0]
        a, b = (named_label(run.labels[row], run.classes) for run in (first, other))
        raise DataError(
            f"{first.name} and {other.name} were scored against different labels: {len(rows)} of {len(first.ids)} rows "
            f"differ, first id {first.ids[row]!r} with {a!r} and {b!r}. Score both on the same data."
        )


def _some(ids: Sequence[Any]) -> str:
    shown = ", ".join(repr(row_id) for row_id in ids[:SHOWN_IDS]) + (", ..." if len(ids) > SHOWN_IDS else "")
    return f"{counted(len(ids), 'id')} ({shown})" if ids else "0 ids"


def _no_scores(run: RunDir, split: str) -> MissingError:
    scored = sorted(path.parent.name for path in run.path.glob("eval/*/predictions.jsonl"))
    there = f" (only of: {', '.join(scored)})" if scored else ""
    option = "--data FILE" if split.startswith("file-") else f"--split {shlex.quote(split)}"
    return MissingError(
        f"{run.path} has no scores of the split {split!r}{there}. Make them first:\n"
        f"  finetune evaluate {shlex.quote(str(run.path))} {option}"
    )
