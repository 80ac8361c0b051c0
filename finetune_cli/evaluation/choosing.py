"""What choosing the best of several models on the rows that score them adds to its score.

The choice is repeated on resamples of the rows. Two estimates are mixed. BBC (Tsamardinos, Greasidou and Borboudakis
2018, "Bootstrapping the out-of-sample predictions for efficient and accurate cross-validation") scores the model chosen
on a resample on the rows that this resample left out. The optimism (Efron 1983) is how much better the model chosen on
a resample is on it than on all rows. BBC takes off a little too much where the models differ in truth, the optimism too
little where they do not: scripts/simulations/choosing.py has both and the mixture.

Dimensions: N rows, R resamples in a block, B resamples in all, K models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray, IntArray
from finetune_cli.evaluation.kinds import CLASS_KINDS, KINDS
from finetune_cli.evaluation.kinds.base import Array, Counter
from finetune_cli.evaluation.uncertainty import blocks
from finetune_cli.tasks import METRICS, Kind

BBC_SHARE = 0.75  # of the mixture
MOST_RESAMPLES, FEWEST_RESAMPLES = 400, 50
MAX_CELLS = 200_000_000  # N x K x B: bounds the time
BLOCK_CELLS = 200_000  # N x R: bounds the memory, and keeps the counts in the processor's cache
HELD_CELLS = 2_000_000  # N x B: up to here the resamples are drawn once, beyond once for each model
FEW_CELLS = 16  # of a confusion matrix: up to here a product of matrices counts them faster

WeightedMetrics = Callable[[FloatArray], Mapping[str, FloatArray]]  # weights (R, N) -> each metric (R,)


@dataclass(frozen=True)
class Candidate:
    """What one model said of the rows: answers (N,) or (N, C), and scores of every `step`-th row, where they are kept.

    Either may be None when no metric looks at it.
    """

    answers: Array | None
    scores: Array | None
    step: int = 1


@dataclass(frozen=True)
class _Resampled:
    """One metric of all models: on all rows (K,), on the rows of each resample, and on those it left out (B, K)."""

    full: FloatArray
    drawn: FloatArray
    left_out: FloatArray


def price_of_choosing(
    names: Sequence[str],
    decider: str,
    candidates: Iterable[Candidate],
    *,
    num_candidates: int,
    kept: int,
    labels: Array,
    kind: Kind,
    num_classes: int,
    seed: int,
) -> dict[str, float]:
    """What to add to each metric of the kept model, to make up for its being the best of the candidates by `decider`.

    candidates: in the order in which they were compared, so that the earliest of equals is chosen; each is looked at
    once, in turn. `kept` is the place of the chosen one. With one candidate everything is 0.
    The decider's price is the mixture's. Another metric, by which nothing was chosen, is as much too good as its errors
    go along with the decider's: its price is the decider's times the ratio of the two optimisms.
    Metrics that are not defined on any resample, and those of the `evaluate` library, are left out. The same seed gives
    the same answer.

    Time grows with N x K x B: B is 400, less where N x K is above 500,000, and 50 at least. Memory: that of one
    candidate and some MB.
    """
    own = [name for name in names if name in METRICS and name != "loss"]
    if num_candidates == 1 or len(labels) < 2:
        return dict.fromkeys(own, 0.0)
    asked = list(dict.fromkeys([*own, decider]))
    metrics = (_weighted_metrics(asked, candidate, labels, kind, num_classes) for candidate in candidates)
    scored = _resample(asked, metrics, num_candidates, len(labels), seed)
    sign = 1.0 if METRICS[decider].greater_is_better else -1.0
    values = sign * scored[decider].drawn
    chosen = np.where(np.isnan(values), -np.inf, values).argmax(axis=1)
    optimism = {name: _optimism(of_metric, chosen) for name, of_metric in scored.items()}
    full = scored[decider].full
    price = BBC_SHARE * (_bbc(scored[decider], chosen) - full[kept])
    price = sign * (price - (1 - BBC_SHARE) * optimism[decider])  # as a gain: below 0 where the score is too good
    if _are_opposed(scored[decider], kept):
        price = max(price, float(np.nanmin(sign * full)) - sign * float(full[kept]))
    price = sign * min(0.0, price)
    if not math.isfinite(price):
        return {}
    shares = {name: optimism[name] / optimism[decider] if optimism[decider] else 0.0 for name in own}
    return {name: float(price * share) for name, share in shares.items() if math.isfinite(share)}


def moved_interval(
    value: float, low: float, high: float, moved: float, span: tuple[float, float] | None
) -> tuple[float, float]:
    """The interval (low, high) of `value`, as it is around the value `moved`.

    Between bounds a score is the less certain the farther it is from them: the interval moves on the arcsine scale, on
    which the standard error of a share does not depend on the share. An end at a bound stays there: rows that are all
    right rule out no higher score. A loss without an upper bound is the less certain the higher it is: its interval
    grows in proportion.
    """
    if span is None:
        ratio = moved / value if value > 0 and moved > 0 else 1.0
        return (low * ratio, high * ratio) if value > 0 and moved > 0 else (low + moved - value, high + moved - value)
    bottom, width = span[0], span[1] - span[0]

    def angle(score: float) -> float:
        return math.asin(math.sqrt(min(1.0, max(0.0, (score - bottom) / width))))

    by = angle(moved) - angle(value)

    def moved_end(end: float) -> float:
        if end in span:
            return end
        return bottom + width * math.sin(min(math.pi / 2, max(0.0, angle(end) + by))) ** 2

    return moved_end(low), moved_end(high)


def _weighted_metrics(
    names: Sequence[str], candidate: Candidate, labels: Array, kind: Kind, num_classes: int
) -> WeightedMetrics:
    """Each of the metrics that this candidate has predictions for, as a function of row weights."""
    task, step = KINDS[kind], candidate.step
    by_count = {name: task.count_metrics[name] for name in names if name in task.count_metrics}
    builders = {name: task.score_metrics[name] for name in names if name in task.score_metrics}
    count, by_score = None, {}
    if by_count and candidate.answers is not None:
        count = _counter(labels, candidate.answers, kind, num_classes)
    if builders and candidate.scores is not None:
        by_score = {name: build(labels[::step], candidate.scores) for name, build in builders.items()}

    def values(weights: FloatArray) -> Mapping[str, FloatArray]:
        scores: dict[str, FloatArray] = {}
        if count is not None:
            counts = count(weights)
            scores |= {name: metric(counts) for name, metric in by_count.items()}
        if by_score:
            thinned = np.ascontiguousarray(weights[:, ::step])
            scores |= {name: metric(thinned) for name, metric in by_score.items()}
        return scores

    return values


def _counter(labels: Array, answers: Array, kind: Kind, num_classes: int) -> Counter:
    """The kind's counter; with one class a row, of the cells of the confusion matrix, which is ten times as fast."""
    if labels.ndim > 1:
        return CLASS_KINDS[kind].counter(labels, answers, num_classes)
    _, firsts, cells = np.unique(labels * num_classes + answers, return_index=True, return_inverse=True)
    count = CLASS_KINDS[kind].counter(labels[firsts], answers[firsts], num_classes)
    if len(firsts) <= FEW_CELLS:
        is_in_cell = np.eye(len(firsts))[cells]
        return lambda weights: count(weights @ is_in_cell)
    return lambda weights: count(np.stack([np.bincount(cells, row, len(firsts)) for row in weights]))


