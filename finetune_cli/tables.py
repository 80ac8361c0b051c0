"""The results of the commands as people read them; with --json, the same as one document."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import Problem
from finetune_cli.progress import duration
from finetune_cli.records import ComparedSide, CompareReport, EvalReport, TrainReport
from finetune_cli.run_dir import RunDir

if TYPE_CHECKING:
    from finetune_cli.config import RunConfig
    from finetune_cli.terminal import Output

HISTOGRAM_WIDTH = 40
SHOWN_CLASSES = 5  # of a confusion matrix, so that it fits 80 columns
SHOWN_NAME = 10  # characters of a class name over a column, so that five of them fit
SHOWN_LABEL_COUNTS = 5
SHOWN_CONFUSIONS = 10


def validate_result(out: Output, path: Path, config: RunConfig | None, problems: Sequence[Problem]) -> None:
    """The problems themselves are on stderr, as the error that they are."""
    if out.as_json:
        import dataclasses

        resolved = config.model_dump(mode="json") if config else None
        out.json(
            {"valid": config is not None, "problems": [dataclasses.asdict(p) for p in problems], "config": resolved}
        )
    else:
        out.line(f"{path} is valid.")


def prepare_result(
    out: Output, directory: Path, label_names: Sequence[str] | None, report: Mapping[str, Any], examples: Sequence[Any]
) -> None:
    """Rows, labels and lengths of every split, and where the tokenised data lie. examples: ShownExample records."""
    if out.as_json:
        import dataclasses

        shown = {"examples": [dataclasses.asdict(example) for example in examples]} if examples else {}
        out.json({"directory": str(directory), "label_names": label_names, **report, **shown})
        return
    splits: Mapping[str, Any] = report["splits"]
    out.table(
        ["split", "rows", "median tokens", "95 %", "longest", "truncated", "empty"],
        [_length_row(name, split) for name, split in splits.items()],
    )
    out.line()
    for name, split in splits.items():
        out.line(f"labels of {name}: {_label_counts(split['labels'])}")
    out.line()
    out.heading(f"Tokens of a row in train (limit {report['max_length']})")
    for line in histogram_lines(splits["train"]["histogram"]):
        out.line(f"  {line}")
    out.line()
    padding = report["padding"]
    out.line(
        f"Padding in batches of {padding['batch_size']}: {padding['random']:.1%} in random order, "
        f"{padding['length']:.1%} with rows of similar length together."
    )
    done = "Tokenised before, used again" if report["reused"] else f"Tokenised in {report['seconds']:.1f} s"
    out.line(f"{done}: {directory}")
    for example in examples:
        label = "" if example.label is None else f", label {example.label}"
        out.line()
        out.heading(f"{example.split} {example.id}{label}, {len(example.tokens)} tokens")
        out.line(f"  {example.text}")


def _length_row(name: str, split: Mapping[str, Any]) -> list[str]:
    lengths = split["lengths"]
    truncated = f"{split['truncated']} ({split['truncated_share']:.1%})" if split["truncated"] else "0"
    numbers = [split["rows"], lengths["median"], lengths["q95"], lengths["max"], truncated, split["empty_texts"]]
    return [name, *map(str, numbers)]


def _label_counts(counts: Mapping[str, int] | None) -> str:
    if counts is None:
        return "-"
    total = max(sum(counts.values()), 1)
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {count} ({count / total:.1%})" for name, count in ordered[:SHOWN_LABEL_COUNTS])
    rest = len(ordered) - SHOWN_LABEL_COUNTS
    return f"{shown} and {rest} more classes, the smallest with {ordered[-1][1]}" if rest > 0 else shown


def histogram_lines(bins: Sequence[tuple[int, int | None, int]]) -> list[str]:
    """Bars of `#`; empty bins at the end are left out. bins: [from, to, rows], `to` None for the truncated rows."""
    filled = [number for number, (_, _, rows) in enumerate(bins) if rows]
    shown = bins[: filled[-1] + 1] if filled else []
    most = max((rows for _, _, rows in shown), default=1)
    labels = [f"{low}-{high}" if high is not None else f"{low}+" for low, high, _ in shown]
    width = max(map(len, labels), default=0)
    count_width = max((len(str(rows)) for _, _, rows in shown), default=0)
    return [
        f"{label:>{width}}  {rows:>{count_width}}  {'#' * -(-rows * HISTOGRAM_WIDTH // most)}".rstrip()
        for label, (_, _, rows) in zip(labels, shown, strict=True)
    ]


def train_result(out: Output, report: TrainReport, *, pair: bool) -> None:
    """The closing table of a run: scores, where things lie, what to type next."""
    if out.as_json:
        out.json(report.to_json())
        return
    run = RunDir(report.run_dir)
    out.line()
    for evaluation in report.evaluations:
        scores(out, evaluation)
        out.line()
    if report.already_finished:
        out.line(
            f"Finished before, after {report.steps} updates; nothing was trained. Best: update {report.best_step}."
        )
    else:
        resumed = f", going on from update {report.resumed_from}" if report.resumed_from else ""
        out.line(
            f"{report.steps} updates in {duration(report.seconds)} ({report.rows_per_second:.0f} rows/s){resumed}. "
            f"Best: update {report.best_step}."
        )
    out.line()
    out.line(f"  model      {run.model}")
    out.line(f"  scores     {run.path / 'eval'}")
    out.line(f"  history    {run.history}")
    out.line(f"  log        {run.log}")
    out.line()
    out.heading("Next")
    name = shlex.quote(str(run.path))
    second = ' --text-pair "..."' if pair else ""
    out.line(f"  finetune evaluate {name}")
    out.line(f'  finetune predict {name} --text "..."{second}')


def scores(out: Output, report: EvalReport) -> None:
    """`f1 0.899 [0.872, 0.923] n=408` for each metric, with the baseline beside it."""
    out.heading(f"{report.split}: {report.n} rows, loss {report.loss:.4f}")
    baseline = "always the commonest class" if report.per_class else "always the mean"
    header = ["score", baseline] if report.baseline else ["score"]
    rows = []
    for name, metric in report.metrics.items():
        beside = [f"{report.baseline[name]:.3f}" if name in report.baseline else "-"] if report.baseline else []
        rows.append([f"{name} {metric} n={report.n}", *beside])
    out.table(header, rows)


def evaluate_result(out: Output, report: EvalReport) -> None:
    """All that is known of the scores of one split."""
    if out.as_json:
        out.json(report.to_json())
        return
    scores(out, report)
    if not report.per_class:
        return
    out.line()
    out.table(
        ["class", "precision", "recall", "f1", "rows"],
        [
            [one.label, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", str(one.support)]
            for one in report.per_class
        ],
    )
    out.line()
    _confusion(out, report)


def _confusion(out: Output, report: EvalReport) -> None:
    """The whole matrix of a few classes, the commonest mistakes of many."""
    names, corner = [one.label for one in report.per_class], r"true \ predicted"
    if len(names) <= SHOWN_CLASSES:
        rows = [
            [shortened(name, len(corner)), *map(str, counts)]
            for name, counts in zip(names, report.confusion, strict=True)
        ]
        out.table([corner, *(shortened(name) for name in names)], rows)
        return
    mistakes = [
        (count, names[true], names[predicted])
        for true, counts in enumerate(report.confusion)
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    mistakes.sort(key=lambda mistake: -mistake[0])
    if not mistakes:
        out.line("  No mistakes.")
        return
    shown = mistakes[:SHOWN_CONFUSIONS]
    out.table(
        ["true", "predicted", "rows"], [[true, predicted, str(count)] for count, true, predicted in shown], left=2
    )
    if len(mistakes) > len(shown):
        out.line(f"  and {len(mistakes) - len(shown)} rarer kinds of mistake")


def shortened(name: str, width: int = SHOWN_NAME) -> str:
    return name if len(name) <= width else f"{name[: width - 3]}..."


def compare_result(out: Output, report: CompareReport) -> None:
    """Who is compared, what differs in the configs, the scores side by side, and a sentence for each difference."""
    if out.as_json:
        out.json(report.to_json())
        return
    names = [side.name for side in report.sides]
    out.heading(_compared_rows(report))
    for side in report.sides:
        out.line(f"  {side.name}  {', '.join(side.runs)}")
    if report.config_differences:
        out.line()
        rows = [
            [one.key, *(_setting(one.values[name]) if name in one.values else "-" for name in names)]
            for one in report.config_differences
        ]
        out.table(["config", *names], rows)
    out.line()
    metrics = report.sides[0].metrics
    out.table(["score", *names], [[name, *(_side_score(side, name) for side in report.sides)] for name in metrics])
    out.line()
    for sentence in _comparison_sentences(report):
        out.line(sentence)
    out.line()
    out.line(_comparison_method(report))


def compare_markdown(out: Output, report: CompareReport) -> None:
    """The same for a pull request: one table of settings and scores, and the sentences as a list."""
    names = [side.name for side in report.sides]
    out.line(f"**{_compared_rows(report)}**")
    out.line()
    for side in report.sides:
        out.line(f"- **{side.name}**: {', '.join(map(_code, side.runs))}")
    out.line()
    out.line(f"| | {' | '.join(names)} |")
    out.line(f"| --- |{' ---: |' * len(names)}")
    for one in report.config_differences:
        values = [_code(_setting(one.values[name])) if name in one.values else "-" for name in names]
        out.line(f"| {_code(one.key)} | {' | '.join(values)} |")
    for metric in report.sides[0].metrics:
        out.line(f"| **{metric}** | {' | '.join(_side_score(side, metric) for side in report.sides)} |")
    out.line()
    for sentence in _comparison_sentences(report):
        out.line(f"- {sentence}")
    out.line()
    out.line(_comparison_method(report))


def _compared_rows(report: CompareReport) -> str:
    rows = f"{report.n:,} rows, paired by id"
    return rows if report.split is None else f"{report.split}: {rows}"


def _side_score(side: ComparedSide, metric: str) -> str:
    return f"{side.metrics[metric]} sd {side.sd[metric]:.3f}" if side.sd else str(side.metrics[metric])


def _comparison_sentences(report: CompareReport) -> list[str]:
    return [
        one.sentence
        if one.only_a is None
        else f"{one.sentence} Rows that one alone has right: {one.a} {one.only_a}, {one.b} {one.only_b}."
        for one in report.comparisons
    ]


def _comparison_method(report: CompareReport) -> str:
    level = f"{100 * report.level:g} % intervals, {report.samples:,} resamples"
    if report.seeds:
        return f"Means over seeds; tests by Student's t over seeds and rows; {level}."
    return (
        f"Accuracy by McNemar's test, the rest by paired bootstrap; {level}. This tells these models apart; for their "
        "settings, compare two or more seeds of each."
    )


def _setting(value: Any) -> str:
    """A value of the config on one line, as its file would have it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_setting, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _code(text: str) -> str:
    """Text as a code span that no character of it can break out of, nor out of a table's cell."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"
