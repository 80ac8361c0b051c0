"""The training loss, the one definition that both loops use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetune_cli.models.packing import known_tokens
from finetune_cli.tasks import Kind

RowLosses = Callable[[Tensor, Tensor], Tensor]


class EpochBatches(Protocol):
    """What a loop is given to train on: the updates of the epoch that was set, each as one process's micro-batches."""

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sequence[Mapping[str, Any]]]: ...


def row_losses(
    kind: Kind, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None, focal_gamma: float = 0.0
) -> RowLosses:
    """The loss of each row: (logits (M, C) float32, labels (M,) or, of 0 and 1, (M, C)) -> (M,).

    Cross-entropy for classification, its mean over the classes, each yes or no, for multilabel, squared error for
    regression (logits (M, 1)). class_weights (C,) multiply a row's loss, in multilabel that of a class that the row
    has, and are not divided out again: the sum stays linear in the rows, so that accumulation and several processes
    give the loss of one large batch. Scale them to a mean of 1 over the training rows to keep the learning rate's
    meaning. focal_gamma: cross-entropies are multiplied by (1 - p)^gamma, p the probability of the truth (Lin et al.
    2017, "Focal Loss for Dense Object Detection"); not together with label_smoothing.
    """
    if kind == "regression":
        return lambda logits, labels: functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype), reduction="none")

    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
        if focal_gamma:
            losses = losses * _focus(logits, labels, focal_gamma)
        return losses if class_weights is None else losses * class_weights.to(logits.device)[labels]

    def mean_over_classes(logits: Tensor, labels: Tensor) -> Tensor:
        truth = labels.to(logits.dtype)
        target = truth * (1 - label_smoothing) + label_smoothing / 2
        weights = None if class_weights is None else class_weights.to(logits.device)
        losses = functional.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=weights)
        if focal_gamma:
            losses = losses * torch.exp(focal_gamma * functional.logsigmoid((1 - 2 * truth) * logits))
        return losses.mean(dim=1)

    return mean_over_classes if kind == "multilabel" else cross_entropy


def _focus(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma, p the probability of the label, through log(1 - p): the power's own gradient is inf at p = 1."""
    is_label = functional.one_hot(labels, logits.shape[1]).bool()
    of_others = logits.masked_fill(is_label, -torch.inf).logsumexp(dim=1)
    return torch.exp(gamma * (of_others - logits.logsumexp(dim=1)))


class Objective:
    """The share of one micro-batch in its update's loss: sum over its rows / rows of the update x processes.

    Dividing by the rows of the whole update, not of the micro-batch, makes accumulation equal one large batch even when
    the last update is short. Multiplying by the processes undoes DDP's averaging. Trainer's own scale is
    wrong for encoder classifiers (huggingface/transformers#47688), Accelerate's `accumulate()` for the last window.
    """

    def __init__(self, losses: RowLosses, *, num_processes: int = 1) -> None:
        self.losses = losses
        self.num_processes = num_processes

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """A scalar with its graph; summed over an update's micro-batches, its mean over processes is the update's loss.

        batch: a micro-batch of TrainingRows. Rows, or windows, from `num_valid` on do not count; with none left the
        loss is 0, with a graph, so that this process still takes part in the gradient exchange. `weights`: the share
        of its row's weight that each window has; 0 of rows that fill up.
        """
        inputs = dict(batch)
        labels, num_valid, update_rows = (inputs.pop(key) for key in ("labels", "num_valid", "update_rows"))
        weights = inputs.pop("weights", None)
        with known_tokens(inputs.pop("num_tokens", None)):
            logits = model(**inputs).logits.float()
        losses = self.losses(logits[:num_valid], labels[:num_valid])
        if weights is not None:
            losses = losses * weights[:num_valid]
        return losses.sum() * (self.num_processes / update_rows)


def balanced_class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weights N / (C x count), scikit-learn's "balanced": every class weighs the same, the mean over rows is 1.

    Multilabel, labels (N, C): rows without the class / rows with it, so that both weigh the same in the class's loss.
    """
    if labels.ndim == 2:
        with_class = labels.sum(dim=0).to(torch.float32)
        return (len(labels) - with_class).clamp(min=1) / with_class.clamp(min=1)
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    return len(labels) / (num_classes * counts.to(torch.float32))
