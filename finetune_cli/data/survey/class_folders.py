"""Folders that are called like classes, with a file for each text: `pos/0_9.txt`, as aclImdb and 20 Newsgroups have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from finetune_cli.data.formats.row import Values
from finetune_cli.data.survey.foreign import encoding_of
from finetune_cli.data.survey.names import split_of
from finetune_cli.data.text_files import is_text, text_of

NOT_CLASSES = {"unsup", "unlabeled", "unlabelled", "__pycache__"}
LOOKED_AT = 20  # files of a folder


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
