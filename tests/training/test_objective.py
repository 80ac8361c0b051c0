"""The loss of each row, against formulas written out by hand."""

import pytest
import torch
from torch.nn import functional

from finetune_cli.training.objective import balanced_class_weights, row_losses

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -2.0]])
CLASSES = torch.tensor([0, 2])
SETS = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.int8)
WEIGHTS = torch.tensor([1.0, 2.0, 5.0])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_classes(gamma: float) -> None:
    """(1 - p)^gamma x -log p (Lin et al. 2017, equation 4), times the weight of the class (their alpha)."""
    p = LOGITS.softmax(dim=1)[torch.arange(2), CLASSES]
    expected = (1 - p) ** gamma * -p.log()
    assert torch.allclose(row_losses("classification", focal_gamma=gamma)(LOGITS, CLASSES), expected)
    weighted = row_losses("classification", focal_gamma=gamma, class_weights=WEIGHTS)(LOGITS, CLASSES)
    assert torch.allclose(weighted, expected * WEIGHTS[CLASSES])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_loss_of_several_labels(gamma: float) -> None:
    """The mean over the classes; a weight multiplies the part of a class that the row has."""
    p = torch.where(SETS == 1, LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    parts = (1 - p) ** gamma * -p.log()
    assert torch.allclose(row_losses("multilabel", focal_gamma=gamma)(LOGITS, SETS), parts.mean(dim=1))
    weighted = row_losses("multilabel", focal_gamma=gamma, class_weights=WEIGHTS)(LOGITS, SETS)
    assert torch.allclose(weighted, (parts * torch.where(SETS == 1, WEIGHTS, 1.0)).mean(dim=1))


def test_smoothing_of_several_labels_moves_each_towards_a_half() -> None:
    target = torch.tensor([[0.9, 0.1, 0.9], [0.1, 0.1, 0.1]])
    expected = functional.binary_cross_entropy_with_logits(LOGITS, target, reduction="none").mean(dim=1)
    assert torch.allclose(row_losses("multilabel", label_smoothing=0.2)(LOGITS, SETS), expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_focal_gradients_are_finite_for_a_row_that_is_certain(kind: str, gamma: float) -> None:
    """At p = 1 the plain power has an infinite gradient for gamma below 1."""
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    labels = torch.tensor([0]) if kind == "classification" else torch.tensor([[1, 0]], dtype=torch.int8)
    row_losses(kind, focal_gamma=gamma)(logits, labels).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights() -> None:
    """One class a row: rows / (classes x count). Several: rows without it / rows with it, 1 at least on each side."""
    assert balanced_class_weights(torch.tensor([0, 0, 0, 1]), 2).tolist() == pytest.approx([4 / 6, 2.0])
    sets = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], dtype=torch.int8)
    assert balanced_class_weights(sets, 3).tolist() == [3.0, 4.0, 0.25]
