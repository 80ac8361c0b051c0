"""How long the texts are in tokens: by the model's tokenizer where it is on this machine, else by an estimate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune_cli.data.formats.row import Values
from finetune_cli.errors import FinetuneError
from finetune_cli.models.facts import text_facts
from finetune_cli.models.resolving import resolve_model

WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
PIECES_OF_A_WORD = 1.35  # WordPiece of BERT on English news and reviews, rounded up
LETTERS_ALONE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # scripts without blanks: about a token each
USUAL_LIMIT = 512
STEP = 16
LEAST = 64


@dataclass(frozen=True)
class Lengths:
    """Tokens of a row, special ones included.

    longest and usual: of the sample, the longest and what 99 % do not exceed. limit: the longest input of the model.
    counted_by: the tokenizer, or None where it is an estimate. rows: of the sample.
    """

    usual: int
    longest: int
    limit: int
    counted_by: str | None
    rows: int

    @property
    def max_length(self) -> int:
        """Enough for every row where that is short, else for 99 % of them; never more than the model takes. At least
        LEAST: new texts may be longer than these, and a batch is as wide as its own longest row."""
        wanted = self.longest if self.longest <= 2 * self.usual else self.usual
        room = 1 if self.counted_by else 1.25  # an estimate may be too low
        return min(max(LEAST, -(-round(wanted * room) // STEP) * STEP), self.limit)

    @property
    def why(self) -> str:
        by = f"by {self.counted_by}" if self.counted_by else "estimated, since the model's tokenizer is not here"
        cut = ""
        if self.usual > self.limit:
            cut = f"; longer than the model takes ({self.limit}), so some are cut: see data.long_texts"
        return f"tokens; 99 % of the rows have at most {self.usual}, the longest {self.longest}{cut} ({by})"


def measured_lengths(sample: Sequence[Values], text: Sequence[str], model: str) -> Lengths:
    """sample: whole rows. text: one column or two. model: as model.name_or_path; nothing is downloaded."""
    rows = [tuple(str(row.get(name) or "") for name in text) for row in sample]
    try:
        directory = resolve_model(model, offline=True, weights=False)
        limit = text_facts(directory).max_length
        counts, counted_by = _counted(rows, directory), "the model's own tokenizer"
    except (FinetuneError, OSError, ValueError):
        counts, counted_by, limit = [_estimate(texts) for texts in rows], None, USUAL_LIMIT
    usual = int(np.quantile(counts, 0.99, method="higher"))
    return Lengths(usual, max(counts), limit, counted_by, len(rows))


def _counted(rows: Sequence[tuple[str, ...]], directory: object) -> list[int]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
    except Exception as err:  # the library raises nothing narrower; not there, or damaged: training will tell
        raise ValueError("no tokenizer.json that can be read") from err
    tokenizer.no_truncation()
    tokenizer.no_padding()
    inputs = [texts if len(texts) > 1 else texts[0] for texts in rows]
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(inputs)]


def _estimate(texts: Sequence[str]) -> int:
    words = 0.0
    for text in texts:
        alone = len(LETTERS_ALONE.findall(text))
        words += alone + PIECES_OF_A_WORD * len(WORD.findall(LETTERS_ALONE.sub(" ", text)))
    return round(words) + len(texts) + 1
