"""What each column is for: the text, the label and with it the kind of task, the id. Chosen by rules that can be told.

Names count first, then what the columns hold. Where another choice is as good, it is named in a question, for a person
to settle; nothing is decided in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from finetune_cli.data.survey.columns import Column, Survey
from finetune_cli.data.survey.kinds import settle_kind
from finetune_cli.data.survey.labels import choose_label, is_id, surest_label
from finetune_cli.data.survey.names import SPLIT_COLUMN, plain, split_of
from finetune_cli.data.survey.roles import Roles
from finetune_cli.data.survey.texts import choose_text
from finetune_cli.errors import DataError, did_you_mean
from finetune_cli.tasks import Kind


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
    label_guess = tuple(label) or surest_label(columns)
    others = {name: column for name, column in columns.items() if name not in label_guess}
    texts = tuple(text) or choose_text(others, where, why, questions)
    if text:
        why["text"] = "as --text says"
    rest = {name: column for name, column in columns.items() if name not in texts}
    labels = tuple(label) or choose_label(rest, where, why, questions)
    if label:
        why["label"] = "as --label says"
    roles = Roles(texts, labels[0] if len(labels) == 1 else labels, "classification", why=why, questions=questions)
    settle_kind(roles, columns, kind)
    roles.id = next((name for name, column in rest.items() if name not in labels and is_id(column)), None)
    for name, column in rest.items():
        if SPLIT_COLUMN.fullmatch(plain(name)) and any(split_of(value) for value in column.counts or ()):
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
