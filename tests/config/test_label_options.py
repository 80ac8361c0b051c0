"""task: multilabel, data.label as columns and training.focal_gamma in a config: what is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError

CONFIG = "task: multilabel\nmodel: {name_or_path: m}\ndata: {path: d, text: text, label: [a, b, c]}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def test_columns_of_labels_and_the_metrics_of_the_task(config: Path) -> None:
    found = load_config(config)
    assert found.data.label == ("a", "b", "c")
    assert (found.spec.kind, found.evaluation.metric_for_best) == ("multilabel", "f1_micro")
    assert found.evaluation.metrics == ("f1_micro", "f1_macro", "accuracy")
    assert load_config(config, ["data.label=tags"]).data.label == "tags"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task=classification"], "data.label: a list of columns is for task: multilabel, and this task is class"),
        (["data.label=[a]"], "data.label: found a list of 1. Allowed: a column name, or with task: multilabel a list"),
        (["data.label=3"], "data.label: 3 is read as a number; quote it"),
        (["data.label=[a, a]"], "data.label.1: 'a' is in the list twice"),
        (["data.label=[a, text]"], "data.label: text is a text column too: the model would read the answer"),
        (["data.labels=[a, b]"], "data.labels: the columns of data.label are the classes, in their order"),
        (["training.class_weights={d: 2}"], "training.class_weights.d: is not a class. Allowed: a, b, c"),
        (["evaluation.metrics=[f1]"], "f1 is a metric for classification, and this task is multilabel. Allowed: acc"),
        (["evaluation.metrics=['evaluate:f1']"], "evaluate:f1 is handed one label for each row"),
        (["training.focal_gamma=-1"], "training.focal_gamma: -1 is out of range. Allowed: a number from 0"),
        (
            ["training.focal_gamma=2", "training.label_smoothing=0.1"],
            "training.label_smoothing: does not go with training.focal_gamma",
        ),
        (
            ["task=regression", "data.label=a", "training.focal_gamma=2"],
            "training.focal_gamma: a regression has no classes",
        ),
        (["training.focal_loss=true"], "is called training.focal_gamma here"),
        (["training.pos_weight=2"], "is called training.class_weights here"),
        (["task=multi_label"], "'multi_label' is not a task. Allowed: "),
    ],
)
def test_what_does_not_fit_is_refused(config: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config, overrides)
    assert message in str(caught.value)
