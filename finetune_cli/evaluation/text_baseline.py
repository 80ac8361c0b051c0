"""A baseline that hurts: TF-IDF with logistic regression, fitted on the rows that the model was trained on.

It sees what the model sees, the tokens of a row after truncation: how often each occurs, and each pair of neighbours.
Of two texts it gets both, and what they have in common. scikit-learn is imported when a baseline is fitted.

Dimensions: N rows, T tokens of all rows, F features, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune_cli.data.prepared import PreparedSplit
from finetune_cli.tasks import Kind

Array = NDArray[Any]
Score = Callable[[Any], Array]  # from features (N, F) to scores (N, C) or (N,)

MAX_ROWS, MAX_ANSWERS, LEAST_ROWS = 20_000, 200_000, 2_000  # answers: rows x classes
MAX_FEATURES = 50_000
ROWS_AT_ONCE = 20_000  # that are scored: their features take about 100 bytes a token
NEIGHBOUR_BUCKETS = 2**18  # pairs of neighbours are counted by a hash
REGULARISATION = 10.0  # scikit-learn's C: the usual choice for TF-IDF, not tuned
MAX_ITERATIONS = 100


@dataclass(frozen=True)
class FittedBaseline:
    """A fitted baseline's scores (N, C) or (N,) of the rows it was asked about, and on how many rows it was fitted."""

    scores: Array
    num_rows: int


