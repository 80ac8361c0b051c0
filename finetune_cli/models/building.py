"""Classifiers for training and for answering: built from a model's files or from nothing, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, MissingError, first_line
from finetune_cli.models.dropout import Dropouts, require_dropout, set_dropout
from finetune_cli.models.facts import read_config
from finetune_cli.models.files import as_written, require_weights
from finetune_cli.models.freezing import belongs_to_body
from finetune_cli.models.loading import load_classifier
from finetune_cli.tasks import KIND_SPECS, Kind

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def build_classifier(
    directory: Path,
    *,
    kind: Kind,
    label_names: Sequence[str] | None,
    dropout: float | None = None,
    attention_dropout: float | None = None,
    trust_remote_code: bool = False,
    dtype: str = "fp32",
    device: torch.device | None = None,
) -> PreTrainedModel:
    """A sequence classifier with the pretrained body in `directory` and a head for this task in float32.

    dtype: of the body, see models.storage; nf4 is loaded onto `device`, the others onto the CPU. kind:
    "classification", "multilabel", or "regression" (one output, `label_names` None). The head is drawn from the global
    generator, so seed it first. A head that the directory already has is taken over where it fits; see
    `take_over_head`. Raises MissingError when the body's weights are missing, damaged or of another shape, ConfigError
    for a setting that the family cannot honour, and for one whose answers depend on the rows beside.
    """
    from finetune_cli.models.head import take_over_head
    from finetune_cli.models.padding_independence import answer_rows_alike, require_training

    config = read_config(directory, trust_remote_code=trust_remote_code)
    own_names = [config.id2label[number] for number in range(config.num_labels)]
    for name, value in _label_fields(kind, label_names).items():
        setattr(config, name, value)
    dropouts = Dropouts(dropout, attention_dropout)
    set_dropout(config, dropouts)
    model, unfit = load_classifier(
        directory, config=config, dtype=dtype, device=device, trust_remote_code=trust_remote_code
    )
    if wrong := sorted(name for name in unfit if belongs_to_body(model, name)):
        raise MissingError(
            f"The weights of {as_written(directory)} do not fit its config.json: {len(wrong)} tensors are missing or "
            f"have another shape, first {wrong[0]!r}. The files belong to different models; save it again."
        )
    if unfit:
        logger.info("New classification head (%d outputs) on %s", config.num_labels, as_written(directory))
    elif label_names:
        take_over_head(model, own_names, label_names, name=as_written(directory))
    require_dropout(model, dropouts)
    if dtype != "fp32":
        _require_running(model, dtype)
    answer_rows_alike(model, directory)
    require_training(model, directory)
    return model


def _require_running(model: PreTrainedModel, dtype: str) -> None:
    """Raise ConfigError for a model that does not compute in its own weights' format."""
    from finetune_cli.models.self_test import FAILURES, run_a_row

    try:
        run_a_row(model, in_own_format=True)
        run_a_row(model)  # in fp32, as the checks of what padding does compute
    except FAILURES as err:
        raise ConfigError(
            f"model.dtype: a model of type {model.config.model_type!r} does not compute with weights in {dtype} "
            f"({first_line(err)}). Set it to fp32."
        ) from err


def build_from_scratch(
    sizes: Mapping[str, int],
    *,
    vocab_size: int,
    pad_token_id: int,
    kind: Kind,
    label_names: Sequence[str] | None,
    dropout: float | None = None,
    attention_dropout: float | None = None,
) -> PreTrainedModel:
    """A BERT classifier of the given sizes (fields of BertConfig), its weights drawn from the global generator."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        **{**sizes, "vocab_size": vocab_size}, pad_token_id=pad_token_id, **_label_fields(kind, label_names)
    )
    set_dropout(config, Dropouts(dropout, attention_dropout))
    return BertForSequenceClassification(config)


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep only the layers' inputs in the forward pass and compute the rest again in the backward pass.

    The non-reentrant form: it works with frozen layers and adapters, and leaves loss and gradients as they are, since
    the generators are put back for the second pass. Raises ConfigError when the model cannot do it.
    """
    try:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as err:
        raise ConfigError(f"training.gradient_checkpointing: {first_line(err)}. Set it to false.") from err


def load_trained(
    directory: Path, device: torch.device, *, trust_remote_code: bool = False, dtype: str = "fp32"
) -> PreTrainedModel:
    """A classifier whose head was trained, on `device`, for scoring and predicting; dtype: of the body, fp32 or bf16.

    Raises MissingError when weights of the head or the body are not in the files: its answers would be random.
    """
    from finetune_cli.models.last_layer import use_first_token_only
    from finetune_cli.models.on_cpu import use_attention_for_cpu
    from finetune_cli.models.padding_independence import answer_rows_alike
    from finetune_cli.models.ready_mask import takes_ready_mask

    require_weights(directory)
    config = read_config(directory, trust_remote_code=trust_remote_code)
    model, unfit = load_classifier(directory, config=config, dtype=dtype, trust_remote_code=trust_remote_code)
    if unfit:
        raise MissingError(
            f"{as_written(directory)} has no trained classification head (missing or of another shape: "
            f"{', '.join(sorted(unfit)[:3])}): its answers would be random. Fine-tune it first: finetune train CONFIG, "
            f"then use the run's directory."
        )
    answer_rows_alike(model, directory)
    if device.type == "cpu":
        use_attention_for_cpu(model)
    use_first_token_only(model)
    if device.type != "cpu":
        takes_ready_mask(model)  # tried on the CPU, and remembered
    return model.to(device).eval()


def _label_fields(kind: Kind, label_names: Sequence[str] | None) -> dict[str, Any]:
    problem_type = {"problem_type": KIND_SPECS[kind].problem_type}
    if not KIND_SPECS[kind].has_classes:
        return {"num_labels": 1, **problem_type}
    names = list(label_names or ())
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        **problem_type,
    }
