"""What decides how texts become the input of a model: its tokenizer, and the sizes of its tables.

Both are asked, not guessed from files, which takes a second; the answer is kept in the cache by the files' content.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune_cli.errors import ConfigError, MissingError, first_line
from finetune_cli.models.files import as_written, read_json
from finetune_cli.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from finetune_cli.system.files import write_json
from finetune_cli.system.places import cache_dir

FORMAT = 1  # to be raised when other things are found out
UNSET_LENGTH = 1_000_000  # tokenizers without a limit of their own say 1e30
USUAL_LENGTH = 512  # of a model that has no limit at all
NO_TOKENIZER_FILES = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".ckpt", ".gguf", ".md"}
LENGTH_FIELDS = ("max_position_embeddings", "max_seq_len", "max_sequence_length")


@dataclass(frozen=True)
class TextFacts:
    """tokenizer: its fingerprint. max_length: the longest input in tokens, special ones included. vocabulary: tokens
    that the model knows, None where that was not found. token_types: whether the model tells kinds of tokens apart."""

    tokenizer: str
    max_length: int
    vocabulary: int | None
    token_types: bool

    @property
    def fingerprint(self) -> str:
        """SHA-256, equal when texts are encoded equally."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def text_facts(directory: Path, *, trust_remote_code: bool = False) -> TextFacts:
    """What the model in `directory` makes of texts. Raises MissingError or ConfigError for one that cannot be used."""
    kept = cache_dir() / "models" / f"{_content_key(directory, trust_remote_code)}.json"
    with suppress(OSError, ValueError, TypeError):
        return TextFacts(**json.loads(kept.read_text(encoding="utf-8")))
    facts = _find(directory, trust_remote_code=trust_remote_code)
    with suppress(OSError):  # a cache that cannot be written is said where the rows are kept
        write_json(kept, asdict(facts))
    return facts


def _content_key(directory: Path, trust_remote_code: bool) -> str:
    """SHA-256 over whatever small files the model has: a tokenizer may read any of them."""
    digest = hashlib.sha256(f"{FORMAT} {version('transformers')} {version('tokenizers')} {trust_remote_code}".encode())
    for path in sorted(directory.iterdir()):
        if path.is_file() and path.suffix not in NO_TOKENIZER_FILES:
            content = path.read_bytes()
            digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _find(directory: Path, *, trust_remote_code: bool) -> TextFacts:
    from finetune_cli.models.limits import find_limits

    config = read_config(directory, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(directory)
    limits = find_limits(config)
    lengths = [limits.positions or _stated_length(config, directory), _own_length(tokenizer, directory)]
    _require_known_words(tokenizer, limits.vocabulary, as_written(directory))
    return TextFacts(
        tokenizer=tokenizer_fingerprint(tokenizer),
        max_length=min((length for length in lengths if length), default=USUAL_LENGTH),
        vocabulary=limits.vocabulary,
        token_types="token_type_ids" in tokenizer.model_input_names and limits.token_types not in (0, 1),
    )


def read_config(directory: Path, *, trust_remote_code: bool = False) -> Any:
    """The model's configuration. Raises ConfigError for a model that would run code of its own without being trusted,
    MissingError for what cannot be read."""
    from transformers import AutoConfig

    read_json(directory / "config.json")  # says where a damaged file is damaged
    try:
        return AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as err:
        if "trust_remote_code" in str(err):
            raise ConfigError(
                f"{as_written(directory)} is a model that runs code of its own. If you trust it: "
                f"-s model.trust_remote_code=true"
            ) from err
        raise MissingError(
            f"{as_written(directory)}: its config.json cannot be used: {first_line(err)}. Download or copy it again."
        ) from err


def _stated_length(config: Any, directory: Path) -> int | None:
    """The longest input that the configuration names, for a model without a table of positions."""
    text = config.get_text_config()
    stated = next((value for name in LENGTH_FIELDS if (value := getattr(text, name, None)) is not None), None)
    return _whole(stated, f"{directory / 'config.json'}: max_position_embeddings")


def _own_length(tokenizer: Any, directory: Path) -> int | None:
    length = _whole(tokenizer.model_max_length, f"{directory / 'tokenizer_config.json'}: model_max_length")
    return length if length and length < UNSET_LENGTH else None


def _whole(value: Any, what: str) -> int | None:
    """A positive number as a whole one; None for none and for those that stand for none."""
    if value is None:
        return None
    try:
        return max(0, int(value)) or None
    except (OverflowError, TypeError, ValueError) as err:
        raise MissingError(f"{what} is not a whole number ({err}). Download or copy the model again.") from err


def _require_known_words(tokenizer: Any, vocabulary: int | None, name: str) -> None:
    """Refuse a tokenizer with words that the model has no vectors for; special tokens, such as a mask that no text
    has, may be beyond its table."""
    if vocabulary is None:
        return
    special = set(tokenizer.all_special_ids) | {
        number for number, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    beyond = sorted(number for number in tokenizer.get_vocab().values() if number >= vocabulary)
    words = [number for number in beyond if number not in special]
    if words or tokenizer.pad_token_id >= vocabulary:
        number = words[0] if words else tokenizer.pad_token_id
        raise MissingError(
            f"{name}: the tokenizer has {beyond[-1] + 1} tokens and the model's table {vocabulary} rows, so that "
            f"{tokenizer.convert_ids_to_tokens(number)!r} (number {number}) and what follows have no vector. Give the "
            f"model more rows and save it again: model.resize_token_embeddings(len(tokenizer))"
        )
