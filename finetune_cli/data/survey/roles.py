"""What each column is for: the text, the label and with it the kind of task, the id. Chosen by rules that can be told.

Names count first, then what the columns hold. Where another choice is as good, it is named in a question, for a person
to settle; nothing is decided in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from finetune_cli.data.survey.columns import ChosenColumns, Column, Survey
from finetune_cli.data.survey.labels import choose_label, has_joined_names, is_id, surest_label
from finetune_cli.data.survey.names import SCALES, SPLIT_COLUMN, plain, split_of
from finetune_cli.data.survey.texts import choose_text
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.tasks import Kind

MANY_NUMBERS = 20  # different whole numbers: more are values to predict rather than classes
FEW = 0.05  # of the rows: so many -1 are a mark, more are a class


@dataclass
class Roles:
    """What `data` and `task` of the config will say, and why; `questions`: what a person may want otherwise.

    label: a column, or the columns with 0 and 1 of a multilabel task. labels: class names that have to be said, because
    the label reader would take one of them for something else. unlabelled: rows that have no label, to be left out.
    why: by role.
    """

    text: tuple[str, ...]
    label: str | tuple[str, ...]
    kind: Kind
    id: str | None = None
    labels: tuple[str, ...] | None = None
    unlabelled: int = 0
    why: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)


def choose_roles(
    survey: Survey,
    where: str,
    *,
    text: Sequence[str] = (),
    label: Sequence[str] = (),
    kind: Kind | None = None,
) -> Roles:
    """Choose among the columns of a survey. where: for messages. text, label, kind: what the user has settled.

    Raises DataError when there is no text or no label to be found.
    """
    columns = {name: column for name, column in survey.columns.items() if column.present}
    for given, option in ((text, "--text"), (label, "--label")):
        _require(given, columns, where, option)
    label_guess = tuple(label) or surest_label(columns)
    others = {name: column for name, column in columns.items() if name not in label_guess}
    texts = ChosenColumns(tuple(text), "as --text says") if text else choose_text(others, where)
    rest = {name: column for name, column in columns.items() if name not in texts.names}
    labels = ChosenColumns(tuple(label), "as --label says") if label else choose_label(rest, where)
    roles = Roles(
        texts.names,
        labels.names[0] if len(labels.names) == 1 else labels.names,
        "classification",
        why={"text": texts.why, "label": labels.why},
        questions={"text": texts.question, "label": labels.question},
    )
    _settle_kind(roles, columns, kind)
    roles.id = next((name for name, column in rest.items() if name not in labels.names and is_id(column)), None)
    for name, column in rest.items():
        if SPLIT_COLUMN.fullmatch(plain(name)) and any(split_of(value) for value in column.counts or ()):
            roles.questions["splits"] = (
                f"the column {name} says which rows are for what: write a file for each of its values?"
            )
    if roles.id:
        roles.why["id"] = "a different value in each row"
    return roles


def _require(names: Sequence[str], columns: Mapping[str, Column], where: str, option: str) -> None:
    for name in names:
        if name not in columns:
            hint = did_you_mean(name, columns, shown=repr)
            raise DataError(f"{option} {name}: {where} has the columns {', '.join(columns)}.{hint}")


def _settle_kind(roles: Roles, columns: Mapping[str, Column], kind: Kind | None) -> None:
    """The kind of task that the label makes, and what can be asked about it."""
    if not isinstance(roles.label, str):
        roles.kind, roles.why["task"] = "multilabel", "a column with 0 and 1 for each class"
        return
    column = columns[roles.label]
    roles.kind, roles.why["task"] = _kind_of(column, roles.questions)
    if kind and kind != roles.kind:
        roles.kind, roles.why["task"] = kind, "as --task says"
        roles.questions.pop("task", None)
    _count_unlabelled(roles, column)
    _name_negative_classes(roles, column)
    _name_places_of_vectors(roles, column)


def _count_unlabelled(roles: Roles, column: Column) -> None:
    """Empty cells are no label, nor are a few -1 among numbers from 0; of several labels an empty cell is none."""
    roles.unlabelled = column.nulls if roles.kind == "multilabel" else column.missing
    if roles.kind == "classification" and column.is_whole and column.counts and "0" in column.counts:
        marked = column.counts["-1"]
        roles.unlabelled += marked if marked <= FEW * column.present else 0


def _name_negative_classes(roles: Roles, column: Column) -> None:
    """-1, 0 and 1 are classes to many, where -1 alone would mark rows without a label."""
    if roles.kind != "classification" or not column.is_whole or not column.counts:
        return
    numbers = sorted({int(float(value)) for value in column.counts if value})
    if len(numbers) > 1 and numbers[0] < 0 and roles.unlabelled <= column.missing:
        roles.labels = tuple(map(str, numbers))
        roles.questions["labels"] = f"is {numbers[0]} a class? Without this list it marks rows that have no label"


def _name_places_of_vectors(roles: Roles, column: Column) -> None:
    """Lists of 0 and 1 say nothing of what their places mean."""
    if roles.kind != "multilabel" or not column.counts:
        return
    vectors = [json.loads(cell) for cell in column.counts if cell.lstrip().startswith("[")]
    lengths = {len(vector) for vector in vectors if vector}
    flags = [flag for vector in vectors for flag in vector]
    if len(vectors) < len(column.counts) or len(lengths) != 1 or lengths == {1} or not all(f in (0, 1) for f in flags):
        return
    roles.labels = tuple(f"{column.name}_{place}" for place in range(1, max(lengths) + 1))
    roles.questions["labels"] = "what are the classes called, in the order of the vectors?"


def _kind_of(column: Column, questions: dict[str, str]) -> tuple[Kind, str]:
    number = len(column.counts) if column.counts is not None else None
    if column.is_list or (column.is_text and has_joined_names(column)):
        form = "lists" if column.is_list else "cells such as a|b"
        return "multilabel", f"{form}: any number of labels in a row"
    if column.is_number and not column.is_whole:
        return "regression", "numbers with decimals"
    if column.is_number and (number is None or number > MANY_NUMBERS):
        questions["task"] = "values to predict? class numbers would be --task classification"
        return "regression", f"{'very many' if number is None else number} different whole numbers"
    if number is None:
        raise DataError(f"column {column.name!r}: too many different texts for classes. Name another: --label COLUMN.")
    if column.is_number and number > 2 and ("0" not in (column.counts or ()) or SCALES.fullmatch(plain(column.name))):
        questions["task"] = (
            "classes, or steps of one scale? --task regression predicts the number, and being off by one counts less"
        )
    if joined := [name for name in column.counts or () if _joins_others(name, column)]:
        questions["label"] = (
            f"is {joined[0]!r} several labels? Written with |, as in a|b, they are read as such: --task multilabel"
        )
    return "classification", f"{number} different values"


def _joins_others(name: str, column: Column) -> bool:
    """Whether a class is called like other classes with a comma or semicolon between them."""
    parts = [part.strip() for part in re.split("[,;]", name)]
    return len(parts) > 1 and all(part in (column.counts or ()) for part in parts)
