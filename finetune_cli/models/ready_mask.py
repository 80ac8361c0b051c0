"""Models that take a mask in the form that attention reads, so that nothing has to be asked of the device.

transformers makes that mask from one of (B, T), and leaves it out when nothing is padded. To know that, it waits for
the device in each forward pass. The lengths of the rows are known on the host.
"""

from __future__ import annotations

from typing import Literal

from transformers import PreTrainedModel

from finetune_cli.models.self_test import agrees, trial_logits

_ANSWER = "_finetune_takes_ready_mask"


def takes_ready_mask(model: PreTrainedModel) -> bool:
    """Whether a bool mask (B, 1, 1, T) gives the logits of a mask (B, T); tried once for each model.

    Only with torch's scaled-dot-product attention: other kinds take masks of other forms. Not a model that takes the
    rows of a batch apart by their masks; see models.padding_independence.
    """
    answer: bool | None = getattr(model, _ANSWER, None)
    if answer is None:
        attention = str(model.config._attn_implementation)
        sdpa = attention.startswith("sdpa") or attention == "packed"
        apart = hasattr(model, "same_number_of")
        answer = sdpa and not apart and agrees(model, trial_logits(model), ready_mask=True)
        setattr(model, _ANSWER, answer)
    return answer


def form_of_mask(model: PreTrainedModel, *, ready: bool, always: bool) -> bool | Literal["always"]:
    """`ready_mask` of data.batching.pad_rows for this model. ready: what the device wants; always: that it wants a mask
    also where nothing is padded."""
    if not (ready and takes_ready_mask(model)):
        return False
    return "always" if always else True
