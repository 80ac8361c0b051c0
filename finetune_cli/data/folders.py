"""Which files of a directory are which split: by their names, ours or others', in one piece or in several."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from finetune_cli.data.formats.packing import ADVICE, FORMATS, file_kind, plain_stem
from finetune_cli.data.source_files import is_saved, natural, saved_splits
from finetune_cli.data.survey.class_folders import class_folders
from finetune_cli.errors import DataError

SPLIT_NAME = re.compile(r"train|(validation|test)(_\w+)?")
OTHER_NAMES = re.compile(r"(dev|val|valid|eval)(_\w+)?")  # what others call validation
SHARD = re.compile(r"(?P<split>\w+?)-\d+-of-\d+")  # how the Hub stores a split in several files
HUB_FOLDER = "data"  # where a copy of a data set of the Hub has its files
HIDDEN = (".", "_")  # beginnings of names that are no data: ._train.csv of macOS, _SUCCESS of Spark


def split_files(place: Path) -> dict[str, list[Path]]:
    """The files of each split: called as it is, several with numbers, or all in a folder of its name."""
    if saved := saved_splits(place):
        return {split: [folder] for split, folder in saved.items()}
    files: dict[str, list[Path]] = {}
    for entry in sorted(place.iterdir()):
        stem = entry.name if entry.is_dir() else plain_stem(entry)
        shard = SHARD.fullmatch(stem)
        split = shard["split"] if shard else stem
        if is_called_like_split(split):
            files.setdefault(split, []).extend(_rows_in(entry))
    files = {split: found for split, found in files.items() if found}
    inner = place / HUB_FOLDER
    return split_files(inner) if not files and inner.is_dir() else files


def is_called_like_split(name: str) -> bool:
    """Whether a name, without ending and number, is that of a split, ours or others'."""
    return bool(SPLIT_NAME.fullmatch(name) or OTHER_NAMES.fullmatch(name))


def _rows_in(entry: Path) -> list[Path]:
    """A file of rows, or those in a folder, in natural order; none of those that programs hide."""
    if is_saved(entry) or _is_data(entry):
        return [entry]
    inside = entry.iterdir() if entry.is_dir() else ()
    found = [file for file in inside if _is_data(file) and not file.name.startswith(HIDDEN)]
    return sorted(found, key=lambda file: natural(file.name))


def _is_data(file: Path) -> bool:
    return file.is_file() and bool(file_kind(file)[0])


def own_name(split: str, present: Iterable[str]) -> str:
    """Our name of a split: others call validation dev, val, valid or eval, which counts where none is called so."""
    match = OTHER_NAMES.fullmatch(split)
    ours = f"validation{match[2] or ''}" if match else split
    return split if ours in present else ours


def require_one_validation(place: Path, files: Mapping[str, list[Path]], taken: Collection[str]) -> None:
    """Raise DataError where two splits could be the one that we call validation. taken: those given otherwise."""
    ours: dict[str, list[Path]] = {}
    for split, found in files.items():
        if OTHER_NAMES.fullmatch(split):
            ours.setdefault(own_name(split, ()), []).append(found[0])
    for split, rivals in ours.items():
        if len(rivals) > 1 and split not in files and split not in taken:
            both = " and ".join(file.name for file in rivals)
            raise DataError(f"{place}: {both} could both be the {split} split. Set data.splits.{split}.")


def require_one_form(place: Path, split: str, found: Sequence[Path]) -> None:
    """Raise DataError where a split's files are not parts of one, but the same rows twice or something else beside."""
    folders = {file.parent for file in found}
    in_own_folder = len(folders) == 1 and not folders & {place, place / HUB_FOLDER}
    in_parts = all(SHARD.fullmatch(plain_stem(file)) for file in found) or (
        in_own_folder and len({plain_stem(file) for file in found}) == len(found)
    )
    if len(found) > 1 and not in_parts:
        both = " and ".join(str(file.relative_to(place)) for file in found[:2])
        raise DataError(f"{place}: two files for the split {split}: {both}. Remove one, or set data.splits.{split}.")


def nothing_found(place: Path) -> str:
    """What to say of a directory in which no file is called like a split."""
    entries = sorted(entry for entry in place.iterdir() if not entry.name.startswith(HIDDEN))
    present = ", ".join(entry.name for entry in entries[:10]) or "nothing"
    return (
        f"{place}: expected train, validation and perhaps test files ending in {', '.join(FORMATS)}; found {present}. "
        f"{_what_to_do(place, entries)}"
    )


def _what_to_do(place: Path, entries: Sequence[Path]) -> str:
    if class_folders(place):
        return f"To make rows of its folders of texts, one for each class: finetune init {place}"
    if readable := [entry.name for entry in entries if _is_data(entry)]:
        return f"Name your files: data.splits.train: {readable[0]}."
    if inside := next((entry for entry in entries if entry.is_dir() and split_files(entry)), None):
        return f"Name the folder inside: -s data.path={inside}"
    if advice := next((ADVICE[entry.suffix.lower()] for entry in entries if entry.suffix.lower() in ADVICE), None):
        return advice
    if any(entry.is_file() for entry in entries):
        return f"To have other files looked at, and a copy made: finetune init {place}"
    return "Name your files: data.splits.train: FILE."
