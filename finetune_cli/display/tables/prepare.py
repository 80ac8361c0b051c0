"""What `finetune prepare` prints: rows, labels, lengths and findings of every split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.preparation import Finding, PrepareReport, SplitReport, finding_lines

HISTOGRAM_WIDTH = 40
SHOWN_LABEL_COUNTS = 5


def prepare_result(
    out: Output, directory: Path, label_names: Sequence[str] | None, report: PrepareReport, examples: Sequence[Any]
) -> None:
    """Rows, labels and lengths of every split, and where the tokenised data are. examples: ShownExample records."""
    if out.as_json:
        import dataclasses

        shown = {"examples": [dataclasses.asdict(example) for example in examples]} if examples else {}
        out.json({"directory": str(directory), "label_names": label_names, **report.to_json(), **shown})
        return
    splits = report.splits
    out.table(
        ["split", "rows", "median tokens", "95 %", "longest", "truncated", "empty"],
        [_length_row(name, split) for name, split in splits.items()],
    )
    out.line()
    for name, split in splits.items():
        _split(out, name, split)
        if report.windows:
            out.line(f"windows of {name}: {report.windows[name]}, {report.windows[name] / split.rows:.1f} a row")
    if baseline := _majority_baseline(splits):
        out.line(baseline)
    out.line()
    out.heading(f"Tokens of a row in train (limit {report.max_length})")
    for line in histogram_lines(splits["train"].histogram):
        out.line(f"  {line}")
    out.line()
    _findings(out, report.findings)
    out.line()
    if padding := report.padding:
        out.line(
            f"Padding in batches of {padding.batch_size}: {padding.random:.1%} in random order, "
            f"{padding.length:.1%} with rows of similar length together."
        )
    origin = "Tokenised before, used again" if report.reused else f"Tokenised in {report.seconds:.1f} s"
    out.line(f"{origin}: {directory}")
    for example in examples:
        label = "" if example.label is None else f", label {example.label}"
        if isinstance(example.label, list):
            label = f", labels {', '.join(example.label)}" if example.label else ", no label"
        out.line()
        out.heading(f"{example.split}, id {example.id}{label}, {counted(len(example.tokens), 'token')}")
        out.line(f"  {example.text}")


def _split(out: Output, name: str, split: SplitReport) -> None:
    """The labels of a split, the rows without one, and what of its texts is cut off."""
    total = split.rows if split.labels_per_row else sum((split.labels or {}).values())
    out.line(f"labels of {name}: {_label_counts(split.labels, max(total, 1))}")
    if split.unlabelled:
        out.line(f"left out of {name}: {counted(split.unlabelled, 'row')} without a label")
    if split.labels_per_row:
        sizes = ", ".join(f"{size} in {count}" for size, count in split.labels_per_row.items())
        out.line(f"labels of a row in {name}: {sizes} of {counted(split.rows, 'row')}")
    if split.lost_share:
        out.line(f"cut off of {name}: {_lost(split)}")


def _majority_baseline(splits: Mapping[str, SplitReport]) -> str | None:
    """The accuracy of the largest class of train on validation; None without classes, or with several labels a row."""
    train, validation = (splits[name].labels if name in splits else None for name in ("train", "validation"))
    if not train or not validation or splits["train"].labels_per_row:
        return None
    largest = max(train, key=train.__getitem__)
    share = validation[largest] / sum(validation.values())
    return f"always answering {largest}: accuracy {share:.3f} on validation"


def _findings(out: Output, findings: Sequence[Finding]) -> None:
    """The findings of the data checks, each with its rows, and what to do."""
    if not findings:
        out.line("Data checks: nothing found.")
        return
    out.heading(f"Data checks: {counted(len(findings), 'warning')}")
    for line in finding_lines(findings):
        out.line(f"  {line}")


def _length_row(name: str, split: SplitReport) -> list[str]:
    lengths = split.lengths
    truncated = f"{split.truncated} ({split.truncated_share:.1%})" if split.truncated else "0"
    numbers = [split.rows, lengths["median"], lengths["q95"], lengths["max"], truncated, split.empty_texts]
    return [name, *map(str, numbers)]


def _lost(split: SplitReport) -> str:
    """The share of tokens that was cut off, and of the classes that lost the most."""
    ordered = sorted((split.lost_by_class or {}).items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {share:.1%}" for name, share in ordered[:SHOWN_LABEL_COUNTS])
    return f"{split.lost_share:.1%} of all tokens{f' ({shown})' if shown else ''}"


def _label_counts(counts: Mapping[str, int] | None, total: int) -> str:
    if counts is None:
        return "-"
    in_words = [f"{name} {count} ({count / total:.1%})" for name, count in sorted(counts.items(), key=lambda c: -c[1])]
    rest = in_words[SHOWN_LABEL_COUNTS:]
    if len(rest) < 2:
        return ", ".join(in_words)
    shown = ", ".join(in_words[:SHOWN_LABEL_COUNTS])
    return f"{shown} and {len(rest)} more classes, the smallest with {min(counts.values())}"


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
