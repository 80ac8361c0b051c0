"""Tokenizers: one way to load them for every command, a padding token always, told apart by what they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.errors import MissingError
from finetune_cli.models import files, tokenizer
from finetune_cli.models.facts import text_facts
from finetune_cli.models.tokenizer import load_tokenizer, save_tokenizer, tokenizer_fingerprint


def settings_of(directory: Path, **changes: object) -> None:
    """Change tokenizer_config.json; None takes a setting out."""
    path = directory / "tokenizer_config.json"
    settings = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))


def test_a_folder_without_a_tokenizer_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"has no tokenizer: expected tokenizer\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", {"model_type": "canine"}), ("tokenizer_config.json", {"tokenizer_class": "ByT5Tokenizer"})],
)
def test_a_tokenizer_that_needs_no_file_is_refused_for_what_it_is(
    tmp_path: Path, file: str, content: dict[str, str]
) -> None:
    """To save it beside the model, as is said of one that is missing, would change nothing."""
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(MissingError, match=r"takes bytes or characters .* no fast version.* Choose another model"):
        load_tokenizer(tmp_path)


def test_without_a_padding_token_the_end_token_pads(model_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings_of(model_copy, tokenizer_class="PreTrainedTokenizerFast", pad_token=None, eos_token="[SEP]")
    with caplog.at_level("INFO", logger="finetune_cli"):
        loaded = load_tokenizer(model_copy)
    assert loaded.pad_token == "[SEP]"
    assert "no padding token: rows are padded with its end token '[SEP]'" in caplog.text
    save_tokenizer(loaded, model_copy / "saved")
    assert tokenizer.pad_token_id(model_copy / "saved") == loaded.sep_token_id


def test_a_tokenizer_with_neither_is_refused(model_copy: Path) -> None:
    settings_of(model_copy, tokenizer_class="PreTrainedTokenizerFast", pad_token=None, eos_token=None)
    with pytest.raises(MissingError, match="neither a padding token nor an end token"):
        load_tokenizer(model_copy)


def keep(*names: str) -> Callable[[Path], object]:
    """A layout: of the tokenizer's files these alone."""

    def leave(directory: Path) -> None:
        for path in files.tokenizer_files(directory):
            if path.name not in names:
                path.unlink()

    return leave


def only_a_vocabulary(directory: Path) -> None:
    words = load_tokenizer(directory).get_vocab()
    keep()(directory)
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(words, key=words.__getitem__)))


def padding_named_elsewhere(directory: Path) -> None:
    """As older versions saved it (public report huggingface/transformers#14334)."""
    settings_of(directory, pad_token=None)
    (directory / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]", "sep_token": "[SEP]"}))


def windows_line_ends(directory: Path) -> None:
    only_a_vocabulary(directory)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_bytes(vocabulary.read_bytes().replace(b"\n", b"\r\n"))


def as_transformers_3_saved_it(directory: Path) -> None:
    """Each special token as an object with its flags, and no name of a class anywhere."""
    only_a_vocabulary(directory)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    names = ("pad", "unk", "cls", "sep", "mask")
    tokens = {f"{name}_token": {"content": f"[{name.upper()}]", **flags} for name in names}
    (directory / "special_tokens_map.json").write_text(json.dumps(tokens))
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "model_max_length": 64}))
    (directory / "added_tokens.json").write_text("{}")


LAYOUTS = {
    "a vocabulary with Windows' line ends": windows_line_ends,
    "special tokens as objects": as_transformers_3_saved_it,
    "a vocabulary alone": only_a_vocabulary,
    "tokenizer.json alone": keep("tokenizer.json"),
    "a bare tokenizer_config.json": lambda directory: (directory / "tokenizer_config.json").write_text("{}"),
    "the padding token in special_tokens_map.json": padding_named_elsewhere,
}


@pytest.mark.parametrize("lay_out", LAYOUTS.values(), ids=LAYOUTS)
def test_a_tokenizer_is_itself_however_it_is_laid_out(
    model_copy: Path, tiny_bert: Path, lay_out: Callable[[Path], object]
) -> None:
    lay_out(model_copy)
    found, expected = load_tokenizer(model_copy), load_tokenizer(tiny_bert)
    assert found("a good film, quite")["input_ids"] == expected("a good film, quite")["input_ids"]
    assert found.pad_token_id == expected.pad_token_id


def test_the_fingerprint_follows_what_the_tokenizer_does(model_copy: Path, tiny_bert: Path) -> None:
    original = tokenizer_fingerprint(load_tokenizer(tiny_bert))
    (model_copy / "README.txt").write_text("words about it")
    assert tokenizer_fingerprint(load_tokenizer(model_copy)) == original
    backend = json.loads((model_copy / "tokenizer.json").read_text(encoding="utf-8"))
    words = backend["model"]["vocab"]
    words["good"], words["bad"] = words["bad"], words["good"]
    (model_copy / "tokenizer.json").write_text(json.dumps(backend), encoding="utf-8")
    assert tokenizer_fingerprint(load_tokenizer(model_copy)) != original


def test_another_vocabulary_in_any_file_is_noticed(model_copy: Path) -> None:
    before = text_facts(model_copy).fingerprint
    only_a_vocabulary(model_copy)
    words = (model_copy / "vocab.txt").read_text().split("\n")
    words[10], words[11] = words[11], words[10]
    (model_copy / "vocab.txt").write_text("\n".join(words))
    assert text_facts(model_copy).fingerprint != before


def test_a_library_that_is_missing_is_named(model_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep()(model_copy)
    (model_copy / "spm.model").write_bytes(b"not read")
    monkeypatch.setattr(tokenizer, "_is_installed", lambda library: False)
    with pytest.raises(MissingError, match=r"spm\.model, .* pip install sentencepiece protobuf"):
        load_tokenizer(model_copy)
