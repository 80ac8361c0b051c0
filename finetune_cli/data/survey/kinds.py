"""What kind of task a label column makes, and what can be asked about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from finetune_cli.data.survey.columns import Column
from finetune_cli.data.survey.labels import has_joined_names
from finetune_cli.data.survey.names import SCALES, plain
from finetune_cli.data.survey.roles import Roles
from finetune_cli.errors import DataError
from finetune_cli.tasks import Kind

MANY_NUMBERS = 20  # different whole numbers: more are values to predict rather than classes
FEW = 0.05  # of the rows: so many -1 are a mark, more are a class


def settle_kind(roles: Roles, columns: Mapping[str, Column], kind: Kind | None) -> None:
    """The kind of task, and what can be asked about it."""
    if len(roles.label_columns) > 1:
        roles.kind, roles.why["task"] = "multilabel", "a column with 0 and 1 for each class"
        return
    roles.kind, roles.why["task"] = _kind_of(columns[roles.label_columns[0]], roles.questions)
    if kind and kind != roles.kind:
        roles.kind, roles.why["task"] = kind, "as --task says"
        roles.questions.pop("task", None)
    column = columns[roles.label_columns[0]]
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
