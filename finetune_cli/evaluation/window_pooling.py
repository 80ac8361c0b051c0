"""From the logits of a row's windows to the row's: logits again, so that all that scores rows takes them as it is.

Letters: W windows of all rows, N rows, C outputs.
"""

from __future__ import annotations

import numpy as np

from finetune_cli.data.windows import WholeRows, Windows


def pool_windows(logits: np.ndarray, pieces: WholeRows) -> np.ndarray:
    """float32 logits (N, C) of rows from those of their pieces (W, C). A row of one piece keeps its logits as they are.

    mean: the row's probabilities are the means of its windows'; of a regression, its number is. max: each class has
    the highest of its probabilities, and of one class a row they are made to sum to 1 again; of a regression the
    highest number. logits: the means of the logits.
    """
    if not isinstance(pieces, Windows):
        return logits
    starts, counts = pieces.first[:-1], pieces.counts
    pool, kind = pieces.settings.pool, pieces.settings.kind
    values = logits.astype(np.float64)
    if kind == "classification" and pool != "logits":
        values -= np.logaddexp.reduce(values, axis=1, keepdims=True)  # log probabilities
    if pool == "max":
        pooled = np.maximum.reduceat(values, starts)
    elif kind == "regression" or pool == "logits":
        pooled = _means(values, starts, counts)
    elif kind == "classification":
        pooled = _log_means(values, starts, counts)
    else:
        yes, no = (_log_means(-np.logaddexp(0, sign * values), starts, counts) for sign in (-1, 1))
        pooled = yes - no  # the logit of the mean probability
    alone = counts == 1
    pooled = pooled.astype(np.float32)
    pooled[alone] = logits[starts[alone]]
    return pooled


def _means(values: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.asarray(np.add.reduceat(values, starts) / counts[:, None])


def _log_means(logs: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The logarithms of the means of what these are the logarithms of; none underflows."""
    return np.asarray(np.logaddexp.reduceat(logs, starts) - np.log(counts)[:, None])
