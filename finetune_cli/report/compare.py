"""The page of `compare --html`: the sides, their differences, the rows on which they disagree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError
from finetune_cli.records.comparison import CompareReport, Comparison
from finetune_cli.report.charts import domain_of, whisker
from finetune_cli.report.disagreement import Disagreement, disagreement
from finetune_cli.report.page import RawRows
from finetune_cli.report.rendering import render_html
from finetune_cli.report.write import read_raw
from finetune_cli.runs.answers import Answers, in_order_of, read_answers
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.sources import data_sources
from finetune_cli.system.files import replacing
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
    found = [disagreement(answers[a], answers[b]) for a, b in report.pairs]
    wanted = {int(row) for one in found for rows in (one.for_a, one.for_b) for row in rows[:MAX_ROWS]}
    raw = _texts([side.runs[0] for side in report.sides], split, first, wanted)
    pairs = [
        _pair(report, a, b, (answers[a], answers[b]), one, raw) for (a, b), one in zip(report.pairs, found, strict=True)
    ]
    html = render_html(
        "compare.html",
        report=report,
        titles=[_title(side.runs) for side in report.sides],
        pairs=pairs,
        regression=first.classes is None,
        problem=raw.problem,
        whisker=whisker,
    )
    try:
        with replacing(path) as file:
            file.write(html)
    except OSError as err:
        raise ConfigError(f"--html {path}: cannot write it: {err.strerror or err}. Name another file.") from err


def _pair(
    report: CompareReport, a: str, b: str, answers: tuple[Answers, Answers], found: Disagreement, raw: RawRows
) -> Pair:
    comparisons = [one for one in report.comparisons if (one.a, one.b) == (a, b)]
    ends = [end for one in comparisons for end in (one.low, one.high, one.difference)]
    return Pair(
        a,
        b,
        comparisons,
        domain_of([0.0, *ends], step=0.02),
        found,
        _rows(answers, found.for_a[:MAX_ROWS], raw),
        _rows(answers, found.for_b[:MAX_ROWS], raw),
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
