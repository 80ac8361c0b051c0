"""Where the rows of each split come from: files, a directory, the shipped samples, the Hub, a part of train.

A source can be read again and again, and knows a fingerprint of its content without being read as rows.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from finetune_cli.data import hub
from finetune_cli.data.folds import Folds, draw_folds
from finetune_cli.data.label_sets import Column
from finetune_cli.data.readers import READERS, BadRow, Row, read_rows
from finetune_cli.data.strata import Strata, read_strata
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.tasks import KIND_SPECS, SAMPLES, Kind

logger = logging.getLogger(__name__)

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
    folds: Folds | None = None,
    limit: int | None = None,
    offline: bool = False,
) -> dict[str, Source]:
    """The splits that `data.path` and `data.splits` name: train, validation, and any further ones.

    splits: split -> file, Hub split, or the fraction of train to take. split_names: our name of a split -> its name at
    the source, where they differ (MNLI). label, kind, seed: how fractions are taken; see `carve`. folds, limit: see
    `fold_sources`; they take the place of a validation split.
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
    if folds:
        if "validation" in sources and folds.fold is not None:
            logger.info("The folds are drawn from train; %s is left out.", sources["validation"].where)
        sources |= fold_sources(sources["train"], folds, label=label, kind=kind, limit=limit)
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

    @cache
    def part_of_row() -> np.ndarray:
        shares = list(fractions.values())
        return _draw_parts(read_strata(train, label=label, kind=kind, least=1 / min(shares)), shares, seed=seed)

    choice = f"{sorted(fractions.items())}:{label if KIND_SPECS[kind].has_classes else ''}:{seed}"

    def is_in(number: int) -> Callable[[int], bool]:
        return lambda row: bool(part_of_row()[row] == number)

    return {split: _part(train, split, choice, is_in(number)) for number, split in enumerate(["train", *fractions])}


def fold_sources(train: Source, folds: Folds, *, label: Column, kind: Kind, limit: int | None) -> dict[str, Source]:
    """`train` without the rows of one fold, and these as "validation"; for no fold, all rows as both.

    limit: the first so many rows alone are dealt out.
    """
    if limit is not None:
        train = _first_rows(train, limit)
    if folds.fold is None:
        return {"train": train, "validation": train}
    tested = (folds.fold - 1) % folds.n

    @cache
    def fold_of_row() -> np.ndarray:
        return folds_of_rows(train, folds, label=label, kind=kind)

    stratum = label if KIND_SPECS[kind].has_classes else ""
    choice = f"{folds.n}:{folds.repeat}:{folds.group}:{folds.seed}:{stratum}:{tested}"
    return {
        "train": _part(train, "train", choice, lambda row: fold_of_row()[row] != tested),
        "validation": _part(train, f"fold {folds.fold}", choice, lambda row: fold_of_row()[row] == tested),
    }


def folds_of_rows(train: Source, folds: Folds, *, label: Column, kind: Kind) -> np.ndarray:
    """The fold, from 0, that each row number is tested in, in the repeat of `folds`; -1 for a number without a row."""
    strata = read_strata(train, label=label, kind=kind, least=folds.n, group=folds.group)
    dealt = np.full(int(strata.rows.max()) + 1, -1, np.int64)
    dealt[strata.rows] = draw_folds(strata, folds.n, seed=folds.seed, repeat=folds.repeat, where=train.where)
    return dealt


def _part(train: Source, name: str, choice: str, keeps: Callable[[int], bool]) -> Source:
    """The rows of `train` whose number is kept. choice: equal when the kept rows are."""

    def open_part(columns: Sequence[str] | None) -> Iterator[Row]:
        for row in train.open(columns):
            if isinstance(row, BadRow) or keeps(row[0]):
                yield row

    where, fingerprint = f"{train.where} (part {name})", f"{train.fingerprint}:part:{choice}:{name}"
    return Source(where, fingerprint, open_part, train.label_names)


def _first_rows(source: Source, limit: int) -> Source:
    return replace(
        source,
        fingerprint=f"{source.fingerprint}:first:{limit}",
        open=lambda columns: islice(source.open(columns), limit),
    )


def _draw_parts(strata: Strata, shares: Sequence[float], *, seed: int) -> np.ndarray:
    """The part of each row number: 0 stays in train, 1, 2 ... go to the shares in turn."""
    parts = np.zeros(int(strata.rows.max()) + 1, np.int8)
    generator = np.random.default_rng(seed)
    for code in range(int(strata.codes.max()) + 1):
        members = generator.permutation(strata.rows[strata.codes == code])
        start = 0
        for number, share in enumerate(shares, start=1):
            count = min(max(round(share * len(members)), 1), len(members) - start - 1)  # each class stays in train
            parts[members[start : start + count]] = number
            start += count
    return parts
