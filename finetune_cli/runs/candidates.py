"""The models that a run had to choose from, as their predictions on the validation rows, and the price of the choice.

A finished run has them in eval/validation/candidates.npz, for `evaluate` and for a summary over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.prepared import PreparedData
from finetune_cli.evaluation.candidates import compact, deciding_metric, expand
from finetune_cli.evaluation.choosing import Candidate, moved_interval, price_of_choosing
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.records.evaluation import Corrected, EvalReport, MetricValue
from finetune_cli.records.verdicts import Choice
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.files import write_bytes
from finetune_cli.tasks import METRICS, Kind
from finetune_cli.training.kept_predictions import KEPT_FILE, KeptPredictions, packed

SPLIT = "validation"  # the rows on which models are chosen


@dataclass(frozen=True)
class Candidates:
    """What a run had to choose from. steps: the updates (K,) of its evaluations; kept_step: of the chosen one.

    metric: by which it was chosen; None when the last one was taken. labels: of the N rows. arrays: see
    evaluation.candidates.compact, each with K in front.
    """

    steps: Array
    kept_step: int
    metric: str | None
    kind: Kind
    num_classes: int
    labels: Array
    arrays: dict[str, Array]

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def kept(self) -> int:
        return int(np.flatnonzero(self.steps == self.kept_step)[0])

    def offered(self) -> Candidates:
        """What could have been kept: of a run that takes its last model, that one alone."""
        if self.metric is not None:
            return self
        arrays = {name: values[[self.kept]] for name, values in self.arrays.items()}
        return replace(self, steps=self.steps[[self.kept]], arrays=arrays)

    def each(self) -> Iterator[Candidate]:
        for place in range(len(self)):
            arrays = {name: values[place] for name, values in self.arrays.items()}
            yield expand(arrays, len(self.labels), self.num_classes, self.kind)


def to_keep(logits: Array, config: RunConfig) -> dict[str, Array]:
    """What to keep of an evaluation's logits (N, C), for the metrics of this config."""
    kind = config.spec.kind
    return compact(logits, [*config.evaluation.metrics, deciding_metric(config.evaluation.main_metric, kind)], kind)


def write_candidates(context: RunContext, kept: KeptPredictions, kept_step: int | None) -> None:
    """Leave what the training kept in the run's directory, beside the scores.

    kept_step: None for a training that was ended early, of which no model is kept: its last evaluation stands for it.
    """
    if kept.by_step:
        step = max(kept.by_step) if kept_step is None else kept_step
        metric = context.config.evaluation.metric_for_best
        _write(context.run, context.prepared, kept.stacked(), kept_step=step, metric=metric)


def write_only_candidate(run: RunDir, config: RunConfig, prepared: PreparedData, logits: Array) -> None:
    """Leave what a cross-validation answered as a whole: logits (N, C) among which nothing is left to choose."""
    arrays = {name: values[None] for name, values in to_keep(logits, config).items()}
    _write(run, prepared, {"step": np.array([0]), **arrays}, kept_step=0, metric=None)


def _write(
    run: RunDir, prepared: PreparedData, stacked: Mapping[str, Array], *, kept_step: int, metric: str | None
) -> None:
    facts = {
        "kept_step": kept_step,
        "metric": metric or "",
        "kind": prepared.kind,
        "num_classes": len(prepared.label_names or ()),
        "labels": _small(prepared.splits[SPLIT].known_labels()),
    }
    arrays = {**stacked, **{name: np.asarray(value) for name, value in facts.items()}}
    write_bytes(run.evaluation(SPLIT) / KEPT_FILE, packed(arrays))


def read_candidates(run: RunDir) -> Candidates | None:
    """None for a run of an earlier version, which kept none, or not that of the model it kept."""
    file = run.evaluation(SPLIT) / KEPT_FILE
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    kind, metric, steps = str(arrays.pop("kind")), str(arrays.pop("metric")), arrays.pop("step")
    kept_step, num_classes = int(arrays.pop("kept_step")), int(arrays.pop("num_classes"))
    labels = arrays.pop("labels").astype(KINDS[cast(Kind, kind)].label_type)
    if kept_step not in steps:
        return None
    return Candidates(steps, kept_step, metric or None, cast(Kind, kind), num_classes, labels, arrays)


