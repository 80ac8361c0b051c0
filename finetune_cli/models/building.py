"""Tokenizers and classifiers: how they are built from a model's files, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, MissingError, first_line
from finetune_cli.models.files import TOKENIZER_FILES, require_safetensors
from finetune_cli.models.freezing import belongs_to_body
from finetune_cli.tasks import KIND_SPECS, Kind

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
DROPOUT_FIELDS = (
    "hidden_dropout_prob",
    "dropout",
    "hidden_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "classifier_dropout",
)
ATTENTION_DROPOUT_FIELDS = ("attention_probs_dropout_prob", "attention_dropout")


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The fast tokenizer saved in `directory`. Raises MissingError when there is none."""
    from transformers import AutoTokenizer

    if not any((directory / name).is_file() for name in TOKENIZER_FILES if name != "tokenizer_config.json"):
        raise MissingError(
            f"{directory} has no tokenizer: expected tokenizer.json (or vocab.txt, or another tokenizer file). "
            f"Save it beside the model with tokenizer.save_pretrained({str(directory)!r})."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise MissingError(
            f"The tokenizer in {directory} cannot be loaded: {first_line(err)}. Download or copy it again."
        ) from err
    if not getattr(tokenizer, "is_fast", False):
        raise MissingError(f"The tokenizer in {directory} has no fast version. Convert it to a tokenizer.json first.")
    return tokenizer


def train_wordpiece(texts: Iterable[str], *, vocab_size: int, max_length: int, directory: Path) -> None:
    """Train a lower-casing WordPiece vocabulary on `texts` and save it as a BERT tokenizer in `directory`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk"]))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
    )
    pieces.train_from_iterator(texts, trainer=trainer)
    number = {name: pieces.get_vocab()[token] for name, token in SPECIAL_TOKENS.items()}
    pieces.post_processor = processors.BertProcessing(
        (SPECIAL_TOKENS["sep"], number["sep"]), (SPECIAL_TOKENS["cls"], number["cls"])
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in SPECIAL_TOKENS.items()},
    )
    tokenizer.save_pretrained(directory)


def build_classifier(
    directory: Path,
    *,
    kind: Kind,
    label_names: Sequence[str] | None,
    dropout: float | None = None,
    attention_dropout: float | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """A sequence classifier with the pretrained body in `directory` and a head for this task, in float32.

    kind: "classification", "multilabel", or "regression" (one output, `label_names` None). The head is drawn from the
    global generator, so seed it first. A head of the right shape that the directory already has is kept. Raises
    MissingError when the body's weights are missing, damaged or of another shape.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    try:
        config = AutoConfig.from_pretrained(
            directory, trust_remote_code=trust_remote_code, local_files_only=True, **_label_fields(kind, label_names)
        )
    except (OSError, ValueError, KeyError, TypeError) as err:
        if "trust_remote_code" in str(err):
            raise ConfigError(
                f"{directory} is a model that runs code of its own. If you trust it: -s model.trust_remote_code=true"
            ) from err
        raise MissingError(f"{directory / 'config.json'} cannot be used: {first_line(err)}.") from err
    _set_dropout(config, DROPOUT_FIELDS, dropout, "model.dropout")
    _set_dropout(config, ATTENTION_DROPOUT_FIELDS, attention_dropout, "model.attention_dropout")
    model, info = _load(
        AutoModelForSequenceClassification, directory, config=config, trust_remote_code=trust_remote_code
    )
    mismatched = _mismatched(info)
    wrong = [key for key in (*info["missing_keys"], *mismatched) if belongs_to_body(model, key)]
    if wrong:
        raise MissingError(
            f"The weights in {directory} do not fit its config.json: {len(wrong)} tensors are missing or have another "
            f"shape, first {sorted(wrong)[0]!r}. The files belong to different models; save the model again."
        )
    if info["missing_keys"] or mismatched:
        logger.info("New classification head (%d outputs) on %s", config.num_labels, directory)
    return model


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
    _set_dropout(config, DROPOUT_FIELDS, dropouts.get("dropout"), "model.dropout")
    _set_dropout(config, ATTENTION_DROPOUT_FIELDS, dropouts.get("attention_dropout"), "model.attention_dropout")
    return BertForSequenceClassification(config)


def recompute_activations(model: PreTrainedModel) -> None:
    """Keep only the layers' inputs in the forward pass and compute the rest again in the backward pass.

    The non-reentrant form: it works with frozen layers and adapters, and leaves loss and gradients as they are, since
    the generators are put back for the second pass. Raises ConfigError when the model cannot do it.
    """
    try:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as err:
        raise ConfigError(f"training.gradient_checkpointing: {first_line(err)} Set it to false.") from err


def load_trained(directory: Path, device: torch.device, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """A classifier whose head was trained, on `device`, for scoring and predicting.

    Raises MissingError when weights of the head or the body are not in the files: its answers would be random.
    """
    from transformers import AutoModelForSequenceClassification

    from finetune_cli.models.last_layer import use_first_token_only
    from finetune_cli.models.on_cpu import use_attention_for_cpu

    require_safetensors(directory)
    model, info = _load(AutoModelForSequenceClassification, directory, trust_remote_code=trust_remote_code)
    if unfit := sorted([*info["missing_keys"], *_mismatched(info)]):
        raise MissingError(
            f"{directory} has no trained classification head (missing or of another shape: {', '.join(unfit[:3])}): "
            f"its answers would be random. Fine-tune it first: finetune train CONFIG, then use the run's directory."
        )
    if device.type == "cpu":
        use_attention_for_cpu(model)
    use_first_token_only(model)
    return model.to(device).eval()


def _load(auto_class: Any, directory: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    import torch
    from safetensors import SafetensorError

    try:
        with _no_draws_without_storage():
            return auto_class.from_pretrained(
                directory,
                dtype=torch.float32,  # otherwise a bf16 checkpoint loads as bf16
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # reported in the loading info, and judged by the caller
                output_loading_info=True,
                **options,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as err:
        raise MissingError(
            f"The model in {directory} cannot be loaded: {first_line(err)}. Download or copy it again."
        ) from err


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


def _set_dropout(config: Any, fields: Sequence[str], value: float | None, key: str) -> None:
    if value is None:
        return
    known = [field for field in fields if hasattr(config, field)]
    if not known:
        raise ConfigError(f"{key}: models of type {config.model_type!r} have no such dropout. Remove the setting.")
    for field in known:
        setattr(config, field, value)
