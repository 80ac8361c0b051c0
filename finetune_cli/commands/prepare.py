"""finetune prepare: check the data, tokenise it once for each content, report on it; with --show, encoded rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune_cli.config.changes import changed
from finetune_cli.config.fields import RunConfig
from finetune_cli.data.label_sets import named_label
from finetune_cli.data.prepared import PreparedData
from finetune_cli.runs.rows import prepare_rows


def prepare(config: RunConfig, *, offline: bool = False, quiet: bool = False) -> PreparedData:
    """The checked and tokenised splits of a config, with the report on them; see runs.rows.prepare_rows.

    Of several folds, the first one's.
    """
    folds = config.data.folds
    if folds is not None and folds.fold is None:
        config = changed(config, {"data.folds.fold": 1})
    return prepare_rows(config, offline=offline, quiet=quiet)


@dataclass(frozen=True)
class ShownExample:
    """An encoded row for people: its tokens, and the place where the second text of a pair starts (None: no pair)."""

    split: str
    id: Any
    label: str | float | list[str] | None
    tokens: list[str]
    pair_start: int | None

    @property
    def text(self) -> str:
        if self.pair_start is None:
            return " ".join(self.tokens)
        return " ".join([*self.tokens[: self.pair_start], "||", *self.tokens[self.pair_start :]])


def show_examples(prepared: PreparedData, count: int) -> list[ShownExample]:
    """The first `count` encoded rows of train as tokens."""
    from tokenizers import Tokenizer

    split = prepared.splits["train"]
    token = Tokenizer.from_file(str(prepared.tokenizer_dir / "tokenizer.json")).id_to_token
    shown = []
    for row in range(min(count, split.num_rows)):
        pair_start = None
        if split.token_type_ids is not None:
            types = split.token_type_ids[split.offsets[row] : split.offsets[row + 1]]
            pair_start = int(types.argmax()) or None  # the first 1
        label = None if split.labels is None else named_label(split.labels[row], prepared.label_names)
        tokens = [token(int(number)) or "?" for number in split.tokens(row)]
        shown.append(ShownExample(split.name, split.ids[row], label, tokens, pair_start))
    return shown
