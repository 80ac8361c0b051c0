"""Where a model's files are, and what they say before any of it is loaded: fingerprints, limits, the padding token."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, MissingError, first_line
from finetune_cli.records.decision_rule import DECISION_FILE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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


def resolve_model(
    name_or_path: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    weights: bool = True,
    code: bool = False,
    key: str = "model.name_or_path",
) -> Path:
    """The local directory that holds a model's files; a Hub model is downloaded (or found in the cache) first.

    name_or_path: a directory, `package:NAME/FOLDER` (a folder inside an installed package, whose code is not run), or a
    Hub id. weights: also require safetensors weights; without it the configuration and tokenizer files are enough.
    code: also fetch the Python files of a Hub model. key: what names the model, for messages.
    Raises MissingError when something is not there, with what to type next.
    """
    is_local = name_or_path.startswith(PACKAGE_PREFIX) or Path(name_or_path).is_dir()
    if is_local and revision is not None:
        raise ConfigError(f"model.revision: {name_or_path} is a directory, which has no revisions. Take it out.")
    if name_or_path.startswith(PACKAGE_PREFIX):
        directory = _package_folder(name_or_path, key)
    elif Path(name_or_path).is_dir():
        directory = Path(name_or_path)
    elif Path(name_or_path).is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") > 1:
        raise MissingError(f"{key}: there is no directory {name_or_path!r}. Check the path.")
    else:
        directory = _download(name_or_path, key, revision=revision, offline=offline, weights=weights, code=code)
    if not (directory / "config.json").is_file():
        raise MissingError(
            f"{key}: {directory} has no config.json, so it is not a model directory. Expected config.json, "
            f"model.safetensors and tokenizer files, as save_pretrained writes them."
        )
    if weights:
        require_safetensors(directory)
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


def require_safetensors(directory: Path) -> None:
    """Raise MissingError when the weights are not there, or only as pickles."""
    if any((directory / name).is_file() for name in WEIGHT_FILES):
        return
    if any(directory.glob("*.bin")):
        raise MissingError(
            f"{directory} holds its weights only as pickled .bin files, which can run code when loaded. "
            f"Convert them once with save_pretrained (it writes model.safetensors) and use that directory."
        )
    raise MissingError(f"{directory} has no weights: expected {' or '.join(WEIGHT_FILES)}. Copy them there too.")


def _download(repo_id: str, key: str, *, revision: str | None, offline: bool, weights: bool, code: bool) -> Path:
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

    patterns = ["config.json", DECISION_FILE, *TOKENIZER_FILES]
    patterns += ["model*.safetensors", WEIGHT_FILES[1]] if weights else []
    patterns += ["*.py"] if code else []
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
        raise MissingError(f"{path} cannot be loaded: {first_line(err)}. Download or copy the model again.") from err
