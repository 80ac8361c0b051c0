"""From what the user named to data that a config can name: found, and made readable where it is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetune_cli.data import hub
from finetune_cli.data.readers import declared_names, file_kind, parquet_features, plain_stem, require_data_file
from finetune_cli.data.source_files import Source, file_source, is_saved
from finetune_cli.data.sources import BUILTIN_PREFIX, require_present
from finetune_cli.data.survey.foreign import convert, is_for_the_readers, writing_of
from finetune_cli.data.survey.places import hub_splits, local_data
from finetune_cli.errors import ConfigError, DataError
from finetune_cli.tasks import SAMPLES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
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


def find_data(data: str, *, name: str | None, beside: Path, encoding: str | None, offline: bool) -> Found:
    """data: a file, a directory, builtin:NAME or a Hub id. name: configuration of a Hub data set. beside: the folder
    for files that have to be converted. encoding: of files of text, given by the user."""
    place = Path(data).expanduser()
    if data.startswith(BUILTIN_PREFIX):
        place = SAMPLES / data.removeprefix(BUILTIN_PREFIX)
    if not place.exists():
        return _find_on_hub(data, name, offline)
    local = local_data(place)
    files, notes, written, ask = {}, [], [], ""
    for split, file in local.files.items():
        writing = None if is_saved(file) else writing_of(file, encoding)
        if is_saved(file) or is_for_the_readers(file, writing):
            files[split] = file
            continue
        if writing is None:
            require_data_file(file)
            raise DataError(f"{file}: cannot tell its format. Expected a table, JSON Lines or Parquet.")
        target = beside / f"{file.stem}.utf8.jsonl"
        require_new(
            target, what=f"{file.name} is {writing.described}; its rows would be written as JSON Lines in UTF-8"
        )
        rows = convert(file, writing, target)
        logger.info("%s is %s: its rows (%d) are now in %s", file, writing.described, rows, target)
        notes.append(f"{target.name} holds the rows ({rows:,}) of {file.name} ({writing.described}), as UTF-8.")
        written.append(target)
        files[split] = target
        if not writing.sure:
            ask = f"do accented letters look right? {file.name} was read as {writing.encoding}; --encoding settles it"
    path, splits = _data_paths(data, local.place, local.files, files)
    described = f"{data}, {', '.join(f'{split} {file.name}' for split, file in local.files.items())}"
    if place.is_file() or is_saved(place):
        described = data
    if local.others:
        notes.append(f"Not used: {', '.join(local.others[:10])}.")
    train = files["train"]
    features = parquet_features(train) if file_kind(train)[0] == ".parquet" else {}
    return Found(
        path,
        None,
        splits,
        tuple(files),
        file_source(train),
        described,
        label_names=lambda column: declared_names(features, column),
        notes=tuple(notes),
        written=tuple(written),
        ask=ask,
    )


def _data_paths(
    data: str, place: Path, there: dict[str, Path], files: dict[str, Path]
) -> tuple[str, dict[str, str | float]]:
    """`data.path` and `data.splits` for these files."""
    if place.is_file() or is_saved(place):
        return (data if files == there else str(files["train"])), {}
    if files == there:
        usual = all(plain_stem(file) == split for split, file in files.items())
        return data, ({} if usual else {split: file.name for split, file in files.items()})
    others: dict[str, str | float] = {split: str(file) for split, file in files.items() if split != "train"}
    return str(files["train"]), others


def _find_on_hub(data: str, name: str | None, offline: bool) -> Found:
    require_present(data)
    dataset = hub.find_dataset(data, name, offline=offline)
    named = hub_splits(dataset.splits)
    if "train" not in named:
        raise DataError(f"{data} has no train split, only: {', '.join(dataset.splits)}.")
    splits: dict[str, str | float] = {split: theirs for split, theirs in named.items() if split != theirs}
    theirs = named["train"]
    train = Source(f"{data}, split {theirs}", dataset.commit, lambda columns: dataset.rows(theirs, columns))
    described = f"{data}{f' ({name})' if name else ''} of the Hugging Face Hub"
    return Found(data, name, splits, tuple(named), train, described, label_names=dataset.label_names)


def require_new(path: Path, *, what: str = "") -> None:
    """Raise ConfigError when a file would be overwritten. what: why it would be written; empty for the config."""
    if not (path.exists() or path.is_symlink()):
        return
    remedy = "Name another file: -o OTHER.yaml, or move it."
    if what:
        remedy = "Move it, or write the config into another directory: -o DIRECTORY/config.yaml"
    raise ConfigError(f"{what}{', but ' if what else ''}{path} is there already and is not overwritten. {remedy}")
