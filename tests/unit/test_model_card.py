"""The model card: front matter that the Hub reads, scores with intervals, an example that fits the task."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from finetune_cli.commands.model_card import model_card
from finetune_cli.config import load_config
from finetune_cli.records import EvalReport, MetricValue

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
    front, _ = card(model={"name_or_path": "org/model: with a colon"})
    assert front["base_model"] == "org/model: with a colon"
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
