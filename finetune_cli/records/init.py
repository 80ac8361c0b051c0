"""What `init` found and chose."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Choice:
    """One value of the written config: its dotted key, the value as it stands there, and why."""

    key: str
    value: str
    why: str


@dataclass(frozen=True)
class InitReport:
    """What `finetune init` did.

    config: the file that was written. source: what it was made from, in words. choices: in the order of the config.
    questions: what a person should settle, as in the config's comments. written: every file, the config first.
    next: the commands to type, in order.
    """

    config: Path
    source: str
    choices: tuple[Choice, ...]
    questions: tuple[str, ...]
    written: tuple[Path, ...]
    next: tuple[str, ...]
