"""Training only those word embeddings that the training rows use; the result is the same, at less cost.

Half of a small encoder's parameters are word embeddings, most of which a data set never mentions. Their gradient is
zero, so AdamW without weight decay leaves them, and its own state of them, exactly as they are. Left out, they cost no
time to fill, measure and update, no memory for moments, and no place in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from finetune_cli.models.limits import word_table


class UsedRowsEmbedding(nn.Module):
    """An embedding table (V, H) of which `used` rows (U,) are one trainable parameter (U, H) and the others fixed.

    It loads and saves the whole table under the name `weight`, as nn.Embedding does.
    """

    def __init__(self, table: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = table.num_embeddings, table.embedding_dim
        position = torch.full((table.num_embeddings,), -1, device=table.weight.device)
        position[used] = torch.arange(len(used), device=used.device)
        self.padding_position = int(position[table.padding_idx]) if table.padding_idx is not None else None
        self.weight = nn.Parameter(table.weight.detach()[used].clone())
        # No buffers: those are sent to every process in each forward pass of DistributedDataParallel.
        self.used, self.position, self.table = used, position, table.weight.detach()
        self.register_state_dict_post_hook(_whole_table)
        self.register_load_state_dict_pre_hook(_take_used_rows)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids, any shape, to vectors (..., H). While training, all of them must be `used`."""
        position = self.position[ids]
        if self.training:
            return functional.embedding(position, self.weight, padding_idx=self.padding_position)
        trained = functional.embedding(position.clamp(min=0), self.weight)
        return torch.where(position.unsqueeze(-1) >= 0, trained, functional.embedding(ids, self.table))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> UsedRowsEmbedding:
        """What `to(device)` and the like are made of."""
        super()._apply(fn, recurse)
        self.used, self.position, self.table = fn(self.used), fn(self.position), fn(self.table)
        return self

    def whole(self) -> Tensor:
        """The table (V, H) as it stands, the trained rows in their places."""
        return self.table.index_copy(0, self.used, self.weight.detach())


def _whole_table(module: Any, state_dict: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    state_dict[f"{prefix}weight"] = module.whole()


def _take_used_rows(module: Any, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    if (whole := state_dict.get(f"{prefix}weight")) is not None:
        module.table = whole.detach().to(module.table)
        state_dict[f"{prefix}weight"] = module.table[module.used]


def train_used_rows_only(model: PreTrainedModel, used: Tensor) -> bool:
    """Replace the model's word embeddings; False where that would not be exact or not possible, and nothing is changed.

    used: the token ids (U,) of the training rows and of padding. The optimizer must leave a parameter alone whose
    gradients are zero: AdamW with weight decay 0.
    """
    table = word_table(model)
    if type(table) is not nn.Embedding or not table.weight.requires_grad or len(used) >= table.num_embeddings:
        return False
    if table.max_norm is not None or table.scale_grad_by_freq or table.sparse or _is_shared(model, table.weight):
        return False
    model.set_input_embeddings(UsedRowsEmbedding(table, used.to(table.weight.device)))
    return True


def _is_shared(model: nn.Module, weight: Tensor) -> bool:
    return sum(other is weight for _, other in model.named_parameters(remove_duplicate=False)) > 1
