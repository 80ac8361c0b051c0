"""The task and metric tables are consistent, and a metric that does not fit says why."""

import pytest

from finetune_cli.tasks import METRICS, TASKS, metric_problem, metrics_for


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_task_is_scored_by_metrics_that_fit_it(task) -> None:
    classes = len(task.labels) if task.labels else None
    assert [metric_problem(name, task.kind, classes) for name in task.metrics] == [None] * len(task.metrics)
    assert task.metric_for_best in task.metrics


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_glue_tasks_know_their_columns(task) -> None:
    if task.path is None:
        assert task.text == ()
    else:
        assert len(task.text) in (1, 2)
        assert (task.labels is None) == (task.kind == "regression")
        assert {"train", "validation", "test"} <= set(task.splits)


def test_mnli_is_scored_on_both_of_its_validation_splits() -> None:
    splits = TASKS["mnli"].splits
    assert (splits["validation"], splits["validation_mismatched"]) == ("validation_matched", "validation_mismatched")


def test_errors_and_losses_are_better_when_smaller() -> None:
    smaller = {name for name, metric in METRICS.items() if not metric.greater_is_better}
    assert smaller == {"loss", "mse", "log_loss", "brier", "ece", "hamming_loss"}


@pytest.mark.parametrize(
    ("name", "kind", "classes", "message"),
    [
        (
            "f1",
            "classification",
            3,
            "f1 is for two classes, and this task has 3; use f1_macro or f1_micro or f1_weighted",
        ),
        ("recall", "classification", 3, "recall is for two classes, and this task has 3; use recall_macro"),
        ("pearson", "classification", 2, "pearson is a metric for regression, and this task is classification"),
        (
            "accuracy",
            "regression",
            None,
            "accuracy is a metric for classification or multilabel, and this task is regression",
        ),
        ("f1", "multilabel", 3, "f1 is a metric for classification, and this task is multilabel"),
        ("evaluate:f1", "multilabel", 3, "evaluate:f1 is handed one label for each row, and this task is multilabel"),
        ("acc", "classification", 2, "'acc' is not a metric"),
        ("evaluate:", "classification", 2, "'evaluate:' is not a metric"),
    ],
)
def test_a_metric_that_does_not_fit_says_why(name, kind, classes, message) -> None:
    assert metric_problem(name, kind, classes) == message


def test_loss_fits_every_task() -> None:
    assert all("loss" in metrics_for(kind) for kind in ("classification", "regression"))