def fit_text_baseline(
    train: PreparedSplit,
    train_labels: Array,
    rows: PreparedSplit,
    *,
    kind: Kind,
    num_classes: int,
    pair: bool,
    seed: int,
) -> FittedBaseline | None:
    """Fit on train rows and score `rows`; None when there is nothing to learn: one class, or one label, in all rows.

    Labels and scores in the form of the kind: class numbers (N,) and probabilities (N, C), 0 and 1 (N, C) and a
    probability each, or numbers (N,), for which it is ridge regression. Of more than 20,000 rows (fewer with more than
    ten classes) that many are drawn, so that it takes seconds at any size.
    """
    limit = min(MAX_ROWS, max(LEAST_ROWS, MAX_ANSWERS // max(1, num_classes)))
    chosen = _draw(len(train.offsets) - 1, limit, seed)
    labels = train_labels[chosen]
    if (labels == labels[0]).all():
        return None
    features = _Features(train, chosen, pair=pair)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged to the last digit; a class that no row has
        fit = {"classification": _classes, "multilabel": _sets, "regression": _numbers}[kind]
        score = fit(features.of(train, chosen), labels, num_classes)
    numbers = np.arange(len(rows.offsets) - 1)
    parts = [numbers[start : start + ROWS_AT_ONCE] for start in range(0, len(numbers), ROWS_AT_ONCE)]
    return FittedBaseline(np.concatenate([score(features.of(rows, part)) for part in parts]), len(chosen))


def _draw(num_rows: int, limit: int, seed: int) -> Array:
    """Row numbers, rising."""
    if num_rows <= limit:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(seed).choice(num_rows, limit, replace=False))


class _Features:
    """From tokens to a sparse matrix (N, F): what is counted, and how much each count weighs, is learned from train."""

    def __init__(self, train: PreparedSplit, rows: Array, *, pair: bool) -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        self.separator = _separator(train) if pair and train.token_type_ids is None else None
        self.pair = pair
        self.size = int(train.input_ids.max(initial=0)) + 1
        texts = self._texts(train, rows)
        whole = sum(texts[1:], start=texts[0])
        occurs = np.asarray((whole > 0).sum(axis=0)).ravel()
        useful = np.flatnonzero((occurs >= (2 if len(rows) >= 100 else 1)) & (occurs < len(rows)))
        self.columns = np.sort(useful[np.argsort(-occurs[useful], kind="stable")[:MAX_FEATURES]])
        self.weigh = TfidfTransformer(sublinear_tf=True).fit(whole[:, self.columns])

    def of(self, tokens: PreparedSplit, rows: Array) -> Any:
        """TF-IDF of each text; of two also their product, feature by feature, and its sum, the cosine."""
        from scipy import sparse

        parts = [self.weigh.transform(counts[:, self.columns]) for counts in self._texts(tokens, rows)]
        if len(parts) == 2:
            common = parts[0].multiply(parts[1]).tocsr()
            parts += [common, sparse.csr_matrix(common.sum(axis=1))]
        return sparse.hstack(parts, format="csr")

    def _texts(self, tokens: PreparedSplit, rows: Array) -> list[Any]:
        """How often each token and each two neighbours occur, (N, F) for each text."""
        lengths = np.diff(tokens.offsets)[rows]
        starts = np.repeat(tokens.offsets[rows] - np.cumsum(lengths) + lengths, lengths)
        places = starts + np.arange(lengths.sum())
        ids, of_row = tokens.input_ids[places].astype(np.int64), np.repeat(np.arange(len(rows)), lengths)
        second = self._is_second(tokens, places, ids, of_row)
        return [
            self._counts(ids[part], of_row[part], len(rows)) for part in ((~second, second) if self.pair else (...,))
        ]

    def _is_second(self, tokens: PreparedSplit, places: Array, ids: Array, of_row: Array) -> Array:
        if not self.pair:
            return np.zeros(len(ids), bool)
        if tokens.token_type_ids is not None:
            return np.asarray(tokens.token_type_ids[places] == 1)
        if self.separator is None:
            return np.zeros(len(ids), bool)
        seen = np.cumsum(ids == self.separator)
        first = np.searchsorted(of_row, of_row)  # where the row begins
        before_row = np.where(first > 0, seen[first - 1], 0)
        return np.asarray(seen - (ids == self.separator) - before_row > 0)

    def _counts(self, ids: Array, of_row: Array, num_rows: int) -> Any:
        from scipy import sparse

        numbers = np.minimum(ids, self.size)  # tokens that train does not have are one
        beside = of_row[1:] == of_row[:-1]
        pairs = (numbers[:-1] * 1_000_003 + numbers[1:])[beside] % NEIGHBOUR_BUCKETS + self.size + 1
        columns = np.concatenate([numbers, pairs])
        where = np.concatenate([of_row, of_row[1:][beside]])
        shape = (num_rows, self.size + 1 + NEIGHBOUR_BUCKETS)
        return sparse.csr_matrix((np.ones(len(columns)), (where, columns)), shape=shape)


def _separator(tokens: PreparedSplit) -> int | None:
    """The token that ends every row, and so the first of two texts, too; None for a tokenizer without one."""
    ends = tokens.input_ids[tokens.offsets[1:] - 1]
    return int(ends[0]) if len(ends) and (ends == ends[0]).all() else None


def _classes(features: Any, labels: Array, num_classes: int) -> Score:
    """Of two classes logistic regression, of more one for each against the rest, made to sum to 1."""
    if num_classes == 2:
        second = _probability(features, labels == 1)
        return lambda rows: np.stack([1 - (of_second := second(rows)), of_second], axis=1)
    each = [_probability(features, labels == number) for number in range(num_classes)]

    def score(rows: Any) -> Array:
        scores = np.stack([of_class(rows) for of_class in each], axis=1)
        return np.asarray(scores / np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(float).tiny))

    return score


def _sets(features: Any, labels: Array, num_classes: int) -> Score:
    each = [_probability(features, of_class == 1) for of_class in labels.T]
    return lambda rows: np.stack([of_class(rows) for of_class in each], axis=1)


def _probability(features: Any, positive: Array) -> Score:
    """That a row is positive; where all rows are alike, or none is, so is every answer."""
    from sklearn.linear_model import LogisticRegression

    if (positive == positive[0]).all():
        return lambda rows: np.full(rows.shape[0], float(positive[0]))
    model = LogisticRegression(C=REGULARISATION, max_iter=MAX_ITERATIONS, tol=1e-3, solver="liblinear")
    model.fit(features, positive)
    return lambda rows: np.asarray(model.predict_proba(rows)[:, 1])


def _numbers(features: Any, labels: Array, num_classes: int) -> Score:
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=1.0, solver="sparse_cg").fit(features, labels.astype(np.float64))
    return lambda rows: np.asarray(model.predict(rows))
