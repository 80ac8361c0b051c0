"""Which files are which split: those that are named, and those of a directory by their names, ours or others'."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_cli.data.formats.file_kinds import ADVICE, FORMATS, file_kind, is_data_file, plain_stem
from finetune_cli.data.source_files import WILDCARDS, Source, find_files, is_saved, natural, saved_splits, several
from finetune_cli.data.text_folders import class_folders
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.system.places import in_home
from finetune_cli.tasks import SPLIT_NAME

logger = logging.getLogger(__name__)

OTHER_NAMES = re.compile(r"(dev|val|valid|eval)(_\w+)?")  # what others call validation
SHARD = re.compile(r"(?P<split>\w+?)-\d+-of-\d+")  # how the Hub stores a split in several files
HUB_FOLDER = "data"  # where a copy of a data set of the Hub has its files
HIDDEN = (".", "_")  # beginnings of names that are no data: ._train.csv of macOS, _SUCCESS of Spark


@dataclass(frozen=True)
class WantedSplits:
    """What the config says of splits.

    named: files or splits of the Hub, by split. fractions: the share of train, by split. split_names: our name of a
    split -> its name at the source.
    """

    named: Mapping[str, Sequence[str]]
    fractions: Mapping[str, float]
    split_names: Mapping[str, str]

    @classmethod
    def of(cls, splits: Mapping[str, str | float | Sequence[str]], split_names: Mapping[str, str]) -> WantedSplits:
        """splits: data.splits of the config."""
        named = {split: value for split, value in splits.items() if not isinstance(value, float)}
        fractions = {split: value for split, value in splits.items() if isinstance(value, float)}
        lists = {split: [value] if isinstance(value, str) else value for split, value in named.items()}
        return cls(lists, fractions, split_names)

    @property
    def given(self) -> set[str]:
        """The splits that are named or drawn; what is called like them does not count."""
        return {*self.named, *self.fractions}


def directory_sources(place: Path, wanted: WantedSplits, open_file: Callable[[Path], Source]) -> dict[str, Source]:
    """The files that are called as splits, or the folders of save_to_disk, and those that are named."""
    files = split_files(place)
    for split, theirs in wanted.split_names.items():
        if split not in files and theirs in files:
            files[split] = files.pop(theirs)
    _require_one_validation(place, files, wanted.given)
    for theirs in [split for split in files if not SPLIT_NAME.fullmatch(split)]:
        split = own_name(theirs, files)
        paths = files.pop(theirs)
        if SPLIT_NAME.fullmatch(split) and split not in wanted.given:
            say_renamed(split, ", ".join(file.name for file in paths), str(place))
            files[split] = paths
    files = {split: paths for split, paths in files.items() if split not in wanted.given}
    for split, paths in files.items():
        _require_one_form(place, split, paths)
    if not files and not wanted.named:
        raise DataError(_nothing_found(place))
    sources = {
        split: several(map(open_file, paths), f"{place} ({paths[0].name} ...) ({len(paths)} files)")
        for split, paths in files.items()
    }
    return sources | named_sources(wanted.named, place, open_file)


def named_sources(
    named: Mapping[str, Sequence[str]], base: Path, open_file: Callable[[Path], Source]
) -> dict[str, Source]:
    """The files of each split, relative to `base`."""
    sources = {}
    for split, patterns in named.items():
        paths: list[Path] = []
        for pattern in patterns:
            matching = find_files(pattern, base)
            if not matching:
                raise DataError(f"data.splits.{split}: {_not_there(base / in_home(pattern))}")
            paths += matching
        if twice := [file for place, file in enumerate(paths) if file in paths[:place]]:
            raise DataError(f"data.splits.{split}: {twice[0]} is named twice, so that its rows would count twice.")
        where = ", ".join(str(base / pattern) for pattern in patterns)
        sources[split] = several(map(open_file, paths), f"{where} ({len(paths)} files)")
    return sources


def say_renamed(split: str, theirs: str, where: str) -> None:
    """Log that a split has another name where it comes from."""
    logger.info("%s: %s is taken as the split %s", where, theirs, split)


def _not_there(path: Path) -> str:
    if WILDCARDS.search(str(path)):
        return f"no file fits {path}. Check the pattern."
    if path.is_dir():
        inside = f"{path / ('*' + _endings_inside(path))}"
        return f"{path} is not a file but a directory. For all files in it: {inside}"
    if path.exists():
        return f"{path} is a pipe or a device, and rows are read more than once. Write them to a file."
    return f"{path} is not a file.{similar_names(path)}"


def _endings_inside(folder: Path) -> str:
    return next((file.suffix for file in sorted(folder.iterdir()) if file_kind(file)[0]), ".jsonl")


def similar_names(path: Path) -> str:
    """What to say of a path that is not there: what is called like it."""
    if not path.parent.is_dir():
        return f" There is no directory {path.parent} either."
    names = [entry.name for entry in path.parent.iterdir()]
    return did_you_mean(path.name, names, shown=path.parent.joinpath) or " Check the path."


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
    files = {split: paths for split, paths in files.items() if paths}
    inner = place / HUB_FOLDER
    return split_files(inner) if not files and inner.is_dir() else files


def is_called_like_split(name: str) -> bool:
    """Whether a name, without ending and number, is that of a split, ours or others'."""
    return bool(SPLIT_NAME.fullmatch(name) or OTHER_NAMES.fullmatch(name))


