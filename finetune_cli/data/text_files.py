"""Folders in which each file is one text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finetune_cli.data.formats.packing import binary_form, file_kind
from finetune_cli.data.formats.row import BadRow, Row, say_once
from finetune_cli.data.source_files import natural
from finetune_cli.data.survey.foreign import HEAD_BYTES, NAMES, encoding_of
from finetune_cli.errors import DataError, counted

NO_TEXTS = ("readme", "license")  # what lies beside texts and is none of them


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
    return sorted(file for file in folder.iterdir() if file.is_file() and file_kind(file)[0])


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
