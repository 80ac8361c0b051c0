"""The page of `compare --html`: the sides, their differences, the rows on which they disagree.

Dimensions: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError
from finetune_cli.evaluation.confusion import FloatArray, IntArray
from finetune_cli.records.comparison import CompareReport, Comparison
from finetune_cli.report.charts import domain_of
from finetune_cli.report.page import RawRows
from finetune_cli.report.rendering import render_html
from finetune_cli.report.write import read_raw
from finetune_cli.runs.answers import Answers, in_order_of, read_answers
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.sources import data_sources
from finetune_cli.system.files import write_text
from finetune_cli.system.places import in_home

MAX_ROWS = 12  # for each side of each pair


@dataclass(frozen=True)
class DisagreedRow:
    """A row with both answers."""

    id: object
    label: str
    a: str
    b: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Disagreement:
    """Row numbers, those with the largest change first. both_right, both_wrong: counts; None in regression."""

    for_a: IntArray
    for_b: IntArray
    both_right: int | None
    both_wrong: int | None

    def shown(self) -> IntArray:
        return np.concatenate([self.for_a[:MAX_ROWS], self.for_b[:MAX_ROWS]])


@dataclass(frozen=True)
class Pair:
    """One side against the first. Of several seeds the rows are those of each side's first run."""

    a: str
    b: str
    comparisons: list[Comparison]
    domain: tuple[float, float]
    counts: Disagreement
    for_a: list[DisagreedRow]
    for_b: list[DisagreedRow]


def write_comparison(path: Path, report: CompareReport) -> None:
    """Write the comparison as one HTML file. Raises ConfigError when it cannot be written."""
    split = report.split or "validation"
    first, *others = [read_answers(_predictions(side.runs[0], split)) for side in report.sides]
    names = [side.name for side in report.sides]
    answers = dict(zip(names, [first, *(in_order_of(first, other) for other in others)], strict=True))
    counts = {(a, b): disagreement(answers[a], answers[b]) for a, b in report.pairs}
    shown = {int(row) for of_pair in counts.values() for row in of_pair.shown()}
    raw = _texts([side.runs[0] for side in report.sides], split, first, shown)
    pairs = [_pair(report, a, b, (answers[a], answers[b]), of_pair, raw) for (a, b), of_pair in counts.items()]
    html = render_html(
        "compare.html",
        report=report,
        titles=[_title(side.runs) for side in report.sides],
        pairs=pairs,
        regression=first.classes is None,
        problem=raw.problem,
    )
    try:
        write_text(path, html)
    except OSError as err:
        raise ConfigError(f"--html {path}: cannot write it: {err.strerror or err}. Name another file.") from err


def disagreement(a: Answers, b: Answers) -> Disagreement:
    """Where one is right and the other wrong; in regression where one is nearer. Rows of a and b are the same."""
    change = _quality(b) - _quality(a)
    if a.classes is None:
        order = np.argsort(change, kind="stable")
        return Disagreement(order[change[order] < 0], order[change[order] > 0][::-1], None, None)
    right_a, right_b = a.correct(), b.correct()
    only_a, only_b = np.flatnonzero(right_a & ~right_b), np.flatnonzero(right_b & ~right_a)
    return Disagreement(
        only_a[np.argsort(change[only_a], kind="stable")],
        only_b[np.argsort(-change[only_b], kind="stable")],
        int((right_a & right_b).sum()),
        int((~right_a & ~right_b).sum()),
    )


def _quality(answers: Answers) -> FloatArray:
    """The higher the better: the probability of the truth, or in regression the distance from it, negated."""
    return answers.task.probability_of_truth(answers.labels, answers.scores)


def _pair(
    report: CompareReport, a: str, b: str, answers: tuple[Answers, Answers], counts: Disagreement, raw: RawRows
) -> Pair:
    comparisons = [metric for metric in report.comparisons if (metric.a, metric.b) == (a, b)]
    ends = [end for metric in comparisons for end in (metric.low, metric.high, metric.difference)]
    return Pair(
        a,
        b,
        comparisons,
        domain_of([0.0, *ends], step=0.02),
        counts,
        _rows(answers, counts.for_a[:MAX_ROWS], raw),
        _rows(answers, counts.for_b[:MAX_ROWS], raw),
    )


def _rows(answers: tuple[Answers, Answers], rows: Iterable[int], raw: RawRows) -> list[DisagreedRow]:
    a, b = answers
    return [
        DisagreedRow(a.ids[row], a.label_of(row), a.prediction_of(row), b.prediction_of(row), raw.texts.get(row, ()))
        for row in map(int, rows)
    ]


def _title(runs: Sequence[str]) -> str:
    """The directory's name; of several seeds that of the directory which holds them."""
    path = in_home(runs[0]).resolve()
    return path.name if len(runs) == 1 else path.parent.name


def _predictions(name: str, split: str) -> Path:
    path = in_home(name)
    return RunDir(path).evaluation(split) / "predictions.jsonl" if path.is_dir() else path


def _texts(names: Sequence[str], split: str, answers: Answers, wanted: set[int]) -> RawRows:
    """The texts of the rows, found by the config of the first run that has one."""
    runs = [RunDir(name) for name in names]
    run = next((run for run in runs if run.config.is_file()), None)
    if run is None or split.startswith("file-"):
        return RawRows(problem="Predictions files and rows scored with --data do not say where their texts are.")
    config = load_config(run.config)
    return read_raw(
        lambda: data_sources(config, offline=True)[split],
        answers.ids,
        wanted,
        text=config.data.text,
        slices=(),
        id_column=config.data.id,
        limit=config.data.limit,
    )
