"""From what the user named to data that a config can name: found, and made readable where it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from finetune_cli.data import hub
from finetune_cli.data.formats.file_kinds import file_kind, plain_stem
from finetune_cli.data.formats.parquet_rows import declared_names, parquet_features
from finetune_cli.data.source_files import Source, file_source, is_saved
from finetune_cli.data.sources import BUILTIN_PREFIX, require_present
from finetune_cli.data.survey.conversions import conversion_of
from finetune_cli.data.survey.places import LocalData, hub_splits, local_data
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.tasks import SAMPLES


@dataclass(frozen=True)
class UsableData:
    """The data as the config will name them.

    path, name, splits: of the section `data`. present: the splits that there are. label_names: the class names that
    come with a column. notes: what was done to get here, a line each. written: files that were made. ask: a question
    about the way the file is read.
    """

    path: str
    name: str | None
    splits: dict[str, str | float]
    present: tuple[str, ...]
    train: Source
    described: str
    label_names: Callable[[str], tuple[str, ...] | None] = lambda column: None
    notes: tuple[str, ...] = ()
    written: tuple[Path, ...] = ()
    ask: str = ""


def find_data(data: str, *, name: str | None, beside: Path, encoding: str | None, offline: bool) -> UsableData:
    """data: a file, a directory, builtin:NAME or a Hub id. name: configuration of a Hub data set. beside: the folder
    for files that have to be converted. encoding: of files of text, given by the user."""
    place = local_place(data)
    if not place.exists():
        return _find_on_hub(data, name, offline)
    local = local_data(place)
    ready = {split: _made_readable(file, split, local, beside, encoding) for split, file in local.files.items()}
    files = {split: made.file for split, made in ready.items()}
    path, splits = _data_paths(data, local.place, local.files, files)
    train = ready["train"]
    features = parquet_features(train.file) if file_kind(train.file)[0] == ".parquet" else {}
    others = [f"Not used: {', '.join(local.others[:10])}."] if local.others else []
    return UsableData(
        path,
        None,
        splits,
        tuple(files),
        replace(file_source(train.file), where=str(local.files["train"])),
        _described(data, place, local, train),
        label_names=lambda column: declared_names(features, column),
        notes=(*(made.note for made in ready.values() if made.note), *others),
        written=tuple(made.file for made in ready.values() if made.is_new),
        ask=next((made.ask for made in ready.values() if made.ask), ""),
    )


def local_place(data: str) -> Path:
    """Where data lie that are not on the Hub."""
    if data.startswith(BUILTIN_PREFIX):
        return SAMPLES / data.removeprefix(BUILTIN_PREFIX)
    return Path(data).expanduser()


@dataclass(frozen=True)
class Readable:
    """A file that the readers take. is_new: whether it was written for that; note: from what; ask: a question."""

    file: Path
    is_new: bool = False
    note: str = ""
    ask: str = ""
    described: str = ""


def _made_readable(file: Path, split: str, local: LocalData, beside: Path, encoding: str | None) -> Readable:
    """The file itself, or its rows as JSON Lines in UTF-8 `beside`. Raises ConfigError when other rows are there."""
    conversion = None if is_saved(file) else conversion_of(file, encoding)
    if conversion is None:
        return Readable(file)
    of_folder = file.is_dir() and len(local.files) > 1
    target = beside / f"{f'{local.place.name}.{split}' if of_folder else conversion.stem}.utf8.jsonl"
    rows = conversion.rows_in(target) if target.is_file() else None
    is_new = rows is None
    if rows is None:
        require_new(
            target,
            what=f"{file.name} is {conversion.described}; its rows would be written as JSON Lines in UTF-8",
            there="holds other rows",
        )
        rows = conversion.write(target)
    note = f"{target.name} holds the {rows:,} rows of {file.name} ({conversion.described}), as UTF-8."
    return Readable(target, is_new, note, conversion.ask, conversion.described)


def _described(data: str, place: Path, local: LocalData, train: Readable) -> str:
    """The data in a few words, for the head of the config."""
    how = f" ({train.described})" if train.described else ""
    if place.is_file() or is_saved(place) or local.files["train"] == place:
        return data + how
    return f"{data}, {', '.join(f'{split} {file.name}' for split, file in local.files.items())}{how}"


def _data_paths(
    data: str, place: Path, there: dict[str, Path], files: dict[str, Path]
) -> tuple[str, dict[str, str | float]]:
    """`data.path` and `data.splits` for these files."""
    if place.is_file() or is_saved(place) or there["train"] == place:
        return (data if files == there else str(files["train"])), {}
    if files == there:
        usual = all(plain_stem(file) == split for split, file in files.items())
        return data, ({} if usual else {split: file.name for split, file in files.items()})
    others: dict[str, str | float] = {split: str(file) for split, file in files.items() if split != "train"}
    return str(files["train"]), others


def _find_on_hub(data: str, name: str | None, offline: bool) -> UsableData:
    require_present(data)
    dataset = hub.find_dataset(data, name, offline=offline)
    named = hub_splits(dataset.splits)
    if "train" not in named:
        raise DataError(f"{data} has no train split, only: {', '.join(dataset.splits)}.")
    splits: dict[str, str | float] = {split: theirs for split, theirs in named.items() if split != theirs}
    theirs = named["train"]
    train = Source(f"{data}, split {theirs}", dataset.commit, lambda columns: dataset.rows(theirs, columns))
    described = f"{data}{f' ({name})' if name else ''} of the Hugging Face Hub"
    return UsableData(data, name, splits, tuple(named), train, described, label_names=dataset.label_names)


def require_new(path: Path, *, what: str = "", there: str = "is there already") -> None:
    """Raise ConfigError when a file would be overwritten. what: why it would be written; empty for the config."""
    if not (path.exists() or path.is_symlink()):
        return
    remedy = "Name another file: -o OTHER.yaml, or move it."
    if what:
        remedy = "Move or delete it, or write the config into another directory: -o DIRECTORY/config.yaml"
    raise ConfigError(f"{what}{', but ' if what else ''}{path} {there} and is not overwritten. {remedy}")
