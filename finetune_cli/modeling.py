"""Models and tokenizers: where their files are, how a classifier is built from them, and what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, MissingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

PACKAGE_PREFIX = "package:"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
SPECIAL_TOKENS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
READ_BYTES = 2**20
UNSET_LENGTH = 1_000_000  # tokenizers without a limit of their own say 1e30

# Families whose positions start after the padding index, so that a 514-row table holds 512 tokens.
OFFSET_POSITION_MODELS = {
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
    "longformer",
    "data2vec-text",
}

DROPOUT_FIELDS = (
    "hidden_dropout_prob",
    "dropout",
    "hidden_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "classifier_dropout",
)
ATTENTION_DROPOUT_FIELDS = ("attention_probs_dropout_prob", "attention_dropout")


def resolve_model(
    name_or_path: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    weights: bool = True,
    key: str = "model.name_or_path",
) -> Path:
    """The local directory that holds a model's files; a Hub model is downloaded (or found in the cache) first.

    name_or_path: a directory, `package:NAME/FOLDER` (a folder inside an installed package, whose code is not run), or a
    Hub id. weights: also require safetensors weights; without it the configuration and tokenizer files are enough.
    key: what names the model, for messages.
    Raises MissingError when something is not there, with what to type next.
    """
    if name_or_path.startswith(PACKAGE_PREFIX):
        directory = _package_folder(name_or_path, key)
    elif Path(name_or_path).is_dir():
        directory = Path(name_or_path)
        if revision is not None:
            raise ConfigError(f"model.revision: {name_or_path} is a directory, which has no revisions. Take it out.")
    elif Path(name_or_path).is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise MissingError(f"{key}: there is no directory {name_or_path!r}. Check the path.")
    else:
        directory = _download(name_or_path, key, revision=revision, offline=offline, weights=weights)
    if not (directory / "config.json").is_file():
        raise MissingError(
            f"{key}: {directory} has no config.json, so it is not a model directory. Expected config.json, "
            f"model.safetensors and tokenizer files, as save_pretrained writes them."
        )
    if weights:
        _require_safetensors(directory)
    return directory


def _package_folder(name: str, key: str) -> Path:
    package, _, folder = name.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        spec = importlib.util.find_spec(package)  # finds the package without importing it
    except (ImportError, ValueError):  # of `a.b` it imports a
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            f"{key}: {name!r} needs the Python package {package!r}, which is not installed here. "
            f"Install it, or name a Hub id or a directory."
        )
    directory = Path(next(iter(spec.submodule_search_locations))) / folder
    if not directory.is_dir():
        raise MissingError(f"{key}: the package {package!r} has no folder {folder!r}.")
    return directory


def _require_safetensors(directory: Path) -> None:
    if any((directory / name).is_file() for name in WEIGHT_FILES):
        return
    if any(directory.glob("*.bin")):
        raise MissingError(
            f"{directory} holds its weights only as pickled .bin files, which can run code when loaded. "
            f"Convert them once with save_pretrained (it writes model.safetensors) and use that directory."
        )
    raise MissingError(f"{directory} has no weights: expected {' or '.join(WEIGHT_FILES)}. Copy them there too.")


def _download(repo_id: str, key: str, *, revision: str | None, offline: bool, weights: bool) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = ["config.json", *TOKENIZER_FILES, *(["model*.safetensors", WEIGHT_FILES[1]] if weights else [])]
    where = f"{key}: {repo_id!r}"
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns, local_files_only=offline))
    except HFValidationError as err:
        raise MissingError(f"{where} is neither a directory here nor a valid Hub id.") from err
    except GatedRepoError as err:
        raise MissingError(f"{where} is gated on the Hub. Accept its terms there, then run `hf auth login`.") from err
    except RevisionNotFoundError as err:
        raise MissingError(f"{where} has no revision {revision!r} on the Hub. Check model.revision.") from err
    except RepositoryNotFoundError as err:
        raise MissingError(
            f"{where} is not a directory here, and the Hub has no such model (or it is private)."
        ) from err
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as err:
        reason = "offline mode is on" if offline or constants.HF_HUB_OFFLINE else "the Hub was not reached"
        raise MissingError(
            f"{where} is not a directory here, its files are not in the local cache, and {reason}. Run once with "
            f"network access, or name a local directory{': -s model.name_or_path=PATH' if '.' in key else ''}."
        ) from err


def tokenizer_fingerprint(directory: Path) -> str:
    """SHA-256 over the tokenizer's files and the model's length limit: equal when texts are encoded equally."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        path = directory / name
        if path.is_file():
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    digest.update(str(model_max_length(directory)).encode())
    return digest.hexdigest()


def weights_fingerprint(directory: Path) -> str:
    """SHA-256 over the model's configuration and weights, which decide where training starts."""
    digest = hashlib.sha256()
    for path in (directory / "config.json", *sorted(directory.glob("model*.safetensors"))):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


