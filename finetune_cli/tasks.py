"""What each task name stands for: columns, class names, metrics. Plain tables; data, not code.

The metrics of the GLUE tasks are those of the benchmark (Wang et al. 2019, https://gluebenchmark.com/tasks); columns,
class names and splits are those of the data set `nyu-mll/glue` on the Hub.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["classification", "multilabel", "regression"]

GLUE = "nyu-mll/glue"
SAMPLES = Path(__file__).with_name("samples")  # what `data.path: builtin:NAME` names
SPLIT_NAME = re.compile(r"train|(validation|test)(_\w+)?")
EVALUATE_PREFIX = "evaluate:"  # a metric of the `evaluate` library: evaluate:NAME, or evaluate:./folder


@dataclass(frozen=True, slots=True)
class KindSpec:
    """What reading, checking and building have to know of a kind of task; how it is scored is `evaluation.kinds`.

    several_labels: a row has any number of the classes. problem_type: transformers' name in a model's config.
    metric_of_loss: the metric that is the training loss without weights and smoothing.
    """

    has_classes: bool
    several_labels: bool
    problem_type: str
    metric_of_loss: str


KIND_SPECS: dict[Kind, KindSpec] = {
    "classification": KindSpec(True, False, "single_label_classification", "log_loss"),
    "multilabel": KindSpec(True, True, "multi_label_classification", "log_loss"),
    "regression": KindSpec(False, False, "regression", "mse"),
}


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric by its name in `evaluation.metrics`.

    binary_only: defined for two classes alone; for more, the averaged forms (`f1_macro` ...) have names of their own,
    so that no average is chosen in silence. of_scores: it looks at probabilities, and a threshold changes nothing; the
    rest of the classes' metrics look at the answers alone. span: from where to where it goes; None: without end.
    """

    name: str
    kinds: frozenset[Kind]
    greater_is_better: bool = True
    binary_only: bool = False
    of_scores: bool = False
    span: tuple[float, float] | None = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What has to be known to read, train and score a task.

    path, config_name: the data set on the Hub; None where the user names it.
    text: one column, or two that are encoded as a pair; empty where the user names it.
    label: the label column; of a multilabel task perhaps several columns with 0 and 1.
    labels: class names in the order of their numbers; None for regression, or when the data tell.
    splits: our split name -> the Hub's split name; empty: the names are used as they are.
    """

    name: str
    kind: Kind
    path: str | None = None
    config_name: str | None = None
    text: tuple[str, ...] = ()
    label: str | tuple[str, ...] = "label"
    labels: tuple[str, ...] | None = None
    metrics: tuple[str, ...] = ()
    metric_for_best: str = ""
    splits: dict[str, str] = field(default_factory=dict)


_CLASSES: frozenset[Kind] = frozenset({"classification"})
_SETS: frozenset[Kind] = frozenset({"multilabel"})
_NUMBERS: frozenset[Kind] = frozenset({"regression"})
_ANY: frozenset[Kind] = frozenset({"classification", "multilabel", "regression"})

METRICS: dict[str, MetricSpec] = {
    metric.name: metric
    for metric in (
        MetricSpec("accuracy", _CLASSES | _SETS),
        MetricSpec("f1", _CLASSES, binary_only=True),
        MetricSpec("f1_macro", _CLASSES | _SETS),
        MetricSpec("f1_micro", _CLASSES | _SETS),
        MetricSpec("f1_weighted", _CLASSES | _SETS),
        MetricSpec("matthews", _CLASSES, span=(-1.0, 1.0)),
        MetricSpec("precision", _CLASSES, binary_only=True),
        MetricSpec("precision_macro", _CLASSES | _SETS),
        MetricSpec("precision_micro", _SETS),
        MetricSpec("recall", _CLASSES, binary_only=True),
        MetricSpec("recall_macro", _CLASSES | _SETS),
        MetricSpec("recall_micro", _SETS),
        MetricSpec("hamming_loss", _SETS, greater_is_better=False),
        MetricSpec("auroc", _CLASSES | _SETS, of_scores=True),
        MetricSpec("average_precision", _SETS, of_scores=True),
        MetricSpec("log_loss", _CLASSES | _SETS, greater_is_better=False, of_scores=True, span=None),
        MetricSpec("brier", _CLASSES | _SETS, greater_is_better=False, of_scores=True, span=(0.0, 2.0)),
        MetricSpec("ece", _CLASSES | _SETS, greater_is_better=False, of_scores=True),
        MetricSpec("pearson", _NUMBERS, of_scores=True, span=(-1.0, 1.0)),
        MetricSpec("spearman", _NUMBERS, of_scores=True, span=(-1.0, 1.0)),
        MetricSpec("mse", _NUMBERS, greater_is_better=False, of_scores=True, span=None),
        MetricSpec("loss", _ANY, greater_is_better=False, of_scores=True, span=None),
    )
}

_SPLITS = {"train": "train", "validation": "validation", "test": "test"}
_MNLI_SPLITS = {
    "train": "train",
    "validation": "validation_matched",
    "validation_mismatched": "validation_mismatched",
    "test": "test_matched",
    "test_mismatched": "test_mismatched",
}


def _glue(
    name: str,
    text: tuple[str, ...],
    labels: tuple[str, ...] | None,
    metrics: tuple[str, ...],
    metric_for_best: str,
    splits: dict[str, str] = _SPLITS,
) -> TaskSpec:
    kind: Kind = "regression" if labels is None else "classification"
    return TaskSpec(name, kind, GLUE, name, text, "label", labels, metrics, metric_for_best, splits)


TASKS: dict[str, TaskSpec] = {
    task.name: task
    for task in (
        _glue("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews", "accuracy"), "matthews"),
        _glue("sst2", ("sentence",), ("negative", "positive"), ("accuracy", "f1"), "accuracy"),
        _glue("mrpc", ("sentence1", "sentence2"), ("not_equivalent", "equivalent"), ("accuracy", "f1"), "f1"),
        _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1"), "f1"),
        _glue("stsb", ("sentence1", "sentence2"), None, ("pearson", "spearman", "mse"), "pearson"),
        _glue(
            "mnli",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            ("accuracy", "f1_macro"),
            "accuracy",
            _MNLI_SPLITS,
        ),
        _glue("qnli", ("question", "sentence"), ("entailment", "not_entailment"), ("accuracy",), "accuracy"),
        _glue("rte", ("sentence1", "sentence2"), ("entailment", "not_entailment"), ("accuracy",), "accuracy"),
        _glue("wnli", ("sentence1", "sentence2"), ("not_entailment", "entailment"), ("accuracy",), "accuracy"),
        TaskSpec("classification", "classification", metrics=("accuracy", "f1_macro"), metric_for_best="accuracy"),
        TaskSpec("multilabel", "multilabel", metrics=("f1_micro", "f1_macro", "accuracy"), metric_for_best="f1_micro"),
        TaskSpec("regression", "regression", metrics=("pearson", "spearman", "mse"), metric_for_best="pearson"),
    )
}


def metrics_for(kind: Kind, num_classes: int | None = None) -> list[str]:
    """Names of the metrics that fit; `num_classes` None means not known yet, then the binary ones count as fitting."""
    return [name for name in METRICS if metric_problem(name, kind, num_classes) is None]


def possible_values(metric: str) -> tuple[float, float]:
    """From where to where a metric can go; of one that is not in METRICS nothing is known."""
    if metric not in METRICS:
        return -math.inf, math.inf
    return METRICS[metric].span or (0.0, math.inf)  # without an end are errors and losses, which are not below 0


def metric_problem(name: str, kind: Kind, num_classes: int | None = None) -> str | None:
    """Why a metric does not fit a task, as a sentence; None when it fits.

    Asked twice: when the config is read (the number of classes may be unknown), and again once the data are known.
    """
    if name.startswith(EVALUATE_PREFIX) and name != EVALUATE_PREFIX:
        if KIND_SPECS[kind].several_labels:
            return f"{name} is handed one label for each row, and this task is multilabel"
        return None  # the library alone knows what it takes
    metric = METRICS.get(name)
    if metric is None:
        return f"{name!r} is not a metric"
    if kind not in metric.kinds:
        return f"{name} is a metric for {' or '.join(sorted(metric.kinds))}, and this task is {kind}"
    if metric.binary_only and num_classes is not None and num_classes != 2:
        averaged = [other for other, spec in METRICS.items() if other.startswith(f"{name}_") and kind in spec.kinds]
        return f"{name} is for two classes, and this task has {num_classes}; use {' or '.join(averaged)}"
    return None
