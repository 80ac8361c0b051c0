"""Rows to tokenised splits: one pass over each source, checked as it goes, with a report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.data.checks.labels import (
    balance_findings,
    blank_finding,
    joined_finding,
    spelling_finding,
    unseen_finding,
)
from finetune_cli.data.checks.repeats import TextHashes
from finetune_cli.data.checks.rows import checked_rows
from finetune_cli.data.checks.split import SplitChecks
from finetune_cli.data.formats.row import BadRow, Values, good_rows, id_columns, row_id
from finetune_cli.data.label_sets import Column, LabelSets, label_cell, label_reader, named_label, set_numbers
from finetune_cli.data.labels import NumberLabels, all_of
from finetune_cli.data.long_texts import LongTexts, LostTokens, kept_as
from finetune_cli.data.prepared import FORMAT
from finetune_cli.data.source_files import Source
from finetune_cli.data.tokenization import BATCH_ROWS, EncodedBatch, TextEncoder
from finetune_cli.data.windows import WindowSettings
from finetune_cli.data.writing import SplitWriter
from finetune_cli.errors import DataError
from finetune_cli.records.preparation import Finding, PrepareReport, SplitReport
from finetune_cli.system.read_ahead import read_ahead
from finetune_cli.tasks import KIND_SPECS, Kind

HISTOGRAM_BINS = 16
HEAD_ROWS = 1000  # in JSON Lines a row may leave a column out
QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}


@dataclass(frozen=True)
class TextSettings:
    """What of each row is used, and how it is encoded: everything beside data and tokenizer that decides the result.

    text: one or two columns. label: the label column, or the columns of several labels a row. labels: class names, or
    None to take them from train. kind: "classification", "multilabel" or "regression". id: data.id; see `row_id`.
    max_length: tokens, special ones included. truncation, long_texts: what is kept of longer rows; see TextEncoder.
    limit: rows to take of each split, or None for all.
    """

    text: tuple[str, ...]
    label: Column
    labels: tuple[str, ...] | None
    kind: Kind
    id: str | None
    max_length: int
    truncation: str
    limit: int | None
    long_texts: LongTexts = None

    @property
    def label_columns(self) -> tuple[str, ...]:
        return (self.label,) if isinstance(self.label, str) else self.label


def content_key(sources: Mapping[str, Source], settings: TextSettings, tokenizer: str) -> str:
    """SHA-256 of all that decides the prepared data; `tokenizer` is its fingerprint."""
    content = {
        "format": FORMAT,
        "splits": {split: source.fingerprint for split, source in sources.items()},
        "declared_labels": {split: source.label_names for split, source in sources.items()},
        "settings": asdict(settings) | {"long_texts": kept_as(settings.long_texts)},
        "tokenizer": tokenizer,
        "tokenizers": version("tokenizers"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def require_columns(source: Source, columns: Sequence[str], *, key: str) -> None:
    """Raise DataError when the first rows lack one of `columns`. key: the config's key that names them."""
    if not columns:
        return
    head = islice(good_rows(source.open(None)), HEAD_ROWS)
    present = list(dict.fromkeys(name for _, values in head for name in values))
    if missing := [name for name in columns if name not in present]:
        raise DataError(
            f"{source.where}: expected the {'columns' if len(missing) > 1 else 'column'} "
            f"{', '.join(map(repr, missing))}; found {', '.join(map(repr, present))}. Name yours in {key}."
        )


def column_names(source: Source) -> list[str]:
    """The columns of the first row."""
    return list(next(good_rows(source.open(None)))[1])


def train_texts(source: Source, settings: TextSettings) -> Iterator[str]:
    """All texts of a split, for training a vocabulary."""
    for _, values in _rows(source, settings, must_have_labels=True):
        yield from (values[column] for column in settings.text)


