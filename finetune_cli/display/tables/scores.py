"""The scores of one split and its gates, as several commands print them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.evaluation import EvalReport, PairedDifference
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.tasks import METRICS

FAR_ABOVE = 2  # times the loss of a constant answer: such a training diverged


def scores(out: Output, report: EvalReport, *, stopped_early: bool | None = None) -> None:
    """`f1 0.899 [0.872, 0.923] n=408` for each metric, with the baselines, and corrected.

    stopped_early: whether early stopping ended the training; None where that is not known.
    """
    out.heading(f"{report.split}: {counted(report.n, 'row')}, loss {report.loss:.4f}")
    baseline = f"always {report.baseline_answer}"
    header = ["score", baseline] if report.baseline else ["score"]
    rows = []
    for name, metric in report.metrics.items():
        beside = [f"{report.baseline[name]:.3f}" if name in report.baseline else "-"] if report.baseline else []
        rows.append([f"{name} {metric} n={report.n}", *beside])
    out.table(header, rows)
    _choice(out, report)
    _words(out, report, stopped_early=stopped_early)
    if report.collapsed is not None:
        out.line(f"  {collapsed_line(report.collapsed)}")
        if (constant := _loss_far_below(report)) and not _is_beaten(report):
            out.line(f"  {_diverged(constant)}")
    if report.decision is not None:
        out.line(f"  decision rule: {report.decision.rule}")


def _choice(out: Output, report: EvalReport) -> None:
    """Whether the model was chosen on these rows; if so, its scores without what that added to them."""
    if report.choice is None:
        return
    out.line(f"  {report.choice}")
    if report.shows_corrected:
        header = f"corrected for choosing the best of {report.choice.candidates}"
        out.table([header], [[f"{name} {score}"] for name, score in report.corrected.items()])


def _words(out: Output, report: EvalReport, *, stopped_early: bool | None) -> None:
    """The baseline of the words, and how much better the model is."""
    words = report.text_baseline
    if words is not None:
        rows = [[f"{name} {score}", str(words.differences.get(name, "-"))] for name, score in words.metrics.items()]
        out.table([f"TF-IDF, fitted on {counted(words.rows, 'row')}", "the model, less that"], rows)
        if _is_beaten(report):
            for line in textwrap.wrap(_advice(report, stopped_early), 98, break_on_hyphens=False):
                out.line(f"  {line}")


def _advice(report: EvalReport, stopped_early: bool | None) -> str:
    """What to try with a model that the words alone beat, by the loss (no sign of anything in regression)."""
    longer = {
        None: "more training.num_epochs (after an early stop: more patience in training.early_stopping, or null)",
        True: "more patience in training.early_stopping (or null), since that ended the training",
        False: "more training.num_epochs",
    }[stopped_early]
    if not report.per_class:
        return (
            f"The model is worse than that, so it has not learned enough: {longer}, or a higher "
            "training.learning_rate; a lower one if the loss rose. Where nothing helps, the words alone predict these "
            "numbers."
        )
    if constant := _loss_far_below(report):
        return f"The model is worse than that. {_diverged(constant)}"
    known = "tell these classes apart" if _has_one_class(report) else "tell which labels a row has"
    return (
        f"The model is worse than that, so it has not learned enough: {longer}, or a higher training.learning_rate. "
        f"Where neither helps, the words alone {known}."
    )


def _has_one_class(report: EvalReport) -> bool:
    return bool(report.confusion or report.confusion_cells)


def _loss_far_below(report: EvalReport) -> float | None:
    """The loss of a constant answer where the model's is far above it, as after a training that diverged; else None.

    None in regression: a head that has hardly begun is as far off as one that diverged.
    """
    if not report.per_class:
        return None
    constant = math.log(len(report.per_class)) if _has_one_class(report) else math.log(2)
    return constant if report.loss > FAR_ABOVE * constant else None


def _diverged(constant: float) -> str:
    return (
        f"Its loss is far above that of a constant answer ({constant:.3f}): the training diverged. Set a lower "
        "training.learning_rate."
    )


def _is_beaten(report: EvalReport) -> bool:
    """Whether the words alone are surely better by any metric."""
    words = report.text_baseline
    return words is not None and any(_is_worse(name, difference) for name, difference in words.differences.items())


def _is_worse(metric: str, difference: PairedDifference) -> bool:
    """Whether the whole interval says that the model's score is the worse one."""
    greater_is_better = metric not in METRICS or METRICS[metric].greater_is_better
    return difference.high < 0 if greater_is_better else difference.low > 0


def collapsed_line(name: str) -> str:
    return f"Collapsed: every row is given the answer {name!r}, as by a model that has learned nothing."


def gate_lines(out: Output, gates: Sequence[GateOutcome]) -> None:
    """A line for each gate: passed or failed, and why."""
    for gate in gates:
        out.line(f"gate {gate.gate}: {'passed' if gate.passed else 'FAILED'}, {gate.finding}")
