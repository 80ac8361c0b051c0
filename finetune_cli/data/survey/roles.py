"""What each column is for, once it was chosen."""

from __future__ import annotations

from dataclasses import dataclass, field

from finetune_cli.tasks import Kind


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