def prepare_splits(
    sources: Mapping[str, Source], settings: TextSettings, encoder: TextEncoder, directory: Path
) -> dict[str, Any]:
    """Tokenise every split into `directory`, train first; returns `label_names` and `report` for the manifest.

    The report has all that the data checks found, whatever level the config gives them. Raises DataError for rows,
    labels and columns that do not fit.
    """
    start = time.perf_counter()
    names: Sequence[str] | None = None
    if KIND_SPECS[settings.kind].has_classes:
        names = settings.labels or (sources["train"].label_names if isinstance(settings.label, str) else settings.label)
    reports: dict[str, SplitReport] = {}
    findings: list[Finding] = []
    seen: list[TextHashes] = []
    for split, source in sources.items():
        split_pass = _SplitPass(split, source, settings, encoder, directory / "splits" / split)
        reports[split], names = split_pass.run(names)
        in_train = reports["train"].labels if "train" in reports else None
        findings += split_pass.findings(names, in_train, seen)
        seen.append(split_pass.checks.hashes)
    counts = {split: report.labels for split, report in reports.items() if report.labels}
    several = KIND_SPECS[settings.kind].several_labels
    rows_of_train = reports["train"].rows if "train" in reports and several else None
    findings += balance_findings(
        counts, {split: source.where for split, source in sources.items()}, rows_of_train=rows_of_train
    )
    seconds = time.perf_counter() - start
    rows = sum(report.rows for report in reports.values())
    report = PrepareReport(settings.max_length, reports, round(seconds, 3), round(rows / seconds, 1), findings)
    return {"label_names": names and list(names), "report": report.to_json()}


def _rows(source: Source, settings: TextSettings, *, must_have_labels: bool) -> Iterator[tuple[int, Values]]:
    required = dict.fromkeys(settings.label_columns, "data.label") if must_have_labels else {}
    required |= {settings.id: "data.id"} if settings.id else {}
    rows = source.open(_columns(source, settings))
    checked = checked_rows(rows, where=source.where, text=settings.text, required=required, id_column=settings.id)
    return islice(good_rows(checked), settings.limit)


def _columns(source: Source, settings: TextSettings) -> list[str]:
    """The columns to read. One that is not there would have all of them read, and the usual ids need not be there."""
    columns = [*settings.text, *settings.label_columns]
    if settings.id is not None:
        return [*columns, settings.id]
    first = next((row for row in source.open(None) if not isinstance(row, BadRow)), (0, {}))
    return [*columns, *(name for name in id_columns(None) if name in first[1])]


