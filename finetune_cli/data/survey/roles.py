"""What each column is for: the text, the label and with it the kind of task, the id. Chosen by rules that can be told.

Names count first, then what the columns hold. Where another choice is as good, it is named in a question, for a person
to settle; nothing is decided in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from finetune_cli.data.label_cells import SEPARATOR, split_names
from finetune_cli.data.survey.columns import ID_NAME, Column, Survey
from finetune_cli.data.survey.places import split_of
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.tasks import TASKS, Kind

TEXT_NAMES = re.compile(
    r"text|texts|sentence|review|reviews|reviewtext|review_text|review_body|body|content|comment|comment_text|message|"
    r"msg|tweet|post|document|utterance|description|question|query|title|headline|abstract|summary|input|prompt|email|"
    r"transcript|narrative|passage|paragraph|note|feedback|sms|texte|kommentar|nachricht|texto|testo|tekst",
    re.IGNORECASE,
)
LABEL_NAMES = re.compile(
    r"label|labels|class|classes|category|categories|target|y|sentiment|polarity|intent|topic|topics|tags?|emotion|"
    r"emotions|stars|rating|score|grade|outcome|answer|is_\w+|has_\w+|spam|toxic|gold|gold_label|annotation|type|"
    r"kategorie|klasse|etiqueta|classe|label_\w+|\w+_label",
    re.IGNORECASE,
)
EXACT_LABEL = re.compile(r"labels?|class|target|category|y|gold_label", re.IGNORECASE)
PAIRS = (
    *(task.text for task in TASKS.values() if len(task.text) == 2),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "context"),
    ("question", "answer"),
    ("claim", "evidence"),
)
NOT_TEXT = re.compile(r"\s*(?:https?://\S+|\S+@\S+\.\w+|\d{1,4}[-./]\d{1,2}[-./]\d{1,4}(?:[T ][\d:.+Z-]*)?)\s*")
MANY_NUMBERS = 20  # different whole numbers: more are values to predict rather than classes
SCALES = re.compile(r"stars?|rating|score|grade|points?|overall", re.IGNORECASE)
SPLIT_COLUMN = re.compile(r"split|set|fold|subset|partition", re.IGNORECASE)
FEW = 0.05  # of the rows: so many -1 are a mark, more are a class
MANY_CLASSES = 200  # different texts: more are hardly classes, unless the column is called label
ID_CHARACTERS = 64  # on average, at most


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

    @property
    def label_columns(self) -> tuple[str, ...]:
        return (self.label,) if isinstance(self.label, str) else self.label


def choose_roles(
    found: Survey,
    where: str,
    *,
    text: Sequence[str] = (),
    label: Sequence[str] = (),
    kind: Kind | None = None,
) -> Roles:
    """Choose among the columns of a survey. where: for messages. text, label, kind: what the user has settled.

    Raises DataError when there is no text or no label to be found.
    """
    columns = {name: column for name, column in found.columns.items() if column.present}
    for given, option in ((text, "--text"), (label, "--label")):
        _require(given, columns, where, option)
    why: dict[str, str] = {}
    questions: dict[str, str] = {}
    label_guess = tuple(label) or _surest_label(columns)
    others = {name: column for name, column in columns.items() if name not in label_guess}
    texts = tuple(text) or _choose_text(others, where, why, questions)
    if text:
        why["text"] = "as --text says"
    rest = {name: column for name, column in columns.items() if name not in texts}
    labels = tuple(label) or _choose_label(rest, where, why, questions)
    if label:
        why["label"] = "as --label says"
    roles = Roles(texts, labels[0] if len(labels) == 1 else labels, "classification", why=why, questions=questions)
    _settle_kind(roles, columns, kind)
    roles.id = next((name for name, column in rest.items() if name not in labels and _is_id(column)), None)
    for name, column in rest.items():
        if SPLIT_COLUMN.fullmatch(name) and any(split_of(value) for value in column.counts or ()):
            questions["splits"] = (
                f"the column {name} says which rows are for what: write a file for each of its values?"
            )
    if roles.id:
        why["id"] = "a different value in each row"
    return roles


def _require(names: Sequence[str], columns: Mapping[str, Column], where: str, option: str) -> None:
    for name in names:
        if name not in columns:
            hint = did_you_mean(name, columns, shown=repr)
            raise DataError(f"{option} {name}: {where} has the columns {', '.join(columns)}.{hint}")


def _is_id(column: Column) -> bool:
    able = column.is_whole or (column.is_text and column.mean_characters <= ID_CHARACTERS)
    return bool(ID_NAME.fullmatch(column.name)) and able and column.rows > 1 and column.is_unique


def _surest_label(columns: Mapping[str, Column]) -> tuple[str, ...]:
    """A column that is called label and can be one, so that it is not taken for a text."""
    return tuple(name for name, column in columns.items() if EXACT_LABEL.fullmatch(name) and _can_be_label(column))[:1]


def _choose_text(
    columns: Mapping[str, Column], where: str, why: dict[str, str], questions: dict[str, str]
) -> tuple[str, ...]:
    """One column or a pair."""
    pair = _named_pair(columns)
    if pair:
        why["text"] = "two columns that are called like a pair"
        return pair
    able = [column for column in columns.values() if _can_be_text(column)]
    if not able:
        shown = ", ".join(columns) or "none"
        raise DataError(f"{where}: no column looks like a text; found {shown}. Name it: --text COLUMN.")
    ranked = sorted(able, key=lambda column: (not TEXT_NAMES.fullmatch(column.name), -column.mean_characters))
    best, *others = ranked
    named = bool(TEXT_NAMES.fullmatch(best.name))
    why["text"] = (
        f"{'called so, ' if named else ''}{best.mean_characters:,.0f} characters on average"
        f"{'' if others else ', the only text'}"
    )
    rivals = [other.name for other in others if _is_prose(other)]
    if rivals:
        both = f"[{rivals[0]}, {best.name}]"
        questions["text"] = (
            f"could {_listed(rivals)} be the text as well? --text {rivals[0]} takes it; {both} reads the two as a pair"
        )
    return (best.name,)


def _named_pair(columns: Mapping[str, Column]) -> tuple[str, str] | None:
    """Two columns that are known as a pair, or whose names differ in 1 and 2, or a and b, alone."""
    by_lower = {name.lower(): name for name in columns if columns[name].is_text}
    for first, second in PAIRS:
        if first in by_lower and second in by_lower and all(_is_prose(columns[by_lower[n]]) for n in (first, second)):
            return by_lower[first], by_lower[second]
    for name in by_lower:
        found = re.fullmatch(r"(.*?)(_?)(1|a)", name)
        other = found and f"{found[1]}{found[2]}{'2' if found[3] == '1' else 'b'}"
        if other and other in by_lower and all(_is_prose(columns[by_lower[n]]) for n in (name, other)):
            return by_lower[name], by_lower[other]
    return None


def _can_be_text(column: Column) -> bool:
    if not column.is_text or column.is_number or column.is_flag:
        return False
    return column.counts is None or not all(NOT_TEXT.fullmatch(value) for value in list(column.counts)[:50])


def _is_prose(column: Column) -> bool:
    """Several words in most cells, and hardly a cell twice."""
    varied = column.counts is None or len(column.counts) > column.present / 4
    return _can_be_text(column) and varied and column.has_blanks > column.present / 2


def _can_be_label(column: Column) -> bool:
    if column.is_list or column.is_number:
        return column.is_list or column.counts is None or len(column.counts) > 1
    if column.counts is None or len(column.counts) < 2:
        return False
    if EXACT_LABEL.fullmatch(column.name):
        return True
    if all(NOT_TEXT.fullmatch(value) for value in list(column.counts)[:50]):
        return False
    return len(column.counts) <= min(MANY_CLASSES, max(2, column.present / 2)) or _has_joined_names(column)


def _choose_label(
    columns: Mapping[str, Column], where: str, why: dict[str, str], questions: dict[str, str]
) -> tuple[str, ...]:
    able = {name: column for name, column in columns.items() if _can_be_label(column) and not _is_counter(column)}
    named = [name for name in able if LABEL_NAMES.fullmatch(name)]
    flags = [name for name, column in able.items() if column.is_flag]
    surest = [name for name in named if EXACT_LABEL.fullmatch(name)]
    if len(flags) > 1 and not surest and not [name for name in named if name not in flags]:
        why["label"] = f"{len(flags)} columns with 0 and 1, any number of them in a row"
        questions["label"] = "are these the classes, all of them, and no other facts about the rows?"
        return tuple(flags)
    if not able:
        constant = [name for name, column in columns.items() if column.counts and len(column.counts) == 1]
        hint = f" ({_listed(constant)} has one value only)" if constant else ""
        raise DataError(
            f"{where}: no column looks like a label; beside the text there is {', '.join(columns) or 'nothing'}{hint}. "
            f"Training needs the right answer in each row: add a column, or name it: --label COLUMN. "
            f"To label these rows with a model: finetune predict RUN|MODEL FILE."
        )
    ranked = sorted(
        able.values(),
        key=lambda column: (
            not EXACT_LABEL.fullmatch(column.name),
            not LABEL_NAMES.fullmatch(column.name),
            column.is_number and not column.is_whole,
            len(column.counts or range(MANY_CLASSES + 1)),
        ),
    )
    best, *others = ranked
    why["label"] = "called so" if best.name in named else "few different values" if best.counts else "numbers"
    if best.name not in surest and others:
        names = [other.name for other in others]
        questions["label"] = f"is it this column? {_listed(names)} could be the label as well: --label {names[0]}"
    return (best.name,)


def _is_counter(column: Column) -> bool:
    """A number for each row is an id."""
    return column.is_unique and (_is_id(column) or (column.is_whole and not LABEL_NAMES.fullmatch(column.name)))


def _has_joined_names(column: Column) -> bool:
    """Whether cells hold several names, as `a|b` or JSON lists, that are there in other cells as well."""
    cells = list(column.counts or ())
    joined = [cell for cell in cells if SEPARATOR in cell or cell.lstrip().startswith("[")]
    if not joined:
        return False
    try:
        parts = [split_names(cell) for cell in cells]
    except ValueError:
        return False
    names = {str(name) for part in parts if isinstance(part, list) for name in part}
    return len(names) <= min(MANY_CLASSES, 2 * len(cells))


def _settle_kind(roles: Roles, columns: Mapping[str, Column], kind: Kind | None) -> None:
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
    if column.is_list or (column.is_text and _has_joined_names(column)):
        form = "lists" if column.is_list else "cells such as a|b"
        return "multilabel", f"{form}: any number of labels in a row"
    if column.is_number and not column.is_whole:
        return "regression", "numbers with decimals"
    if column.is_number and (number is None or number > MANY_NUMBERS):
        questions["task"] = "values to predict? class numbers would be --task classification"
        return "regression", f"{'very many' if number is None else number} different whole numbers"
    if number is None:
        raise DataError(f"column {column.name!r}: too many different texts for classes. Name another: --label COLUMN.")
    if column.is_number and number > 2 and ("0" not in (column.counts or ()) or SCALES.fullmatch(column.name)):
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


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:4])
    return " or ".join(shown) if len(names) <= 4 else f"{' or '.join(shown)} (or {len(names) - 4} more)"