def _resample(
    names: Sequence[str], metrics: Iterable[WeightedMetrics], models: int, num_rows: int, seed: int
) -> dict[str, _Resampled]:
    """Every metric of every model on the same resamples; nan for one that a model has no predictions for."""
    samples = max(FEWEST_RESAMPLES, min(MOST_RESAMPLES, MAX_CELLS // (num_rows * models)))

    def empty(rows: int) -> dict[str, FloatArray]:
        return {name: np.full((rows, models), np.nan) for name in names}

    full, drawn, left_out = empty(1), empty(samples), empty(samples)
    blocks = list(_resamples(num_rows, samples, seed)) if samples * num_rows <= HELD_CELLS else None
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not defined on a resample is nan
        for k, metric in enumerate(metrics):
            _fill(full, slice(0, 1), k, metric(np.ones((1, num_rows))))
            for block, counts, left in blocks or _resamples(num_rows, samples, seed):
                _fill(drawn, block, k, metric(counts))
                _fill(left_out, block, k, metric(left))
    return {name: _Resampled(full[name][0], drawn[name], left_out[name]) for name in names}


def _fill(target: dict[str, FloatArray], block: slice, k: int, values: Mapping[str, FloatArray]) -> None:
    for name, scores in values.items():
        target[name][block, k] = scores


def _resamples(num_rows: int, samples: int, seed: int) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """How often each resample drew each row, and 1 for those it left out, both (R, N).

    Each leaves a row out, which of few rows not all do.
    """
    generator = np.random.default_rng([seed, 2])
    for block in blocks(samples, num_rows, BLOCK_CELLS):
        counts = np.empty((block.stop - block.start, num_rows))
        for row in counts:
            row[:] = 1
            while (row > 0).all():
                row[:] = np.bincount(generator.integers(num_rows, size=num_rows), minlength=num_rows)
        yield block, counts, (counts == 0).astype(np.float64)


def _bbc(scored: _Resampled, chosen: IntArray) -> float:
    """The mean score, on the rows left out, of the model chosen (B,) on each resample.

    Each model's values are centred at its score on all rows. That leaves the mean of a share as it is, but for less
    noise, and takes out what fewer rows alone do to a score (they make an ECE larger).
    """
    left_out = scored.left_out - _means(scored.left_out)
    return float(_means(scored.full[chosen] + left_out[np.arange(len(chosen)), chosen]))


def _optimism(scored: _Resampled, chosen: IntArray) -> float:
    """How much better the model chosen on a resample is on it than on all rows, centred likewise."""
    drawn = scored.drawn - _means(scored.drawn)
    return float(_means(drawn[np.arange(len(chosen)), chosen]))


def _are_opposed(scored: _Resampled, kept: int) -> bool:
    """Whether a model is good on the resamples on which the kept one is bad. Of two that always say yes and always no,
    the one chosen on a resample is the worse on the rows left out: that is no price, and no choice is worth less than
    the worst candidate."""
    deviations = np.nan_to_num(scored.drawn - _means(scored.drawn))
    return bool((deviations.T @ deviations[:, kept] < 0).any())


def _means(values: FloatArray) -> FloatArray:
    """Over the resamples on which they are defined; nan where there is none."""
    defined = ~np.isnan(values)
    sums, counts = np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0))