def with_choice(report: EvalReport, run: RunDir, config: RunConfig, prepared: PreparedData) -> EvalReport:
    """The report, telling whether the run's model was chosen on its rows, and with corrected scores.

    As it is for train rows, for a file that is no split of the config, and for scores by a decision rule, which the
    choice did not look at.
    """
    if report.decision is not None or report.split == "train" or "train" not in prepared.splits:
        return report
    if report.split != SPLIT:
        return replace(report, choice=Choice(1), corrected=_uncorrected(report))
    candidates = read_candidates(run)
    if candidates is None:
        return replace(report, choice=Choice(None))
    if not np.array_equal(candidates.labels, prepared.splits[SPLIT].known_labels()):
        return report  # other rows than those of the training, by --set
    if candidates.metric is None or len(candidates) == 1:
        return replace(report, choice=Choice(1), corrected=_uncorrected(report))
    corrected = corrected_scores(report.metrics, [candidates], candidates.kept, candidates.metric, seed=config.seed)
    return replace(report, choice=Choice(len(candidates), candidates.metric), corrected=corrected)


def corrected_best(
    score: MetricValue, metric: str, runs: Mapping[int, RunDir], best: int, *, seed: int
) -> tuple[int, Corrected | None]:
    """How many candidates the runs had together, and the score of the run `best`, less the price of being their best.

    metric: by which it is the best. None where a run kept no candidates, or of other rows than the rest.
    """
    of_runs = {name: read_candidates(run) for name, run in runs.items()}
    offered = {name: candidates.offered() for name, candidates in of_runs.items() if candidates is not None}
    count = sum(map(len, offered.values()))
    if len(offered) < len(runs) or any(
        not np.array_equal(candidates.labels, offered[best].labels) for candidates in offered.values()
    ):
        return count, None
    before = sum(len(candidates) for candidates in list(offered.values())[: list(offered).index(best)])
    decider = deciding_metric(metric, offered[best].kind)
    kept = before + offered[best].kept
    return count, corrected_scores({decider: score}, list(offered.values()), kept, decider, seed=seed).get(decider)


def corrected_scores(
    scores: Mapping[str, MetricValue], runs: Sequence[Candidates], kept: int, metric: str, *, seed: int
) -> dict[str, Corrected]:
    """The scores of the kept model, the best by `metric` of all candidates of these runs, less the price of the choice.

    kept: its place among all of them. Scores that are not defined, or of the `evaluate` library, are left out.
    """
    first, count = runs[0], sum(map(len, runs))
    prices = price_of_choosing(
        list(scores),
        deciding_metric(metric, first.kind),
        (candidate for run in runs for candidate in run.each()),
        num_candidates=count,
        kept=kept,
        labels=first.labels,
        kind=first.kind,
        num_classes=first.num_classes,
        seed=seed,
    )
    return {
        name: _moved(name, scores[name], price, count)
        for name, price in prices.items()
        if math.isfinite(scores[name].value)
    }


def _moved(name: str, score: MetricValue, price: float, candidates: int) -> Corrected:
    span = METRICS[name].span
    value = score.value + price
    if span is not None:
        value = min(span[1], max(span[0], value))
    if score.low is None or score.high is None:
        return Corrected(value, candidates=candidates)
    if price == 0:
        return Corrected(score.value, score.low, score.high, candidates)
    return Corrected(value, *moved_interval(score.value, score.low, score.high, value, span), candidates)


def _uncorrected(report: EvalReport) -> dict[str, Corrected]:
    return {
        name: Corrected(score.value, score.low, score.high)
        for name, score in report.metrics.items()
        if name in METRICS and math.isfinite(score.value)
    }


def _small(labels: Array) -> Array:
    """Class numbers in the smallest type that holds them."""
    if not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        return labels
    return labels.astype(np.min_scalar_type(labels.max()))
