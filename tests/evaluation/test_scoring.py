"""From logits to reports and predictions, worked by hand and against torch."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune_cli.data.windows import TokenRows
from finetune_cli.evaluation.inference import predict_logits, token_batches
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.scoring import (
    ScoringRules,
    plain_scores,
    predictions,
    score_split,
    write_evaluation,
)
from finetune_cli.records.resampling import Resampling

NAMES = ("no", "yes")
LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]], np.float32)
LABELS = np.array([0, 1, 1, 1])
RULES = ScoringRules("classification", NAMES, ("accuracy", "f1"), Resampling(100, seed=1))


def test_one_class_for_every_row_is_a_collapsed_model() -> None:
    one_class = np.tile([0.0, 1.0], (4, 1))
    assert score_split("validation", one_class, LABELS, RULES, train_labels=LABELS).collapsed == "yes"
    assert score_split("validation", one_class, np.ones(4, int), RULES, train_labels=LABELS).collapsed is None
    assert score_split("validation", LOGITS, LABELS, RULES, train_labels=LABELS).collapsed is None


def test_the_loss_is_that_of_torch() -> None:
    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS), torch.tensor(LABELS)).item()
    assert KINDS["classification"].loss(LOGITS, LABELS) == pytest.approx(expected)
    assert KINDS["regression"].loss(np.array([[1.0], [4.0]]), np.array([0.0, 2.0])) == 2.5
    assert KINDS["classification"].loss(np.array([[1e4, -1e4]]), np.array([1])) == pytest.approx(2e4)


def test_a_report_counts_what_is_there() -> None:
    """3 of 4 right; precision of yes 2/2, recall 2/3; always yes would be right 3 times of 4."""
    report = score_split("validation", LOGITS, LABELS, RULES, train_labels=np.array([1, 1, 0]))
    assert (report.n, report.metrics["accuracy"].value) == (4, 0.75)
    assert report.metrics["f1"].value == pytest.approx(0.8)
    assert report.baseline == {"accuracy": 0.75, "f1": pytest.approx(6 / 7)}
    yes = report.per_class[1]
    assert (yes.label, yes.precision, yes.recall, yes.support) == ("yes", 1.0, pytest.approx(2 / 3), 3)
    assert report.confusion == [[1, 0], [1, 2]]
    loss, metrics = plain_scores(LOGITS, LABELS, RULES)
    assert (loss, metrics) == (report.loss, {name: metric.value for name, metric in report.metrics.items()})


def test_intervals_are_the_same_for_one_seed_and_left_out_for_no_samples() -> None:
    def interval(resampling: Resampling) -> tuple[float | None, float | None]:
        rules = ScoringRules("classification", NAMES, ("accuracy",), resampling)
        metric = score_split("x", LOGITS, LABELS, rules, train_labels=LABELS).metrics["accuracy"]
        return metric.low, metric.high

    assert interval(Resampling(200, seed=3)) == interval(Resampling(200, seed=3))
    assert interval(Resampling(samples=0)) == (None, None)


def test_predictions_have_names_in_the_order_of_the_rows() -> None:
    rows = list(predictions(["a", "b"], LOGITS[:2], kind="classification", label_names=NAMES, labels=np.array([1, 1])))
    assert [(row["id"], row["label"], row["prediction"]) for row in rows] == [("a", "yes", "no"), ("b", "yes", "yes")]
    assert rows[0]["probabilities"]["no"] == pytest.approx(np.exp(2) / (1 + np.exp(2)))
    [row] = predictions([7], LOGITS[:1], kind="classification", label_names=NAMES, probabilities=False)
    assert row == {"id": 7, "prediction": "no"}
    [row] = predictions([7], np.array([[1.5]]), kind="regression", label_names=None, labels=np.array([2.0]))
    assert row == {"id": 7, "label": 2.0, "prediction": 1.5}


def test_equal_probabilities_go_to_the_first_class() -> None:
    [row] = predictions([0], np.zeros((1, 2)), kind="classification", label_names=NAMES)
    assert row["prediction"] == "no"


def test_an_evaluation_is_written_as_json(tmp_path: Path) -> None:
    report = score_split("validation", LOGITS, LABELS, RULES, train_labels=LABELS)
    rows = predictions(range(4), LOGITS, kind="classification", label_names=NAMES, labels=LABELS)
    write_evaluation(tmp_path, report, rows)
    assert json.loads((tmp_path / "metrics.json").read_text()) == report.to_json()
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [0, 1, 2, 3]


@pytest.mark.parametrize("lengths", [[5], [1, 9, 3, 3, 7], [40, 2, 2], [10] * 7])
def test_batches_hold_at_most_so_many_tokens_and_every_row_once(lengths: list[int]) -> None:
    batches = list(token_batches(np.array(lengths), 20))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= 20


def test_logits_come_back_in_the_order_of_the_rows() -> None:
    """A model whose output is the sum of a row's tokens: padding counts nothing, and no row changes its place."""

    class SumOfTokens(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> "SumOfTokens":
            self.logits = (input_ids * attention_mask).sum(dim=1, keepdim=True).float()
            return self

    lengths = [3, 900, 1, 1500, 7, 2]
    rows = TokenRows(np.repeat(np.arange(6), lengths), np.concatenate([[0], np.cumsum(lengths)]))
    model = SumOfTokens().train()
    logits = predict_logits(model, rows, pad_token_id=99, device=torch.device("cpu"))
    assert logits[:, 0].tolist() == [row * length for row, length in enumerate(lengths)]
    assert not model.training
