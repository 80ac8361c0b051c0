"""Folders in which each file is one text, perhaps inside folders that are called like classes: `pos/0_9.txt`, as
aclImdb and 20 Newsgroups have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from finetune_cli.data.formats.file_kinds import binary_form, is_data_file
from finetune_cli.data.formats.row import BadRow, Row, Values, say_once
from finetune_cli.data.source_files import natural
from finetune_cli.data.survey.foreign import HEAD_BYTES, NAMES, encoding_of
from finetune_cli.data.survey.names import split_of
from finetune_cli.errors import DataError, counted

NO_TEXTS = ("readme", "license")  # what lies beside texts and is none of them
NOT_CLASSES = {"unsup", "unlabeled", "unlabelled", "__pycache__"}
LOOKED_AT = 20  # files of a folder


def is_text(file: Path) -> bool:
    """`.txt`, or no ending but a number, as mail folders have."""
    named = file.suffix.lower() == ".txt" or file.name.isdecimal()
    return named and file.is_file() and not file.name.startswith(".")


def text_of(file: Path, encoding: str) -> str:
    """What a file says, without blanks around it. Raises DataError for what is no text of this encoding."""
    try:
        with file.open("rb") as head:
            if form := binary_form(head.read(HEAD_BYTES)):
                raise DataError(f"{file} is {form}")
        return file.read_text(encoding=encoding).strip()
    except (UnicodeError, LookupError) as err:
        raise DataError(f"{file} is not {encoding}: {err}. Name its encoding: --encoding.") from err


def text_files(folder: Path) -> list[Path]:
    """The texts in a folder and in the folders below it, 2.txt before 10.txt; none that is hidden."""
    names = [file.relative_to(folder) for file in folder.rglob("*") if is_text(file)]
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    texts = [name for name in shown if not name.name.lower().startswith(NO_TEXTS)]
    return [folder / name for name in sorted(texts, key=lambda name: natural(name.as_posix()))]


def data_files(folder: Path) -> list[Path]:
    """The files of rows that lie in a folder."""
    return sorted(filter(is_data_file, folder.iterdir()))


def text_file_rows(folder: Path, *, column: str, id_column: str) -> Iterator[Row]:
    """A row of each text: its path in the folder as the id, and what it says. What cannot be read is a BadRow.

    Encodings are found as `init` finds them; one that the bytes do not prove is warned of at the end.
    """
    guessed: list[str] = []
    for number, file in enumerate(text_files(folder)):
        try:
            encoding, sure = encoding_of(file)
            text = text_of(file, encoding)
        except (DataError, OSError) as err:
            yield BadRow(str(folder), number, None, str(err))
            continue
        guessed += [] if sure else [NAMES.get(encoding, encoding)]
        yield number, {id_column: file.relative_to(folder).as_posix(), column: text}
    if guessed:
        verb = "is" if len(guessed) == 1 else "are"
        say_once(
            f"{folder}: {counted(len(guessed), 'file')} {verb} not UTF-8, and read as {', '.join(sorted({*guessed}))}."
        )


def class_folders(place: Path) -> dict[str, Path]:
    """Split -> the folder that holds a folder for each class; empty when there are none. `place` alone is train."""
    if len(_classes(place)) > 1:
        return {"train": place}
    splits = {split_of(folder.name): folder for folder in _folders(place) if len(_classes(folder)) > 1}
    return {split: folder for split, folder in splits.items() if split is not None}


def folder_rows(place: Path, encoding: str | None) -> Iterator[Values]:
    """A row of each file: its path as the id, its text, its folder as the label. In an order that mixes the classes,
    so that the first rows are an even sample."""
    files = [file for folder in _classes(place) for file in sorted(folder.iterdir()) if is_text(file)]
    for file in sorted(files, key=lambda file: hashlib.sha1(_id(file).encode()).digest()):
        text = text_of(file, encoding or encoding_of(file)[0])
        yield {"id": _id(file), "text": text, "label": file.parent.name}


def unproven_encodings(place: Path) -> list[str]:
    """The encodings that were guessed, one for each file that is not UTF-8."""
    files = (file for folder in _classes(place) for file in folder.iterdir() if is_text(file))
    return [encoding for encoding, sure in map(encoding_of, files) if not sure]


def _id(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _classes(place: Path) -> list[Path]:
    """The folders that hold texts and could be classes."""
    return [
        folder
        for folder in _folders(place)
        if folder.name.lower() not in NOT_CLASSES and split_of(folder.name) is None and _holds_texts(folder)
    ]


def _holds_texts(folder: Path) -> bool:
    first = [path for path, _ in zip(folder.iterdir(), range(LOOKED_AT), strict=False) if not path.name.startswith(".")]
    return bool(first) and all(map(is_text, first))
