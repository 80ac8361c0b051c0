"""Each kind of task has the same face, and the tables that know of kinds agree."""

from typing import get_args

import numpy as np
import pytest

from finetune_cli.evaluation.kinds import CLASS_KINDS, KINDS
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.tasks import KIND_SPECS, METRICS, Kind

LOGITS = {
    "classification": np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
    "multilabel": np.array([[2.0, -1.0], [-1.0, 1.0], [-2.0, -0.5]]),
    "regression": np.array([[2.0], [-1.0], [0.5]]),
}
LABELS = {
    "classification": np.array([0, 1, 1]),
    "multilabel": np.array([[1, 0], [0, 1], [1, 0]]),
    "regression": np.array([2.0, -1.0, 1.0]),
}


def test_every_kind_has_an_object_and_its_facts():
    assert set(KINDS) == set(KIND_SPECS) == set(get_args(Kind))
    assert [task.name for task in KINDS.values()] == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_metrics_of_a_kind_are_those_of_the_table(kind: Kind):
    task = KINDS[kind]
    named = {name for name, spec in METRICS.items() if kind in spec.kinds and name != "loss"}
    assert {*task.count_metrics, *task.score_metrics} == named
    assert {name for name in named if METRICS[name].of_scores} == {*task.score_metrics}


@pytest.mark.parametrize("kind", CLASS_KINDS)
def test_answers_as_scores_have_these_answers(kind: Kind):
    task = CLASS_KINDS[kind]
    answers = task.answers(task.scores(LOGITS[kind]))
    assert np.array_equal(task.answers(task.as_scores(answers, 2)), answers)


@pytest.mark.parametrize("kind", KINDS)
def test_two_rows_are_right_and_the_third_is_the_worst(kind: Kind):
    task = KINDS[kind]
    scores = task.scores(LOGITS[kind])
    answers = task.answers(scores)
    assert task.right(LABELS[kind], answers).tolist() == [True, True, False]
    wrongness = task.wrongness(LABELS[kind], answers, scores)
    assert (wrongness[:2] == 0).all()
    assert wrongness[2] > 0
    assert task.probability_of_truth(LABELS[kind], scores).argmin() == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_metric_that_the_table_names(kind: Kind):
    name = KIND_SPECS[kind].metric_of_loss
    found = compute_metrics([name], scored_rows(LABELS[kind], KINDS[kind].scores(LOGITS[kind]), kind))
    assert KINDS[kind].loss(LOGITS[kind], LABELS[kind]) == pytest.approx(found[name])


@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_cells_count_equal_rows_once(kind: Kind):
    task = KINDS[kind]
    answers = task.answers(task.scores(LOGITS[kind]))
    labels, answers = (np.concatenate([one, one[:1]]) for one in (LABELS[kind], answers))
    firsts, rows = task.cells(labels, [answers])
    assert sorted(rows.tolist()) == [1, 1, 2]
    assert rows[firsts.tolist().index(0)] == 2
