"""Tokenizers and classifiers: how they are built from a model's files, and what is refused."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, MissingError, first_line
from finetune_cli.models.dropout import Dropouts, require_dropout, set_dropout
from finetune_cli.models.facts import read_config
from finetune_cli.models.files import as_written, require_weights, weight_format
from finetune_cli.models.freezing import belongs_to_body
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
    from transformers import AutoModelForSequenceClassification

    from finetune_cli.models.head import take_over_head
    from finetune_cli.models.padding_independence import answer_rows_alike, require_training

    config = read_config(directory, trust_remote_code=trust_remote_code)
    own_names = [config.id2label[number] for number in range(config.num_labels)]
    for name, value in _label_fields(kind, label_names).items():
        setattr(config, name, value)
    dropouts = Dropouts(dropout, attention_dropout)
    set_dropout(config, dropouts)
    model, info = load_plain(
        AutoModelForSequenceClassification,
        directory,
        config=config,
        dtype=dtype,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    mismatched = _mismatched(info)
    wrong = [key for key in (*info["missing_keys"], *mismatched) if belongs_to_body(model, key)]
    if wrong:
        raise MissingError(
            f"The weights of {as_written(directory)} do not fit its config.json: {len(wrong)} tensors are missing or "
            f"have another shape, first {sorted(wrong)[0]!r}. The files belong to different models; save it again."
        )
    if info["missing_keys"] or mismatched:
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
    **dropouts: Any,
) -> PreTrainedModel:
    """A BERT classifier of the given sizes (fields of BertConfig), its weights drawn from the global generator."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        **{**sizes, "vocab_size": vocab_size}, pad_token_id=pad_token_id, **_label_fields(kind, label_names)
    )
    set_dropout(config, Dropouts(dropouts.get("dropout"), dropouts.get("attention_dropout")))
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
    from transformers import AutoModelForSequenceClassification

    from finetune_cli.models.last_layer import use_first_token_only
    from finetune_cli.models.on_cpu import use_attention_for_cpu
    from finetune_cli.models.padding_independence import answer_rows_alike
    from finetune_cli.models.ready_mask import takes_ready_mask

    require_weights(directory)
    config = read_config(directory, trust_remote_code=trust_remote_code)
    model, info = load_plain(
        AutoModelForSequenceClassification,
        directory,
        config=config,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )
    if unfit := sorted([*info["missing_keys"], *_mismatched(info)]):
        raise MissingError(
            f"{as_written(directory)} has no trained classification head (missing or of another shape: "
            f"{', '.join(unfit[:3])}): its answers would be random. Fine-tune it first: finetune train CONFIG, then "
            f"use the run's directory."
        )
    answer_rows_alike(model, directory)
    if device.type == "cpu":
        use_attention_for_cpu(model)
    use_first_token_only(model)
    if device.type != "cpu":
        takes_ready_mask(model)  # tried on the CPU, and remembered
    return model.to(device).eval()


def load_plain(
    auto_class: Any,
    directory: Path,
    *,
    config: Any,
    dtype: str = "fp32",
    device: torch.device | None = None,
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """A model of the class, its body in `dtype` (see models.storage), and what transformers says of how it was loaded.

    Raises MissingError when its files cannot be used.
    """
    import torch
    from safetensors import SafetensorError

    from finetune_cli.models import storage

    model_class, own_options = storage.loading_options(auto_class, config, dtype, device or torch.device("cpu"))
    _fix_attention(config)
    pickled = weight_format(directory) == "bin"
    if pickled:
        logger.info("%s: the weights are a .bin file; nothing but tensors is read from it", as_written(directory))
    try:
        with _no_draws_without_storage():
            model, info = model_class.from_pretrained(
                directory,
                config=config,
                use_safetensors=not pickled,
                weights_only=True,  # the loader for .bin files that builds tensors and runs no code
                local_files_only=True,
                ignore_mismatched_sizes=True,  # reported in the loading info, and judged by the caller
                output_loading_info=True,
                **own_options,
                **options,
            )
    except pickle.UnpicklingError as err:
        raise MissingError(
            f"The weights of {as_written(directory)} are a .bin file that is damaged or holds more than tensors. "
            f"Loading such a file could run code, so it was not. Take a copy with model.safetensors, or convert it "
            f"where you trust it, with save_pretrained."
        ) from err
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, SafetensorError) as err:
        raise MissingError(
            f"The model {as_written(directory)} cannot be loaded: {first_line(err)}. Download or copy it again."
        ) from err
    if model_class is not auto_class:
        storage.settle(model)
    _give_own_storage(model)
    return model, info


def _fix_attention(config: Any) -> None:
    """BigBird attends sparsely until a short batch comes, and fully from then on: fully from the start, then."""
    if getattr(config, "attention_type", None) == "block_sparse":
        config.attention_type = "original_full"
        logger.info("A %s model attends fully here, whatever the length of a row", config.model_type)


def _give_own_storage(model: PreTrainedModel) -> None:
    """Copy parameters that are views of one larger tensor.

    transformers loads query, key and value of nomic_bert, gte and jina_embeddings_v3 so, and Accelerate takes all but
    one of them for shared and leaves them out of a checkpoint.
    """
    for parameter in model.parameters():
        if parameter.untyped_storage().nbytes() != parameter.numel() * parameter.element_size():
            parameter.data = parameter.data.clone()


@contextmanager
def _no_draws_without_storage() -> Iterator[None]:
    """Leave out the first draw of embeddings on the device "meta", where weights have no values yet.

    Nothing comes of it but time: torch works in Python there, for which it imports sympy (a quarter of a second).
    """
    from torch.nn import init

    def normal(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        return tensor if tensor.is_meta else draw(tensor, *args, **options)

    draw, init.normal_ = init.normal_, normal
    try:
        yield
    finally:
        init.normal_ = draw


def _mismatched(info: Mapping[str, Any]) -> list[str]:
    return [entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]]


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
