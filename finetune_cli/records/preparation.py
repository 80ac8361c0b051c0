"""What `prepare` says of the rows: the `report` in the manifest of tokenised data, and `prepare --json`.

Row numbers in messages count from 1, as a reader counts them; the header of a table is no row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_cli.records.plain import as_json

# Entries that the JSON of many reports, splits and findings does not have.
ONLY_OF_SOME = ("key", "reused", "padding", "windows", "labels_per_row", "lost_by_class", "level")


@dataclass(frozen=True)
class Finding:
    """One fault of one split, found by a data check.

    check: its name in data.checks. where: file or source. count: rows concerned. rows: the first few of them, from 1.
    problem: a sentence with the count. example: one case, escaped; None where there is nothing to show.
    level: of the check in the config that asks; None as stored, since the levels do not decide what is stored.
    """

    check: str
    split: str
    where: str
    count: int
    rows: Sequence[int]
    problem: str
    example: str | None
    advice: str
    level: str | None = None

    @property
    def line(self) -> str:
        """All of it in short, for a log."""
        rows = f" ({row_list(self.rows, self.count)})" if self.rows else ""
        return f"{self.where}: {self.problem}{rows} [data.checks.{self.check}]"

    @property
    def paragraph(self) -> list[str]:
        """The same at length: what, where, an example."""
        lines = [f"{self.check}, {self.where}: {self.problem}"]
        if self.rows:
            lines.append(f"  {row_list(self.rows, self.count)}")
        if self.example:
            lines.append(f"  such as {self.example}")
        return lines


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """All findings at length, those with the same advice together, and the advice once, after the last of them."""
    together: dict[str, list[Finding]] = {}
    for finding in findings:
        together.setdefault(finding.advice, []).append(finding)
    return [
        line
        for advice, alike in together.items()
        for line in (*(line for finding in alike for line in finding.paragraph), f"  {advice}")
    ]


def row_list(rows: Sequence[int], total: int) -> str:
    """`row 3`, `rows 3, 4` or `rows 3, 4, 5, 6, 7 ... (9 in all)`. rows: the first few of `total`, from 1."""
    listed = ", ".join(map(str, rows))
    if total > len(rows):
        return f"rows {listed} ... ({total:,} in all)"
    return f"row {listed}" if total == 1 else f"rows {listed}"


@dataclass(frozen=True)
class SplitReport:
    """The rows of one split. where: file or source; fingerprint: of its content.

    labels: rows of each class; None in regression and without labels. lengths: quantiles of the tokens of a row, before
    truncation. histogram: [from, to, rows], the last one open-ended. labels_per_row: how many rows have how many
    labels; None but for multilabel. unlabelled: rows that are left out because they have no label. lost_share: of all
    tokens, those that were cut off; lost_by_class: the same of each class's rows, None where no class lost any.
    """

    where: str
    fingerprint: str
    rows: int
    labels: dict[str, int] | None
    lengths: dict[str, int]
    histogram: Sequence[tuple[int, int | None, int]]
    truncated: int
    truncated_share: float
    empty_texts: int
    labels_per_row: dict[str, int] | None = None
    unlabelled: int = 0
    lost_share: float = 0.0
    lost_by_class: dict[str, float] | None = None


@dataclass(frozen=True)
class Padding:
    """The share of padding in the updates of the first epoch, by the way that batches are made."""

    batch_size: int
    random: float
    length: float


@dataclass(frozen=True)
class PrepareReport:
    """The rows of all splits. max_length, seconds, rows_per_second: of the tokenisation, whenever it was.

    findings: what the data checks found, those of level "ignore" left out once a config has asked. key, reused,
    padding: known for the data of a config alone; reused: the rows were tokenised before. windows: of each split, where
    rows are read in windows, a row that fits counted as one.
    """

    max_length: int
    splits: dict[str, SplitReport]
    seconds: float
    rows_per_second: float
    findings: Sequence[Finding]
    key: str | None = None
    reused: bool | None = None
    padding: Padding | None = None
    windows: dict[str, int] | None = None

    def at(self, places: Mapping[str, str]) -> PrepareReport:
        """The report on the same rows where they are now. places: of each split."""
        splits = {name: dataclasses.replace(split, where=places[name]) for name, split in self.splits.items()}
        findings = [dataclasses.replace(finding, where=places[finding.split]) for finding in self.findings]
        return dataclasses.replace(self, splits=splits, findings=findings)

    def to_json(self) -> dict[str, Any]:
        return as_json(self, drop_null=ONLY_OF_SOME)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PrepareReport:
        """Raises KeyError, TypeError or ValueError for what no `to_json` wrote."""
        splits = {
            name: SplitReport(**{**split, "histogram": list(map(tuple, split["histogram"]))})
            for name, split in value["splits"].items()
        }
        findings = [Finding(**finding) for finding in value["findings"]]
        return cls(**{**value, "splits": splits, "findings": findings})
