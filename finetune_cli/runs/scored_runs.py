"""What runs answered on one split: read from their predictions.jsonl and paired row by row.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.data.label_sets import named_label
from finetune_cli.errors import ConfigError, DataError, MissingError
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.evaluation.metrics import compute_metrics, metric_parts
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.tasks import KIND_SPECS, Kind

SHOWN_IDS = 3


@dataclass(frozen=True)
class ScoredRun:
    """The answers of one run. `name`: as the user gave it. `config`: None for a bare predictions file.

    classes: names in the order of their numbers; None in regression. labels, predictions: class numbers int64 (N,), in
    regression float64; of several labels a row bool (N, C). probabilities: float64 (N, C); in regression None.
    """

    name: str
    config: RunConfig | None
    ids: list[Any]
    classes: tuple[str, ...] | None
    labels: Array
    predictions: Array
    probabilities: Array | None

    @property
    def kind(self) -> Kind:
        if self.classes is None:
            return "regression"
        return "multilabel" if self.labels.ndim == 2 else "classification"

    @property
    def answers_in_words(self) -> str:
        if self.classes is None:
            return "numbers"
        return f"{list(self.classes)}{', several to a row' if KIND_SPECS[self.kind].several_labels else ''}"

    @property
    def collapsed(self) -> str | None:
        """The class, or set of them, that every row was given although the labels differ; None for a healthy run."""
        return KINDS[self.kind].collapsed(self.labels, self.predictions, self.classes or ())

    def scores(self, *, of_probabilities: bool) -> Array:
        """What the metrics take. A predicted class counts as it was written, also where it is not the likeliest one."""
        if of_probabilities and self.probabilities is not None:
            return self.probabilities
        return KINDS[self.kind].as_scores(self.predictions, len(self.classes or ()))


def metric_values(run: ScoredRun, names: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part, of_probabilities in metric_parts(names):
        scores = run.scores(of_probabilities=of_probabilities)
        found |= compute_metrics(part, labels=run.labels, scores=scores, kind=run.kind)
    return found


def read_scored_runs(name: str, split: str) -> list[ScoredRun]:
    """The runs of each seed when `name` is a directory of several seeds, else that one run; see read_scored_run."""
    run = RunDir(name)
    if not run.seed_runs() or not run.config.is_file():
        return [read_scored_run(name, split)]
    seeds = load_config(run.config).training.seeds or ()
    unfinished = [seed for seed in seeds if not run.seed_run(seed).model.is_dir()]
    if unfinished:
        raise MissingError(
            f"{name} is not finished: seeds without a model are {', '.join(map(str, unfinished))}. Train them first:\n"
            f"  finetune train {shlex.quote(str(run.config))}"
        )
    return [read_scored_run(str(run.seed_run(seed).path), split) for seed in seeds]


def read_scored_run(name: str, split: str) -> ScoredRun:
    """The rows of a run directory's split, or of a predictions file.

    Raises MissingError when there are none, DataError for a file that `finetune evaluate` did not write.
    """
    path, config = Path(name), None
    if path.suffix in (".yaml", ".yml"):
        raise ConfigError(f"{name} is a config. Name the run directory that it trained, or a predictions.jsonl.")
    if path.is_dir():
        run = RunDir(path)
        run.require_one_seed()
        if not run.config.is_file():
            raise MissingError(f"{name} is no run: it has no config.yaml. Name a run directory or a predictions.jsonl.")
        config = load_config(run.config)
        path = run.evaluation(split) / "predictions.jsonl"
        if not path.is_file():
            raise _no_scores(run, split)
    elif not path.is_file():
        raise MissingError(f"{name}: there is no such file or directory. Name a run directory or a predictions.jsonl.")
    rows = _read_rows(path)
    ids = [row["id"] for row in rows]
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(
            f"{path}: id {twice!r} is there twice, and rows are paired by id. Set data.id to a column without "
            "repeats, or leave it out, and score the run again."
        )
    return _as_arrays(name, config, ids, rows)


def pair_rows(first: ScoredRun, other: ScoredRun) -> ScoredRun:
    """`other` with its rows and classes in the order of `first`.

    Raises DataError that says what differs when they are not about the same rows, labels and classes.
    """
    if set(first.classes or ()) != set(other.classes or ()) or first.kind != other.kind:
        found = [f"{run.name} {run.answers_in_words}" for run in (first, other)]
        raise DataError(f"The runs do not answer the same question: {found[0]}, {found[1]}. Compare runs of one task.")
    position = {row_id: row for row, row_id in enumerate(other.ids)}
    only_first = [row_id for row_id in first.ids if row_id not in position]
    only_other = list(position.keys() - set(first.ids))
    if only_first or only_other:
        raise DataError(
            f"{first.name} and {other.name} were not scored on the same rows: {_some(only_first)} only in the first, "
            f"{_some(only_other)} only in the second. Score both on the same split of the same data: finetune evaluate "
            "RUN --split NAME. (A split taken from train, such as data.splits.validation: 0.1, depends on the seed.)"
        )
    order = np.array([position[row_id] for row_id in first.ids])
    paired = replace(
        other, ids=first.ids, labels=other.labels[order], predictions=other.predictions[order], probabilities=None
    )
    if first.classes is not None and other.classes is not None and other.probabilities is not None:
        number = np.array([first.classes.index(name) for name in other.classes])
        column = [other.classes.index(name) for name in first.classes]
        several = KIND_SPECS[first.kind].several_labels
        paired = replace(
            paired,
            classes=first.classes,
            labels=paired.labels[:, column] if several else number[paired.labels],
            predictions=paired.predictions[:, column] if several else number[paired.predictions],
            probabilities=other.probabilities[order][:, column],
        )
    _require_same_labels(first, paired)
    return paired


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
    shown = ", ".join(repr(one) for one in ids[:SHOWN_IDS]) + (", ..." if len(ids) > SHOWN_IDS else "")
    return f"{len(ids)} ids ({shown})" if ids else "0 ids"


def _no_scores(run: RunDir, split: str) -> MissingError:
    scored = sorted(path.parent.name for path in run.path.glob("eval/*/predictions.jsonl"))
    there = f" (only of: {', '.join(scored)})" if scored else ""
    option = "--data FILE" if split.startswith("file-") else f"--split {shlex.quote(split)}"
    return MissingError(
        f"{run.path} has no scores of the split {split!r}{there}. Make them first:\n"
        f"  finetune evaluate {shlex.quote(str(run.path))} {option}"
    )


def _read_rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a predictions file, all of one form."""
    rows: list[dict[str, Any]] = []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = _parsed(line)
                if problem := _row_problem(row, rows[0] if rows else row):
                    raise DataError(f"{file}:{number}: {problem}")
                rows.append(row)
    except (OSError, UnicodeDecodeError) as err:
        raise DataError(f"{file}: cannot be read as JSON Lines ({getattr(err, 'strerror', None) or err}).") from err
    if not rows:
        raise DataError(f"{file} has no rows.")
    return rows


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _row_problem(row: Any, first: Any) -> str | None:
    """Why a row cannot be compared; `first` is the row whose form all have."""
    if not isinstance(row, dict):
        return "not a JSON object. Expected the predictions.jsonl that `finetune evaluate` writes."
    missing = [key for key in ("id", "label", "prediction") if row.get(key) is None]
    if missing:
        return (
            f"no {' and no '.join(missing)}. Expected the predictions.jsonl that `finetune evaluate` writes "
            "(`finetune predict` knows no labels)."
        )
    if not isinstance(row["id"], str | int | float):
        return f"the id is {row['id']!r}; expected text or a number."
    if isinstance(first["label"], str | list):
        return _class_problem(row, first)
    if not all(_is_number(row[key]) for key in ("label", "prediction")):
        return f"label {row['label']!r} and prediction {row['prediction']!r}; expected class names, or numbers."
    return None


