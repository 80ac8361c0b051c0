"""Texts to token numbers, in batches, with the result that calling the tokenizer itself would give.

The Rust tokenizer behind a fast tokenizer is called directly: no dictionaries of lists are built per row, nothing is
padded, and truncation is applied only to the rows that need it, so that the true lengths are known.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune_cli.data.checks.findings import ROWS_SHOWN
from finetune_cli.data.long_texts import LongTexts, cut_row
from finetune_cli.data.windows import TokenRows, WindowSettings
from finetune_cli.errors import DataError, MissingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH_ROWS = 2048  # rows handed to the Rust tokenizer at once: enough for its threads, little memory


@dataclass(frozen=True, kw_only=True)
class EncodedBatch(TokenRows):
    """Rows just encoded. true_lengths: int32 (N,), tokens before truncation."""

    true_lengths: np.ndarray


class TextEncoder:
    """Encodes texts, or pairs of texts, with special tokens and at most `max_length` tokens.

    tokenizer: a fast transformers tokenizer; it is not changed. truncation: "longest_first", "only_first",
    "only_second", or "error" to refuse longer rows. long_texts: what is kept of long rows in place of truncation, of
    those that are read in windows all. token_types: whether the model is given them; None: whenever the
    tokenizer does. vocabulary: tokens that the model knows. Raises MissingError for a tokenizer without a fast version.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        truncation: str = "longest_first",
        long_texts: LongTexts = None,
        token_types: bool | None = None,
        vocabulary: int | None = None,
    ) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise MissingError(
                f"{type(tokenizer).__name__} has no fast version (tokenizer.json). Convert it once with the tokenizers "
                f"library, or choose another model."
            )
        self.max_length = max_length
        self.truncation = truncation
        self.long_texts = long_texts
        self.keep_end = tokenizer.truncation_side == "left"
        self.has_token_types = "token_type_ids" in tokenizer.model_input_names if token_types is None else token_types
        self.vocabulary = vocabulary
        self.padding_side: str = tokenizer.padding_side
        # Files from sentence-transformers carry truncation and padding of their own.
        self._whole: Tokenizer = copy.deepcopy(backend)
        self._whole.no_truncation()
        self._whole.no_padding()
        self._whole.encode_special_tokens = getattr(tokenizer, "split_special_tokens", False)
        self._cut: Tokenizer = copy.deepcopy(self._whole)
        if truncation != "error":
            self._cut.enable_truncation(max_length, strategy=truncation, direction=tokenizer.truncation_side)

    def encode(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, rows: Sequence[int] | None = None
    ) -> EncodedBatch:
        """Encode rows; `pairs` are the second texts, `rows` their numbers from 0 (default: their places).

        Raises DataError, with row numbers from 1, for rows that are too long under "error", that cannot be cut as
        asked, or that have no tokens at all.
        """
        inputs: list[Any] = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        rows = range(len(inputs)) if rows is None else rows
        encodings: list[Any] = self._whole.encode_batch_fast(inputs)
        true_lengths = np.fromiter(map(len, encodings), np.int32, len(encodings))
        too_long = np.flatnonzero(true_lengths > self.max_length).tolist()
        if too_long:
            self._truncate(encodings, inputs, too_long, rows, true_lengths)
        lengths = true_lengths if not too_long else np.fromiter(map(len, encodings), np.int32, len(encodings))
        if not lengths.all():
            shown = _listed([rows[place] for place in np.flatnonzero(lengths == 0).tolist()])
            raise DataError(f"{shown}: no tokens are left of the text. Remove empty rows.")
        offsets = np.zeros(len(encodings) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        total = int(offsets[-1])
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32, total)
        if self.vocabulary is not None and total and int(ids.max()) >= self.vocabulary:
            self._refuse_unknown(ids, offsets, rows)
        types = None
        if self.has_token_types:
            types = np.fromiter(chain.from_iterable(encoding.type_ids for encoding in encodings), np.int8, total)
        edges = windows = None
        if isinstance(self.long_texts, WindowSettings):
            windows, edges = self.long_texts, np.zeros((len(encodings), 3), np.int32)
            edges[too_long] = [encodings[place].edges for place in too_long] or np.zeros((0, 3))
        return EncodedBatch(ids, offsets, types, self.padding_side, edges, windows, true_lengths=true_lengths)

    def _refuse_unknown(self, ids: np.ndarray, offsets: np.ndarray, rows: Sequence[int]) -> None:
        """For special tokens beyond the model's table, which a text has by their name."""
        place = int(np.argmax(ids >= (self.vocabulary or 0)))
        row = rows[int(np.searchsorted(offsets, place, side="right")) - 1]
        raise DataError(
            f"row {row + 1}: has the token {self._whole.id_to_token(int(ids[place]))!r}, number {ids[place]}, and the "
            f"model knows {self.vocabulary} tokens. Take it out of the text, or give the model more rows and save it "
            f"again: model.resize_token_embeddings(len(tokenizer))"
        )

    def _truncate(
        self,
        encodings: list[Any],
        inputs: Sequence[Any],
        places: Sequence[int],
        rows: Sequence[int],
        true_lengths: np.ndarray,
    ) -> None:
        """Replace the encodings at `places` by what is kept of them."""
        if self.long_texts is not None:
            for place in places:
                encodings[place] = cut_row(
                    encodings[place], self.long_texts, max_length=self.max_length, keep_end=self.keep_end
                )
            return
        listed = _listed([rows[place] for place in places])
        if self.truncation == "error":
            raise DataError(
                f"{listed}: longer than data.max_length ({self.max_length} tokens; the longest has "
                f"{true_lengths.max()}). Shorten them, raise data.max_length, or set data.truncation: longest_first."
            )
        try:
            cut = self._cut.encode_batch_fast([inputs[place] for place in places])
        except Exception as err:  # the Rust side raises nothing more special
            raise DataError(
                f"{listed}: longer than {self.max_length} tokens, and cutting with data.truncation: {self.truncation} "
                f"is not enough for all of them. Set data.truncation: longest_first."
            ) from err
        for place, encoding in zip(places, cut, strict=True):
            encodings[place] = encoding


def _listed(rows: Sequence[int]) -> str:
    more = f" ... ({len(rows)} in this part of the file)" if len(rows) > ROWS_SHOWN else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {', '.join(str(row + 1) for row in rows[:ROWS_SHOWN])}{more}"
