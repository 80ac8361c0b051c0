"""Rows to tokenised splits: one pass over each source, checked as it goes, with a report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from finetune_cli.data.checks.labels import LabelChecks, balance_findings
from finetune_cli.data.checks.repeats import TextHashes
from finetune_cli.data.checks.split import SplitChecks
from finetune_cli.data.formats.row import GoodRow, row_id
from finetune_cli.data.label_sets import LabelSets, label_cell, label_reader, named_label, set_numbers
from finetune_cli.data.labels import NumberLabels, all_of
from finetune_cli.data.row_lengths import RowLengths
from finetune_cli.data.source_files import Source
from finetune_cli.data.text_settings import TextSettings, wanted_rows
from finetune_cli.data.tokenization import BATCH_ROWS, EncodedBatch, TextEncoder
from finetune_cli.data.windows import WindowSettings
from finetune_cli.data.writing import SplitWriter
from finetune_cli.errors import DataError
from finetune_cli.records.preparation import Finding, PrepareReport, SplitReport
from finetune_cli.system.read_ahead import read_ahead
from finetune_cli.tasks import KIND_SPECS


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


class _SplitPass:
    """One pass over one split."""

    def __init__(self, split: str, source: Source, settings: TextSettings, encoder: TextEncoder, folder: Path) -> None:
        self.split = split
        self.source = source
        self.settings = settings
        self.encoder = encoder
        self.may_be_unlabelled = split.startswith("test")
        self.labels = label_reader(settings.kind, source.where, settings.label, source.label_names)
        in_windows = isinstance(settings.long_texts, WindowSettings)
        self.writer = SplitWriter(
            folder, token_types=encoder.has_token_types, label_dtype=self.labels.dtype, windows=in_windows
        )
        self.lengths = RowLengths(settings.max_length)
        self.checks = SplitChecks(split, source.where, self.lengths, folder)

    def run(self, names: Sequence[str] | None) -> tuple[SplitReport, Sequence[str] | None]:
        """Write the split; returns its report and the class names, found here if None were given."""
        rows = wanted_rows(self.source, self.settings, must_have_labels=not self.may_be_unlabelled)
        batches = iter(lambda: list(islice(rows, BATCH_ROWS)), [])
        # A second thread reads and encodes the next rows while this one checks and writes.
        with self.writer, closing(read_ahead((batch, self._encode(batch)) for batch in batches)) as encoded:
            for batch, tokens in encoded:
                self._append(batch, tokens)
        num_rows = self.lengths.num_rows
        if not num_rows:
            raise DataError(f"{self.source.where} has no rows. Expected at least one.")
        if self.checks.scan.empty.count == num_rows:
            rows_of_all = all_of(num_rows)
            raise DataError(f"{self.source.where}: the text is empty in {rows_of_all}. Is data.text the right column?")
        numbers, names = self._finish_labels(names)
        return self._report(numbers, names), names

    def _encode(self, batch: list[GoodRow]) -> EncodedBatch:
        texts, *pairs = self._columns(batch)
        try:
            return self.encoder.encode(texts, pairs[0] if pairs else None, rows=[row for row, _ in batch])
        except DataError as err:
            raise DataError(f"{self.source.where}, {err}") from err

    def _columns(self, batch: list[GoodRow]) -> list[list[str]]:
        return [[values[column] for _, values in batch] for column in self.settings.text]

    def _append(self, batch: list[GoodRow], encoded: EncodedBatch) -> None:
        rows = [row for row, _ in batch]
        ids = [row_id(row, values, self.settings.id) for row, values in batch]
        labels = [self.labels.add(row, label_cell(values, self.settings.label)) for row, values in batch]
        self.writer.append(encoded, ids, labels)
        self.checks.add(rows, self._columns(batch), encoded.true_lengths)
        if any(value is not row for value, row in zip(ids, rows, strict=True)):
            self.checks.add_ids(rows, ids)
        codes = None if isinstance(self.labels, NumberLabels) else np.array(labels)
        self.lengths.add(encoded.true_lengths, np.diff(encoded.offsets), codes)

    def _finish_labels(self, names: Sequence[str] | None) -> tuple[np.ndarray | None, Sequence[str] | None]:
        """The class, or the classes as 0 and 1, of each label code, and the class names; None where there are none."""
        if isinstance(self.labels, NumberLabels):
            if not self.labels.check(may_be_unlabelled=self.may_be_unlabelled):
                self.writer.drop_labels()
            return None, None
        names = self.labels.names() if names is None else names
        numbers = self.labels.numbers(names, may_be_unlabelled=self.may_be_unlabelled)
        if numbers is None:
            self.writer.drop_labels()
        else:
            self.writer.map_labels(numbers)
        return numbers, names

    def _report(self, numbers: np.ndarray | None, names: Sequence[str] | None) -> SplitReport:
        lengths, labels = self.lengths, self.labels
        by_class: dict[str, Any] = {"labels": None}
        if numbers is not None and names is not None and not isinstance(labels, NumberLabels):
            by_class = {"labels": labels.counts(numbers, names), "lost_by_class": lengths.lost_by_class(numbers, names)}
            if isinstance(labels, LabelSets):
                by_class["labels_per_row"] = labels.labels_per_row(numbers)
        return SplitReport(
            where=self.source.where,
            fingerprint=self.source.fingerprint,
            rows=lengths.num_rows,
            unlabelled=self.source.left_out() if self.source.left_out else 0,
            lengths=lengths.quantiles(),
            histogram=lengths.histogram(),
            truncated=lengths.num_cut,
            truncated_share=lengths.num_cut / lengths.num_rows,
            empty_texts=self.checks.scan.empty.count,
            lost_share=lengths.lost_share,
            **by_class,
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
        checks = LabelChecks(labels, self.checks.hashes.rows, names, split=self.split, where=self.source.where)
        return [*found, *(checks.spelling() if self.split == "train" else checks.unseen(in_train))]

    def _texts_at(self, rows: Sequence[int]) -> dict[int, str]:
        """The texts of a few rows, read once more."""
        missing, texts = set(rows), {}
        for row, values in wanted_rows(self.source, self.settings, must_have_labels=False) if missing else ():
            if row in missing:
                texts[row] = " || ".join(values[column] for column in self.settings.text)
                missing.remove(row)
                if not missing:
                    break
        return texts