def _class_problem(row: dict[str, Any], first: dict[str, Any]) -> str | None:
    probabilities, classes = row.get("probabilities"), first.get("probabilities")
    if not isinstance(probabilities, dict) or not isinstance(classes, dict) or probabilities.keys() != classes.keys():
        expected = f" of {', '.join(classes)}" if isinstance(classes, dict) else ""
        return f"expected the probabilities{expected}, as `finetune evaluate` writes them."
    if not all(map(_is_number, probabilities.values())):
        return "a probability is not a number."
    for key in ("label", "prediction"):
        several = isinstance(first["label"], list)
        names = row[key] if several and isinstance(row[key], list) else [row[key]]
        if several != isinstance(row[key], list) or not all(isinstance(name, str) for name in names):
            return f"{key} {row[key]!r}; expected {'a list of class names' if several else 'a class name'}."
        if unknown := [name for name in names if name not in probabilities]:
            return f"{key} {unknown[0]!r} is none of the classes {', '.join(probabilities)}."
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_arrays(name: str, config: RunConfig | None, ids: list[Any], rows: list[dict[str, Any]]) -> ScoredRun:
    labels, predictions = ([row[key] for row in rows] for key in ("label", "prediction"))
    if not isinstance(labels[0], str | list):
        return ScoredRun(name, config, ids, None, np.array(labels, float), np.array(predictions, float), None)
    classes = tuple(rows[0]["probabilities"])
    number = {one: index for index, one in enumerate(classes)}

    def numbered(answers: list[Any]) -> Array:
        if isinstance(labels[0], str):
            return np.array([number[answer] for answer in answers])
        return np.array([[one in answer for one in classes] for answer in answers])

    probabilities = np.array([[row["probabilities"][one] for one in classes] for row in rows], float)
    return ScoredRun(name, config, ids, classes, numbered(labels), numbered(predictions), probabilities)