def model_max_length(directory: Path) -> int:
    """The longest input in tokens, special tokens included: the smaller of the tokenizer's and the model's limit."""
    config, tokenizer_config = _read_json(directory / "config.json"), _read_json(directory / "tokenizer_config.json")
    try:
        return _smallest_limit(config, tokenizer_config)
    except (OverflowError, TypeError, ValueError) as err:
        raise MissingError(
            f"{directory}: max_position_embeddings in config.json or model_max_length in tokenizer_config.json is not "
            f"a whole number ({err}). Download or copy the model again."
        ) from err


def _smallest_limit(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> int:
    limits = []
    if (positions := config.get("max_position_embeddings")) and int(positions) > 0:
        offset = int(config.get("pad_token_id") or 0) + 1 if config.get("model_type") in OFFSET_POSITION_MODELS else 0
        limits.append(int(positions) - offset)
    if (limit := tokenizer_config.get("model_max_length")) and int(limit) < UNSET_LENGTH:
        limits.append(int(limit))
    return min(limits, default=512)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as err:
        raise MissingError(f"{path} is damaged: {err}. Download or copy the model again.") from err
    if not isinstance(content, dict):
        raise MissingError(f"{path} is damaged: expected a JSON object. Download or copy the model again.")
    return content


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
            f"The tokenizer in {directory} cannot be loaded: {_first_line(err)}. Download or copy it again."
        ) from err
    if not getattr(tokenizer, "is_fast", False):
        raise MissingError(f"The tokenizer in {directory} has no fast version. Convert it to a tokenizer.json first.")
    return tokenizer


def pad_token_id(directory: Path) -> int:
    """The number of the padding token of the tokenizer saved in `directory`. Raises MissingError when it has none."""
    token = _read_json(directory / "tokenizer_config.json").get("pad_token")
    content = token.get("content") if isinstance(token, dict) else token
    number = _open_vocabulary(directory).token_to_id(content) if content else None
    if number is None:
        raise MissingError(
            f"The tokenizer in {directory} has no padding token, which batches need. Set one and save it: "
            f"tokenizer.pad_token = tokenizer.eos_token; tokenizer.save_pretrained(...)."
        )
    return int(number)


def vocabulary_size(directory: Path) -> int:
    """Entries of the tokenizer saved in `directory`, added tokens included."""
    return int(_open_vocabulary(directory).get_vocab_size())


def _open_vocabulary(directory: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as err:  # the library raises nothing narrower
        raise MissingError(f"{path} cannot be loaded: {_first_line(err)}. Download or copy the model again.") from err


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
    kind: str,
    label_names: Sequence[str] | None,
    dropout: float | None = None,
    attention_dropout: float | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """A sequence classifier with the pretrained body in `directory` and a head for this task, in float32.

    kind: "classification", "multilabel" or "regression" (one output, `label_names` None). The head is drawn from the
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
        raise MissingError(f"{directory / 'config.json'} cannot be used: {_first_line(err)}.") from err
    _set_dropout(config, DROPOUT_FIELDS, dropout, "model.dropout")
    _set_dropout(config, ATTENTION_DROPOUT_FIELDS, attention_dropout, "model.attention_dropout")
    model, info = _load(
        AutoModelForSequenceClassification, directory, config=config, trust_remote_code=trust_remote_code
    )
    mismatched = _mismatched(info)
    wrong = [key for key in (*info["missing_keys"], *mismatched) if _belongs_to_body(model, key)]
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
    kind: str,
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


def load_trained(directory: Path, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """A classifier whose head was trained, for scoring and predicting.

    Raises MissingError when weights of the head or the body are not in the files: its answers would be random.
    """
    from transformers import AutoModelForSequenceClassification

    _require_safetensors(directory)
    model, info = _load(AutoModelForSequenceClassification, directory, trust_remote_code=trust_remote_code)
    if unfit := sorted([*info["missing_keys"], *_mismatched(info)]):
        raise MissingError(
            f"{directory} has no trained classification head (missing or of another shape: {', '.join(unfit[:3])}): "
            f"its answers would be random. Fine-tune it first: finetune train CONFIG, then use the run's directory."
        )
    return model.eval()


def _load(auto_class: Any, directory: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    import torch
    from safetensors import SafetensorError

    try:
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
            f"The model in {directory} cannot be loaded: {_first_line(err)}. Download or copy it again."
        ) from err


def _mismatched(info: Mapping[str, Any]) -> list[str]:
    return [entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]]


def _label_fields(kind: str, label_names: Sequence[str] | None) -> dict[str, Any]:
    problem_types = {"classification": "single_label_classification", "multilabel": "multi_label_classification"}
    if kind == "regression":
        return {"num_labels": 1, "problem_type": "regression"}
    names = list(label_names or ())
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": problem_types[kind],
    }


def _set_dropout(config: Any, fields: Sequence[str], value: float | None, key: str) -> None:
    if value is None:
        return
    known = [field for field in fields if hasattr(config, field)]
    if not known:
        raise ConfigError(f"{key}: models of type {config.model_type!r} have no such dropout. Remove the setting.")
    for field in known:
        setattr(config, field, value)


def _belongs_to_body(model: PreTrainedModel, key: str) -> bool:
    """Whether a weight is part of the pretrained body; the head and a pooler may be new."""
    return key.startswith(f"{model.base_model_prefix}.") and ".pooler." not in key


def _first_line(err: Exception) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0][:300].rstrip(" .:")
