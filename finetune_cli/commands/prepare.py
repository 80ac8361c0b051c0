"""finetune prepare: check the data, tokenise it once for each content, report on it; with --show, encoded rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune_cli.config.changes import changed
from finetune_cli.runs.rows import prepare_rows

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.data.prepared import PreparedData, PreparedSplit


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


def show_examples(prepared: PreparedData, count: int, *, split: str = "train") -> list[ShownExample]:
    """The first `count` encoded rows of a split as tokens."""
    return list(_shown(prepared, prepared.splits[split], count))


def _shown(prepared: PreparedData, split: PreparedSplit, count: int) -> Iterator[ShownExample]:
    from tokenizers import Tokenizer

    from finetune_cli.data.label_sets import named_label

    token = Tokenizer.from_file(str(prepared.tokenizer_dir / "tokenizer.json")).id_to_token
    for row in range(min(count, split.num_rows)):
        pair_start = None
        if split.token_type_ids is not None:
            types = split.token_type_ids[split.offsets[row] : split.offsets[row + 1]]
            pair_start = int(types.argmax()) or None  # the first 1
        label: str | float | list[str] | None = None
        if split.labels is not None:
            label = named_label(split.labels[row], prepared.label_names)
        tokens = [token(int(number)) or "?" for number in split.tokens(row)]
        yield ShownExample(split.name, split.ids[row], label, tokens, pair_start)