def _rows_in(entry: Path) -> list[Path]:
    """A file of rows, or those in a folder, in natural order; none of those that programs hide."""
    if is_saved(entry) or is_data_file(entry):
        return [entry]
    inside = entry.iterdir() if entry.is_dir() else ()
    files = [file for file in inside if is_data_file(file) and not file.name.startswith(HIDDEN)]
    return sorted(files, key=lambda file: natural(file.name))


def own_name(split: str, present: Iterable[str]) -> str:
    """Our name of a split: others call validation dev, val, valid or eval, which counts where none is called so."""
    match = OTHER_NAMES.fullmatch(split)
    ours = f"validation{match[2] or ''}" if match else split
    return split if ours in present else ours


def _require_one_validation(place: Path, files: Mapping[str, list[Path]], taken: Collection[str]) -> None:
    """Raise DataError where two splits could be the one that we call validation. taken: those given otherwise."""
    ours: dict[str, list[Path]] = {}
    for split, paths in files.items():
        if OTHER_NAMES.fullmatch(split):
            ours.setdefault(own_name(split, ()), []).append(paths[0])
    for split, rivals in ours.items():
        if len(rivals) > 1 and split not in files and split not in taken:
            both = " and ".join(file.name for file in rivals)
            raise DataError(f"{place}: {both} could both be the {split} split. Set data.splits.{split}.")


def _require_one_form(place: Path, split: str, paths: Sequence[Path]) -> None:
    """Raise DataError where a split's files are not parts of one, but the same rows twice or something else beside."""
    folders = {file.parent for file in paths}
    in_own_folder = len(folders) == 1 and not folders & {place, place / HUB_FOLDER}
    in_parts = all(SHARD.fullmatch(plain_stem(file)) for file in paths) or (
        in_own_folder and len({plain_stem(file) for file in paths}) == len(paths)
    )
    if len(paths) > 1 and not in_parts:
        both = " and ".join(str(file.relative_to(place)) for file in paths[:2])
        raise DataError(f"{place}: two files for the split {split}: {both}. Remove one, or set data.splits.{split}.")


def _nothing_found(place: Path) -> str:
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
    if readable := [entry.name for entry in entries if is_data_file(entry)]:
        return f"Name your files: data.splits.train: {readable[0]}."
    if inside := next((entry for entry in entries if entry.is_dir() and split_files(entry)), None):
        return f"Name the folder inside: -s data.path={inside}"
    if advice := next((ADVICE[entry.suffix.lower()] for entry in entries if entry.suffix.lower() in ADVICE), None):
        return advice
    if any(entry.is_file() for entry in entries):
        return f"To have other files looked at, and a copy made: finetune init {place}"
    return "Name your files: data.splits.train: FILE."
