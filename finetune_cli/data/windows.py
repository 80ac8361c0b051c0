"""Tokenised rows, and what a model is given of each: the row as it is, or overlapping windows of a longer one.

Rows are kept whole; a window is arithmetic. All of a row's windows have the tokens before its long text (special ones,
and of a pair the first text) and those after it, and between them an equally long piece of that text; the last piece
ends where the text ends. Loops and scoring count pieces only where they make batches.

Letters: N rows, W pieces, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from finetune_cli.errors import ConfigError
from finetune_cli.tasks import Kind

Pool = Literal["mean", "max", "logits"]


@dataclass(frozen=True)
class WindowSettings:
    """stride: tokens that neighbouring windows share, as in tokenizers. pool: how the answers to a row's windows become
    the row's; see evaluation.window_pooling. kind: of the task. max_length: tokens of a window, special ones too."""

    stride: int
    pool: Pool
    kind: Kind
    max_length: int


class WholeRows:
    """Each row is one piece. offsets: int64 (N + 1,), see TokenRows."""

    def __init__(self, offsets: np.ndarray) -> None:
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def row_tokens(self) -> np.ndarray:
        """The tokens that the model is given for each row (N,)."""
        return np.diff(self.offsets).astype(np.int32)

    @property
    def piece_tokens(self) -> np.ndarray:
        """Tokens of all pieces (W,)."""
        return np.diff(self.offsets)

    def most_of(self, num_rows: int) -> int:
        """The most pieces that so many rows have."""
        return num_rows

    def lengths(self, pieces: np.ndarray) -> np.ndarray:
        """Tokens of some pieces."""
        return self.offsets[pieces + 1] - self.offsets[pieces]

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The pieces of some rows, in their order."""
        return rows

    def rows(self, pieces: np.ndarray) -> np.ndarray:
        """The row that each piece is of."""
        return pieces

    def weights(self, pieces: np.ndarray) -> np.ndarray | None:
        """The share of its row's weight that each piece has, float32; None: all of it."""
        return None

    def places(self, pieces: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Where the tokens in these columns (M, T) of the pieces (M,) stand among the tokens of all rows."""
        return self.offsets[pieces][:, None] + columns


class Windows(WholeRows):
    """Rows longer than `max_length` are cut into windows.

    edges: int (N, 3), of each long row: how many tokens at its front and how many at its end each of its windows has,
    and how many neighbours may share; of a row that fits they do not matter. Raises ConfigError for a stride that
    leaves no way forward.
    """

    def __init__(self, offsets: np.ndarray, edges: np.ndarray, settings: WindowSettings) -> None:
        super().__init__(offsets)
        whole = np.diff(offsets)
        self.settings = settings
        self.front, self.back, shared = np.asarray(edges, np.int64).T
        self.beyond = np.maximum(whole - settings.max_length, 0)  # what the first window leaves of a row (N,)
        self.window_tokens = np.minimum(whole, settings.max_length)
        room = settings.max_length - self.front - self.back
        self.steps = np.where(self.beyond > 0, room - np.minimum(settings.stride, shared), 1)
        if (self.steps < 1).any():
            least = room[self.steps < 1].min()
            raise ConfigError(
                f"data.long_texts.windows.stride: {settings.stride}, and a window of {settings.max_length} tokens has "
                f"{least} beside the special ones, so that none would move on. Allowed: 0 to {least - 1}."
            )
        self.counts = 1 + -(-self.beyond // self.steps)
        self.first = np.concatenate([[0], np.cumsum(self.counts)])  # row i has the pieces first[i] to first[i + 1]

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def row_tokens(self) -> np.ndarray:
        return self.counts * self.window_tokens

    @property
    def piece_tokens(self) -> np.ndarray:
        return np.repeat(self.window_tokens, self.counts)

    def most_of(self, num_rows: int) -> int:
        return num_rows * int(self.counts.max())

    def lengths(self, pieces: np.ndarray) -> np.ndarray:
        return np.asarray(self.window_tokens[self.rows(pieces)])

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        counts = self.counts[rows]
        begins = np.cumsum(counts) - counts
        return np.repeat(self.first[rows] - begins, counts) + np.arange(counts.sum())

    def rows(self, pieces: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.first, pieces, side="right") - 1

    def weights(self, pieces: np.ndarray) -> np.ndarray | None:
        return (1 / self.counts[self.rows(pieces)]).astype(np.float32)

    def places(self, pieces: np.ndarray, columns: np.ndarray) -> np.ndarray:
        rows = self.rows(pieces)
        beyond = self.beyond[rows]
        shift = np.minimum((pieces - self.first[rows]) * self.steps[rows], beyond)
        in_text = columns >= self.front[rows][:, None]
        after_text = columns >= (self.window_tokens - self.back)[rows][:, None]
        moved = np.where(after_text, beyond[:, None], np.where(in_text, shift[:, None], 0))
        return self.offsets[rows][:, None] + columns + moved


@dataclass(frozen=True)
class TokenRows:
    """Tokenised rows laid end to end; row i is input_ids[offsets[i]:offsets[i + 1]].

    input_ids: int32 (T,). offsets: int64 (N + 1,). token_type_ids: int8 (T,), or None when the model takes none.
    padding_side: where a batch of them is filled up. edges, windows: of rows that are read in windows, see Windows;
    None for rows that are not.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    token_type_ids: np.ndarray | None = None
    padding_side: str = "right"
    edges: np.ndarray | None = None
    windows: WindowSettings | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def pieces(self) -> WholeRows:
        """What the model is given of the rows. Raises ConfigError; see Windows."""
        if self.windows is None or self.edges is None:
            return WholeRows(self.offsets)
        return Windows(self.offsets, self.edges, self.windows)
