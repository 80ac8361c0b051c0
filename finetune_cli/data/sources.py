"""Where the rows of each split come from: files, a directory, the shipped samples, the Hub, a part of train.

A source can be read again and again, and knows a fingerprint of its content without being read as rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from finetune_cli.data import hub
from finetune_cli.data.label_sets import Column, label_cell, label_reader
from finetune_cli.data.readers import READERS, BadRow, Row, good_rows, read_rows
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.tasks import KIND_SPECS, SAMPLES, Kind

BUILTIN_PREFIX = "builtin:"
SPLIT_NAME = re.compile(r"train|(validation|test)(_\w+)?")


@dataclass(frozen=True)
class Source:
    """The rows of one split.

    where: for messages. fingerprint: equal when the rows are equal, whatever the file's name and time. open: given the
    columns needed (None: all), starts a new pass over the rows. label_names: class names that come with the data.
    """

    where: str
    fingerprint: str
    open: Callable[[Sequence[str] | None], Iterator[Row]]
    label_names: tuple[str, ...] | None = None


def file_source(path: Path) -> Source:
    """The rows of one file. Raises DataError when it is not there or cannot be read."""
    if not path.is_file():
        raise DataError(f"{path} {'is a directory' if path.is_dir() else 'does not exist'}. Expected a data file.")
    if path.suffix.lower() not in READERS:
        raise DataError(f"{path}: cannot tell its format. Expected a name that ends in {', '.join(READERS)}.")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise DataError(f"{path} cannot be read: {err.strerror or err}.") from err
    return Source(str(path), f"{path.suffix.lower()}:{digest}", lambda columns: read_rows(path, columns))


def require_present(path: str) -> None:
    """Raise DataError for a `data.path` that is neither here nor the name of shipped samples or of a Hub data set."""
    place = Path(path).expanduser()
    if not (place.exists() or path.startswith(BUILTIN_PREFIX) or _may_be_hub_id(path)):
        raise DataError(f"data.path: {path} does not exist.{_similar(place)}")


def resolve_sources(
    path: str,
    *,
    name: str | None = None,
    splits: Mapping[str, str | float] | None = None,
    split_names: Mapping[str, str] | None = None,
    label: Column = "label",
    kind: Kind = "classification",
    seed: int = 42,
    offline: bool = False,
) -> dict[str, Source]:
    """The splits that `data.path` and `data.splits` name: train, validation, and any further ones.

    splits: split -> file, Hub split, or the fraction of train to take. split_names: our name of a split -> its name at
    the source, where they differ (MNLI). label, kind, seed: how fractions are taken; see `carve`.
    Raises DataError for local data that are not there or lack train or validation, MissingError for the Hub.
    """
    require_present(path)
    given = dict(splits or {})
    fractions = {split: value for split, value in given.items() if isinstance(value, float)}
    named = {split: value for split, value in given.items() if isinstance(value, str)}
    place = SAMPLES / path.removeprefix(BUILTIN_PREFIX) if path.startswith(BUILTIN_PREFIX) else Path(path).expanduser()
    if path.startswith(BUILTIN_PREFIX) and not place.is_dir():
        shipped = ", ".join(f"{BUILTIN_PREFIX}{folder.name}" for folder in sorted(SAMPLES.iterdir()))
        raise DataError(f"data.path: there is no {path!r}. The samples that come with finetune are: {shipped}.")
    if place.is_dir():
        sources = _directory(place, named, split_names or {}, skip=set(fractions))
    elif place.is_file():
        sources = {"train": file_source(place)} | _files(named, Path())
    else:
        sources = _hub(path, name, named, split_names or {}, skip=set(fractions), label=label, offline=offline)
    if "train" not in sources:
        raise DataError(
            f"data.path: {path} has no train split, only: {', '.join(sources)}. Name it: data.splits.train."
        )
    if fractions:
        sources |= carve(sources["train"], fractions, label=label, kind=kind, seed=seed)
    if "validation" not in sources:
        raise DataError(
            f"data.path: {path} has no validation split, only: {', '.join(sources)}. Name one "
            f"(data.splits.validation: FILE), or take a tenth of train (stratified, seeded): "
            f"-s data.splits.validation=0.1"
        )
    return {split: sources[split] for split in sorted(sources, key=_split_order)}


def _split_order(split: str) -> tuple[int, str]:
    return next(
        place for place, start in enumerate(("train", "validation", "test", "")) if split.startswith(start)
    ), split


def _directory(
    place: Path, named: Mapping[str, str], split_names: Mapping[str, str], *, skip: set[str]
) -> dict[str, Source]:
    files: dict[str, list[Path]] = {}
    for file in sorted(place.iterdir()):
        if file.suffix.lower() in READERS and SPLIT_NAME.fullmatch(file.stem):
            files.setdefault(file.stem, []).append(file)
    for split, at_source in split_names.items():
        if split not in files and at_source in files:
            files[split] = files.pop(at_source)
    paths = {split: found for split, found in files.items() if split not in named and split not in skip}
    for split, found in paths.items():
        if len(found) > 1:
            both = " and ".join(file.name for file in found)
            raise DataError(
                f"{place}: two files for the split {split}: {both}. Remove one, or set data.splits.{split}."
            )
    if not paths and not named:
        present = ", ".join(sorted(file.name for file in place.iterdir())[:10]) or "nothing"
        raise DataError(
            f"{place}: expected train, validation and perhaps test files ending in {', '.join(READERS)}; found "
            f"{present}. Name your files: data.splits.train: FILE."
        )
    return {split: file_source(found[0]) for split, found in paths.items()} | _files(named, place)


def _files(named: Mapping[str, str], base: Path) -> dict[str, Source]:
    sources = {}
    for split, file in named.items():
        path = base / Path(file).expanduser()
        if not path.is_file():
            raise DataError(f"data.splits.{split}: {path} is not a file.{_similar(path)}")
        sources[split] = file_source(path)
    return sources


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no directory {path.parent} either."
    names = [entry.name for entry in path.parent.iterdir()]
    return did_you_mean(path.name, names, shown=path.parent.joinpath) or " Check the path."


def _may_be_hub_id(path: str) -> bool:
    looks_like_file = Path(path).suffix.lower() in (*READERS, ".json", ".txt") or path.startswith(("/", ".", "~"))
    return bool(hub.HUB_ID.fullmatch(path)) and not looks_like_file


def _hub(
    path: str,
    name: str | None,
    named: Mapping[str, str],
    split_names: Mapping[str, str],
    *,
    skip: set[str],
    label: Column,
    offline: bool,
) -> dict[str, Source]:
    dataset = hub.find_dataset(path, name, offline=offline)
    own = {split: split for split in dataset.splits if SPLIT_NAME.fullmatch(split)}
    renamed = {split: theirs for split, theirs in split_names.items() if theirs in dataset.splits}
    wanted = {split: theirs for split, theirs in own.items() if theirs not in renamed.values()} | renamed
    wanted = {split: theirs for split, theirs in wanted.items() if split not in skip} | dict(named)
    for split, theirs in wanted.items():
        if theirs not in dataset.splits:
            raise DataError(f"data.splits.{split}: {path} has no split {theirs!r}, only: {', '.join(dataset.splits)}.")

    def source(theirs: str) -> Source:
        return Source(
            f"{path}{f' ({name})' if name else ''}, split {theirs}",
            f"hub:{path}:{dataset.folder.parts[-3]}:{dataset.commit}:{theirs}",
            lambda columns: dataset.rows(theirs, columns),
            dataset.label_names(label) if isinstance(label, str) else None,
        )

    return {split: source(theirs) for split, theirs in wanted.items()}


def carve(train: Source, fractions: Mapping[str, float], *, label: Column, kind: Kind, seed: int) -> dict[str, Source]:
    """Split `train` into a smaller train and the named parts; each class gives the same share (at least one row).

    Of several labels a row, each set of labels does, where sets with too few rows for that count as one together. In
    regression rows are drawn whatever their label. The choice depends on the labels, the fractions and the seed alone;
    rows keep their order and their numbers.
    """
    stratify = KIND_SPECS[kind].has_classes

    @cache
    def part_of_row() -> np.ndarray:
        return _draw_parts(train, list(fractions.values()), label=label, kind=kind, seed=seed)

    def part(number: int, split: str) -> Source:
        def open_part(columns: Sequence[str] | None) -> Iterator[Row]:
            for row in train.open(columns):
                if isinstance(row, BadRow) or part_of_row()[row[0]] == number:
                    yield row

        choice = f"{sorted(fractions.items())}:{label if stratify else ''}:{seed}:{split}"
        return Source(
            f"{train.where} (part {split})", f"{train.fingerprint}:part:{choice}", open_part, train.label_names
        )

    return {split: part(number, split) for number, split in enumerate(["train", *fractions])}


def _draw_parts(train: Source, shares: Sequence[float], *, label: Column, kind: Kind, seed: int) -> np.ndarray:
    """The part of each row number: 0 stays in train, 1, 2 ... go to the shares in turn."""
    labels = label_reader(kind, train.where, label)
    rows = good_rows(train.open([label] if isinstance(label, str) else label))
    stratify = KIND_SPECS[kind].has_classes
    pairs = ((row, labels.add(row, label_cell(values, label)) if stratify else 0) for row, values in rows)
    table = np.fromiter(pairs, dtype=[("row", np.int64), ("code", np.int32)])
    if KIND_SPECS[kind].several_labels:
        rare = np.bincount(table["code"]) < 1 / min(shares)  # of which a share is no whole row
        table["code"][rare[table["code"]]] = len(rare)
    parts = np.zeros(int(table["row"].max()) + 1, np.int8)
    generator = np.random.default_rng(seed)
    for code in range(int(table["code"].max()) + 1):
        members = generator.permutation(table["row"][table["code"] == code])
        start = 0
        for number, share in enumerate(shares, start=1):
            count = min(max(round(share * len(members)), 1), len(members) - start - 1)  # each class stays in train
            parts[members[start : start + count]] = number
            start += count
    return parts
