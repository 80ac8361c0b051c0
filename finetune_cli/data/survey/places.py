"""From what the user named to the files or splits to look at: a file, a directory, or a data set of the Hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_cli.data.formats.file_kinds import FORMATS, file_kind
from finetune_cli.data.source_files import is_saved, saved_splits
from finetune_cli.data.survey.foreign import LINES_ENDINGS, TABLE_ENDINGS
from finetune_cli.data.survey.names import SPLIT_WORDS, split_of
from finetune_cli.data.text_folders import class_folders
from finetune_cli.errors import DataError

DATA_ENDINGS = tuple(dict.fromkeys([*FORMATS, *LINES_ENDINGS, *(ending for ending in TABLE_ENDINGS if ending)]))


@dataclass(frozen=True)
class LocalData:
    """Files by split; `place` is what `data.path` names when they can be read as they stand."""

    place: Path
    files: dict[str, Path]
    others: tuple[str, ...] = ()  # data files in the directory that no split's name fits


def local_data(place: Path) -> LocalData:
    """A file as train, or the files of a directory by their names, or its folders of texts by class.

    Raises DataError when there is no train.
    """
    if place.is_file() or is_saved(place):
        return LocalData(place, {"train": place})
    if saved := saved_splits(place):
        named = hub_splits(list(saved))
        return LocalData(place, {split: saved[theirs] for split, theirs in named.items()})
    if not place.is_dir():
        raise DataError(f"{place} is neither a file nor a directory. Expected data: rows with a text and a label.")
    files = sorted(file for file in place.iterdir() if file.is_file() and _is_data(file))
    folders = class_folders(place)
    if "train" in folders and not any(file_kind(file)[0] for file in files):  # a table beside them is what is meant
        return LocalData(place, _in_order(folders))
    splits, others = _by_name(files, place)
    if "train" not in splits and len(others) == 1:
        splits["train"] = others.pop()
    if "train" not in splits:
        shown = ", ".join(file.name for file in files[:10]) or f"no file that ends in {', '.join(DATA_ENDINGS)}"
        raise DataError(f"{place}: which file holds the rows to train on? Found {shown}. Name it: finetune init FILE.")
    return LocalData(place, _in_order(splits), tuple(file.name for file in others))


def _in_order(splits: Mapping[str, Path]) -> dict[str, Path]:
    return {split: splits[split] for split in SPLIT_WORDS if split in splits}


def _by_name(files: Sequence[Path], place: Path) -> tuple[dict[str, Path], list[Path]]:
    """The files by the split that they are called like, and the others."""
    splits: dict[str, Path] = {}
    others: list[Path] = []
    for file in files:
        split = split_of(file.name)
        if split is None:
            others.append(file)
        elif split in splits:
            raise DataError(
                f"{place}: {splits[split].name} and {file.name} could both be the split {split}. Look at one of them: "
                f"finetune init {splits[split]}. Several files of one split are named in the config, by a pattern or a "
                f"list: data.splits.{split}."
            )
        else:
            splits[split] = file
    return splits, others


def _is_data(file: Path) -> bool:
    name = file.name.lower()
    return not name.startswith(("readme", "license", ".")) and bool(name.endswith(DATA_ENDINGS) or file_kind(file)[0])


def hub_splits(present: Sequence[str]) -> dict[str, str]:
    """Our split -> the data set's, the first that is called so; empty when none is."""
    splits: dict[str, str] = {}
    for name in present:
        if (split := split_of(name)) is not None:
            splits.setdefault(split, name)
    return splits
