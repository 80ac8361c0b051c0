"""The model card: front matter that the Hub reads, scores with intervals, an example that fits the task."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from finetune_cli.config.load import load_config
from finetune_cli.records.evaluation import EvalReport, MetricValue
from finetune_cli.runs.model_card import model_card

METRICS = {"accuracy": MetricValue(0.80392, 0.75, 0.85), "f1": MetricValue(math.nan)}
REPORT = EvalReport("validation", 408, 0.4, METRICS, {"accuracy": 0.684})


@pytest.fixture
def card(tmp_path: Path, write_config: Callable[..., Path]) -> Callable[..., tuple[dict, str]]:
    """card(**sections) -> (front matter, text) of a model card."""

    def make(**sections: object) -> tuple[dict, str]:
        config = load_config(write_config(tmp_path, **sections))
        text = model_card(config, ("no", "yes"), [REPORT])
        _, front, body = text.split("---\n", 2)
        return yaml.safe_load(front), body

    return make


def test_the_front_matter_names_task_base_model_and_defined_scores(card: Callable[..., tuple[dict, str]]) -> None:
    front, _ = card(model={"name_or_path": "org/model-1.0"}, data={"path": "org/rows", "label": "a: b"})
    assert front["base_model"] == "org/model-1.0"
    assert front["datasets"] == ["org/rows"]
    assert front["pipeline_tag"] == "text-classification"
    [result] = front["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.8039}]
    assert result["dataset"]["split"] == "validation"


def test_the_text_has_scores_with_interval_and_baseline(card: Callable[..., tuple[dict, str]]) -> None:
    _, body = card()
    assert "| validation | 408 | accuracy | 0.804 | [0.750, 0.850] | 0.684 |" in body
    assert "`no`, `yes`" in body


def test_the_example_is_a_pair_for_a_pair_task(card: Callable[..., tuple[dict, str]]) -> None:
    assert 'classify("...")' in card()[1]
    assert '"text_pair"' in card(task="mrpc")[1]


def test_huggingface_hub_reads_the_scores(card: Callable[..., tuple[dict, str]], tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    front, body = card(model={"name_or_path": "org/model"}, data={"path": "org/rows"})
    found = ModelCard(f"---\n{yaml.safe_dump(front)}---\n{body}")
    [score] = found.data.eval_results
    assert (score.metric_type, score.metric_value) == ("accuracy", 0.8039)
    assert (score.task_type, score.dataset_type, score.dataset_name) == ("text-classification", "org/rows", "sst2")
    assert score.dataset_split == "validation"
    assert found.data.model_name == "org/model fine-tuned on sst2"


def test_no_path_of_this_machine_is_in_the_card(card: Callable[..., tuple[dict, str]], tmp_path: Path) -> None:
    """It may be published; and the Hub refuses a base model or a data set that is not one of its own."""
    front, body = card()
    assert str(tmp_path.parent) not in yaml.safe_dump(front) + body
    assert not front.keys() & {"base_model", "datasets"}
    assert "Trained on `data`" in body
    assert card(model={"name_or_path": "package:a_package/model"})[0].keys() == front.keys()


def test_every_setting_that_differs_from_its_default_is_in_the_table(card: Callable[..., tuple[dict, str]]) -> None:
    training = {"focal_gamma": 2, "max_steps": 6, "class_weights": {"negative": 2, "positive": 1}}
    _, body = card(model={"name_or_path": "org/model", "lora": {"r": 4}}, training=training)
    for row in (
        "| base model | org/model |",
        "| length | 6 updates |",
        "| `training.focal_gamma` | 2.0 |",
        "| `training.class_weights.negative` | 2.0 |",
        "| `model.lora.r` | 4 |",
    ):
        assert row in body
    assert "max_grad_norm" not in body
    plain = card(model={"name_or_path": "org/model"}, training={"num_epochs": 2})[1]
    assert "| length | 2 epochs |" in plain
    assert "`training." not in plain


def test_a_model_of_a_run_is_called_by_the_name_of_the_run(
    card: Callable[..., tuple[dict, str]], tmp_path: Path
) -> None:
    (tmp_path / "first-run" / "model").mkdir(parents=True)
    (tmp_path / "first-run" / "config.yaml").write_text("task: sst2\n")
    _, body = card(model={"name_or_path": str(tmp_path / "first-run" / "model")})
    assert "# first-run fine-tuned on sst2" in body