class _SplitPass:
    """One pass over one split."""

    def __init__(self, split: str, source: Source, settings: TextSettings, encoder: TextEncoder, folder: Path) -> None:
        self.split = split
        self.source = source
        self.settings = settings
        self.encoder = encoder
        self.may_be_unlabelled = split.startswith("test")
        self.labels = label_reader(settings.kind, source.where, settings.label, source.label_names)
        self.in_windows = isinstance(settings.long_texts, WindowSettings)
        self.writer = SplitWriter(
            folder, token_types=encoder.has_token_types, label_dtype=self.labels.dtype, windows=self.in_windows
        )
        # How many rows have 0, 1 ... max_length tokens before truncation; the last place counts all longer ones.
        self.length_counts = np.zeros(settings.max_length + 2, np.int64)
        self.lost = LostTokens()
        self.lost_by_class: dict[str, float] | None = None
        lost = None if self.in_windows else self.lost
        self.checks = SplitChecks(split, source.where, max_length=settings.max_length, folder=folder, lost=lost)
        self.labels_per_row: dict[str, int] | None = None

    def run(self, names: Sequence[str] | None) -> tuple[SplitReport, Sequence[str] | None]:
        """Write the split; returns its report and the class names, found here if None were given."""
        rows = _rows(self.source, self.settings, must_have_labels=not self.may_be_unlabelled)
        batches = iter(lambda: list(islice(rows, BATCH_ROWS)), [])
        # A second thread reads and encodes the next rows while this one checks and writes.
        with self.writer, closing(read_ahead((batch, self._encode(batch)) for batch in batches)) as encoded:
            for batch, tokens in encoded:
                self._append(batch, tokens)
        num_rows = int(self.length_counts.sum())
        if not num_rows:
            raise DataError(f"{self.source.where} has no rows. Expected at least one.")
        if self.checks.scan.empty.count == num_rows:
            rows_of_all = all_of(num_rows)
            raise DataError(f"{self.source.where}: the text is empty in {rows_of_all}. Is data.text the right column?")
        label_counts, names = self._finish_labels(names)
        return self._report(num_rows, label_counts), names

    def _encode(self, batch: list[tuple[int, Values]]) -> EncodedBatch:
        texts, *pairs = self._columns(batch)
        try:
            return self.encoder.encode(texts, pairs[0] if pairs else None, rows=[row for row, _ in batch])
        except DataError as err:
            raise DataError(f"{self.source.where}, {err}") from err

    def _columns(self, batch: list[tuple[int, Values]]) -> list[list[str]]:
        return [[values[column] for _, values in batch] for column in self.settings.text]

    def _append(self, batch: list[tuple[int, Values]], encoded: EncodedBatch) -> None:
        ids = [row_id(row, values, self.settings.id) for row, values in batch]
        labels = [self.labels.add(row, label_cell(values, self.settings.label)) for row, values in batch]
        self.writer.append(encoded, ids, labels)
        self.checks.add([row for row, _ in batch], self._columns(batch), encoded.true_lengths)
        if any(value is not row for value, (row, _) in zip(ids, batch, strict=True)):
            self.checks.add_ids([row for row, _ in batch], ids)
        more = max(0, int(encoded.true_lengths.max()) + 1 - len(self.length_counts))
        self.length_counts = np.pad(self.length_counts, (0, more))
        self.length_counts += np.bincount(encoded.true_lengths, minlength=len(self.length_counts))
        codes = None if isinstance(self.labels, NumberLabels) else np.array(labels)
        self.lost.add(encoded.true_lengths, np.diff(encoded.offsets), codes)

    def _finish_labels(self, names: Sequence[str] | None) -> tuple[dict[str, int] | None, Sequence[str] | None]:
        if isinstance(self.labels, NumberLabels):
            if not self.labels.check(may_be_unlabelled=self.may_be_unlabelled):
                self.writer.drop_labels()
            return None, None
        names = self.labels.names() if names is None else names
        numbers = self.labels.numbers(names, may_be_unlabelled=self.may_be_unlabelled)
        if numbers is None:
            self.writer.drop_labels()
            return None, names
        self.writer.map_labels(numbers)
        self.lost_by_class = self.lost.by_class(numbers, names)
        if isinstance(self.labels, LabelSets):
            self.labels_per_row = self.labels.labels_per_row(numbers)
        return self.labels.counts(numbers, names), names

    def _report(self, num_rows: int, label_counts: dict[str, int] | None) -> SplitReport:
        ends = np.cumsum(self.length_counts)
        last = self.settings.max_length + 1
        quantiles = {name: int(np.searchsorted(ends, max(share * num_rows, 1))) for name, share in QUANTILES.items()}
        width = -(-self.settings.max_length // HISTOGRAM_BINS)
        edges = range(1, last, width)
        histogram: list[tuple[int, int | None, int]] = [
            (low, min(low + width, last) - 1, int(self.length_counts[low : min(low + width, last)].sum()))
            for low in edges
        ]
        return SplitReport(
            where=self.source.where,
            fingerprint=self.source.fingerprint,
            rows=num_rows,
            unlabelled=self.source.left_out() if self.source.left_out else 0,
            labels=label_counts,
            lengths=quantiles | {"max": int(np.flatnonzero(self.length_counts)[-1])},
            histogram=[*histogram, (last, None, int(self.length_counts[last:].sum()))],
            truncated=self.lost.rows,
            truncated_share=self.lost.rows / num_rows,
            empty_texts=self.checks.scan.empty.count,
            labels_per_row=self.labels_per_row,
            lost_share=self.lost.share,
            lost_by_class=self.lost_by_class,
        )

    def findings(
        self, names: Sequence[str] | None, in_train: Mapping[str, int] | None, seen: Sequence[TextHashes]
    ) -> list[Finding]:
        """What the checks found, once `run` is through.

        in_train: rows of each class in train, None where there is no train. seen: the splits before this one.
        """
        path = self.writer.folder / "labels.npy"
        labels = np.load(path, mmap_mode="r") if path.exists() else None

        def label_of(place: int) -> str:
            label = None if labels is None else named_label(labels[place], names)
            if isinstance(label, list):
                return " and ".join(map(repr, label)) or "no label"
            return repr(label) if isinstance(label, str) else f"{label:g}"

        one_each = labels if labels is None or labels.ndim == 1 else set_numbers(labels)[1]
        found = self.checks.findings(one_each, label_of, seen, self._texts_at)
        if labels is None or names is None or in_train is None:
            return found
        rows, where = self.checks.hashes.rows, self.source.where
        if self.split == "train":
            checks = (spelling_finding, blank_finding, joined_finding)
            odd = [check(labels, rows, names, where) for check in checks]
        else:
            odd = [unseen_finding(labels, rows, names, in_train, split=self.split, where=where)]
        return [*found, *(finding for finding in odd if finding)]

    def _texts_at(self, rows: Sequence[int]) -> dict[int, str]:
        """The texts of a few rows, read once more."""
        missing, texts = set(rows), {}
        for row, values in _rows(self.source, self.settings, must_have_labels=False) if missing else ():
            if row in missing:
                texts[row] = " || ".join(values[column] for column in self.settings.text)
                missing.remove(row)
                if not missing:
                    break
        return texts
