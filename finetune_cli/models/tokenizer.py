"""The tokenizer of a model: loaded in one place for all commands, with a padding token, and told apart by what it does.

Nothing is read off the names of files: a folder with a vocabulary alone, a SentencePiece model or a bare configuration
is as good as one with tokenizer.json, wherever transformers makes a fast tokenizer of it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import MissingError, first_line
from finetune_cli.models.files import as_written, read_json, require_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

FOR_SENTENCEPIECE = ("sentencepiece", "google.protobuf")


def load_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """The fast tokenizer in `directory`; one without a padding token pads with its end token.

    Raises MissingError when there is none, when it cannot be loaded, or when a library that it needs is not installed.
    """
    from transformers import AutoTokenizer

    name = as_written(directory)
    _require_sentencepiece(name, require_tokenizer(directory))
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except ImportError as err:
        raise MissingError(f"The tokenizer of {name} needs a library that is not installed: {_needed(err)}.") from err
    except Exception as err:  # damaged files make the Rust side raise nothing narrower
        raise MissingError(
            f"The tokenizer of {name} cannot be loaded: {first_line(err)}. Download or copy it again."
        ) from err
    if not getattr(tokenizer, "is_fast", False):
        raise MissingError(
            f"The tokenizer of {name} ({type(tokenizer).__name__}) has no fast version, which this tool needs. Save a "
            f"tokenizer.json beside the model, or choose another model."
        )
    _give_padding(tokenizer, name)
    return tokenizer


def _require_sentencepiece(name: str, files: list[str]) -> None:
    only = [file for file in files if file.endswith(".model")]
    if "tokenizer.json" in files or not only or all(_is_installed(library) for library in FOR_SENTENCEPIECE):
        return
    raise MissingError(
        f"The tokenizer of {name} is {only[0]}, which is read with two small libraries. Install them: "
        f"pip install sentencepiece protobuf"
    )


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # of google.protobuf, where there is no package google
        return False


def _needed(err: ImportError) -> str:
    """What to install, from transformers' own words, which come with whole paragraphs around them."""
    if err.name:
        return f"{err.name}. Install it: pip install {err.name}"
    return " ".join(str(err).split())[:300].rstrip(" .")


def _give_padding(tokenizer: Any, name: str) -> None:
    if tokenizer.pad_token_id is not None:
        return
    if tokenizer.eos_token_id is None:
        raise MissingError(
            f"The tokenizer of {name} has neither a padding token nor an end token to pad with. Name one of its tokens "
            f"as pad_token in tokenizer_config.json."
        )
    tokenizer.pad_token = tokenizer.eos_token
    _say_padding(name, tokenizer.eos_token)


@cache
def _say_padding(name: str, token: str) -> None:
    """Once for each model of a process, however often its tokenizer is loaded."""
    logger.info("%s has no padding token: rows are padded with its end token %r", name, token)


def save_tokenizer(tokenizer: Any, directory: Path) -> None:
    """Write tokenizer.json and what goes with it, the padding side always among it."""
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("padding_side", "right") != tokenizer.padding_side:
        # A side that is the class's own, as XLNet's, is not saved, and the class not always found again.
        path.write_text(
            json.dumps({**settings, "padding_side": tokenizer.padding_side}, indent=2, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )


def pad_token_id(directory: Path) -> int:
    """The number of the padding token of a tokenizer that `save_tokenizer` wrote to `directory`."""
    token = read_json(directory / "tokenizer_config.json").get("pad_token")
    content = token.get("content") if isinstance(token, dict) else token
    number = _open_vocabulary(directory).token_to_id(content) if content else None
    if number is None:
        raise MissingError(f"The tokenizer in {directory} has no padding token any more. Delete that directory.")
    return int(number)


def padding_side(directory: Path) -> str:
    """On which side rows are padded, by a tokenizer that `save_tokenizer` wrote: "right" or "left"."""
    return str(read_json(directory / "tokenizer_config.json").get("padding_side", "right"))


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


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 of what the loaded tokenizer is: equal when texts are encoded, padded and cut alike."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["truncation"] = backend["padding"] = None  # as the last caller left them; rows are encoded without
    settings = [
        backend,
        tokenizer.pad_token_id,
        tokenizer.padding_side,
        tokenizer.truncation_side,
        getattr(tokenizer, "split_special_tokens", False),
        list(tokenizer.model_input_names),
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    ]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
