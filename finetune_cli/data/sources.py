"""Where the rows of each split come from: files, a directory, the shipped samples, the Hub, a part of train.

A source can be read again and again, and knows a fingerprint of its content without being read as rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from finetune_cli.data import hub
from finetune_cli.data.folders import (
    WantedSplits,
    directory_sources,
    named_sources,
    own_name,
    say_renamed,
    similar_names,
)
from finetune_cli.data.folds import Folds, fold_sources
from finetune_cli.data.formats.file_kinds import file_kind
from finetune_cli.data.formats.row import AS_USUAL, TableForm
from finetune_cli.data.fractions import carve
from finetune_cli.data.label_sets import Column
from finetune_cli.data.readers import refuse_form
from finetune_cli.data.source_files import (
    WILDCARDS,
    Source,
    file_source,
    find_files,
    is_saved,
    several,
)
from finetune_cli.data.subsets import labelled_only
from finetune_cli.errors import DataError
from finetune_cli.system.places import in_home
from finetune_cli.tasks import SAMPLES, SPLIT_NAME, Kind

logger = logging.getLogger(__name__)

BUILTIN_PREFIX = "builtin:"


def require_present(path: str, *, key: str = "data.path: ") -> None:
    """Raise DataError for a `data.path` that is neither here nor the name of shipped samples or of a Hub data set.

    key: what comes first in the message; empty for a path that was typed as an argument."""
    place = in_home(path)
    is_known = place.exists() or path.startswith(BUILTIN_PREFIX) or _may_be_hub_id(path)
    if not is_known and not find_files(path, Path()):
        raise DataError(f"{key}{path} does not exist.{similar_names(place)}")


def resolve_sources(
    path: str,
    *,
    name: str | None = None,
    splits: Mapping[str, str | float | Sequence[str]] | None = None,
    split_names: Mapping[str, str] | None = None,
    label: Column = "label",
    text: Sequence[str] = (),
    kind: Kind = "classification",
    seed: int = 42,
    form: TableForm = AS_USUAL,
    unlabelled: Callable[[Any], bool] | None = None,
    folds: Folds | None = None,
    limit: int | None = None,
    offline: bool = False,
) -> dict[str, Source]:
    """The splits that `data.path` and `data.splits` name: train, validation, and any further ones.

    splits: split -> file or pattern, several of these, Hub split, or the fraction of train to take. split_names:
    our name of a split -> its name at the source, where they differ (MNLI). label, text, kind, seed: how fractions
    are taken; see `carve`. unlabelled: says of a label cell that its row is to be left out. form: of the tables;
    see read_rows. folds, limit: see `fold_sources`; they take the place of a validation split.
    Raises DataError for local data that are not there or lack train or validation, MissingError for the Hub.
    """
    require_present(path)
    wanted = WantedSplits.of(splits or {}, split_names or {})
    sources = _found_sources(path, wanted, name=name, label=label, form=form, offline=offline)
    if "train" not in sources:
        raise DataError(f"{_lacking(path, 'train', sources)} Name it: data.splits.train.")
    if unlabelled is not None:
        sources = {
            split: labelled_only(source, label=label, unlabelled=unlabelled, may_lack_all=split.startswith("test"))
            for split, source in sources.items()
        }
    if folds:
        if "validation" in sources and folds.fold is not None:
            logger.info("The folds are drawn from train; %s is left out.", sources["validation"].where)
        sources.pop("validation", None)
        sources |= fold_sources(sources["train"], folds, label=label, kind=kind, limit=limit)
    if wanted.fractions:
        sources |= carve(sources["train"], wanted.fractions, label=label, kind=kind, seed=seed, text=text)
    if "validation" not in sources and not (folds and folds.fold == "final"):
        raise DataError(
            f"{_lacking(path, 'validation', sources)} Name one (data.splits.validation: FILE), or take a tenth of "
            f"train (stratified, seeded): -s data.splits.validation=0.1"
        )
    return {split: sources[split] for split in sorted(sources, key=_split_order)}


def _lacking(path: str, split: str, sources: Mapping[str, Source]) -> str:
    return f"data.path: {path} has no {split} split, only: {', '.join(sources)}."


def _split_order(split: str) -> tuple[int, str]:
    return next(
        place for place, start in enumerate(("train", "validation", "test", "")) if split.startswith(start)
    ), split


def _found_sources(
    path: str, wanted: WantedSplits, *, name: str | None, label: Column, form: TableForm, offline: bool
) -> dict[str, Source]:
    """The splits in a directory, a file, a pattern of files or a data set of the Hub, and those that are named."""
    place = in_home(path)
    if path.startswith(BUILTIN_PREFIX):
        place = SAMPLES / path.removeprefix(BUILTIN_PREFIX)
        if not place.is_dir():
            shipped = ", ".join(f"{BUILTIN_PREFIX}{folder.name}" for folder in sorted(SAMPLES.iterdir()))
            raise DataError(f"data.path: there is no {path!r}. The samples that come with finetune are: {shipped}.")
    open_file = partial(file_source, form=form, label=label if isinstance(label, str) else None)
    if place.is_dir() and not is_saved(place):
        return directory_sources(place, wanted, open_file)
    if place.exists() or WILDCARDS.search(path):
        return named_sources({"train": [path], **wanted.named}, Path(), open_file)
    refuse_form(f"{path}, a data set of the Hub,", form)
    return _on_hub(path, name, wanted, label, offline=offline)


def _may_be_hub_id(path: str) -> bool:
    looks_like_file = any(file_kind(Path(path))) or path.endswith(".txt") or path.startswith(("/", ".", "~"))
    return bool(hub.HUB_ID.fullmatch(path)) and not looks_like_file


def _on_hub(path: str, name: str | None, wanted: WantedSplits, label: Column, *, offline: bool) -> dict[str, Source]:
    dataset = hub.find_dataset(path, name, offline=offline)
    own: dict[str, str] = {}
    for theirs in dataset.splits:
        split = own_name(theirs, dataset.splits)
        if split in own and split not in wanted.named:
            raise DataError(
                f"{path}: {own[split]} and {theirs} could both be the split {split}. Set data.splits.{split}."
            )
        own[split] = theirs
    renamed = {split: theirs for split, theirs in wanted.split_names.items() if theirs in dataset.splits}
    own = {split: theirs for split, theirs in own.items() if SPLIT_NAME.fullmatch(split)}
    own = {split: theirs for split, theirs in own.items() if theirs not in renamed.values()} | renamed
    own = {split: theirs for split, theirs in own.items() if split not in wanted.given}
    for split, theirs in own.items():
        if split not in wanted.split_names and theirs != split:
            say_renamed(split, theirs, path)
    for split, named in wanted.named.items():
        if missing := [theirs for theirs in named if theirs not in dataset.splits]:
            raise DataError(
                f"data.splits.{split}: {path} has no split {missing[0]!r}, only: {', '.join(dataset.splits)}."
            )

    def source(theirs: str) -> Source:
        return Source(
            f"{path}{f' ({name})' if name else ''}, split {theirs}",
            f"hub:{path}:{dataset.folder.parts[-3]}:{dataset.commit}:{theirs}",
            lambda columns: dataset.rows(theirs, columns),
            dataset.label_names(label) if isinstance(label, str) else None,
        )

    chosen = {split: [theirs] for split, theirs in own.items()} | dict(wanted.named)
    return {
        split: several(map(source, splits), f"{path}, splits {', '.join(splits)}") for split, splits in chosen.items()
    }
