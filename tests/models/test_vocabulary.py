"""The vocabulary of a model from scratch: learned from texts, and the same each time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from finetune_cli.models.tokenizer import load_tokenizer, pad_token_id, vocabulary_size
from finetune_cli.models.vocabulary import train_wordpiece
from finetune_cli.tasks import SAMPLES


def test_a_vocabulary_is_learned_from_texts(tmp_path: Path) -> None:
    train_wordpiece(lambda: ["The film was good"] * 20, vocab_size=100, max_length=16, directory=tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    encoded = tokenizer("the FILM", "good")
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == ["[CLS]", "the", "film", "[SEP]", "good", "[SEP]"]
    assert encoded["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert pad_token_id(tmp_path) == tokenizer.pad_token_id
    assert vocabulary_size(tmp_path) == len(tokenizer) <= 100


def test_texts_that_look_like_pieces_stay_texts(tmp_path: Path) -> None:
    train_wordpiece(lambda: ["a banana"] * 20, vocab_size=100, max_length=16, directory=tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.tokenize("##a") == ["[UNK]", "[UNK]", "a"]
    assert set(tokenizer.all_special_tokens) == {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}


def test_the_same_texts_give_the_same_vocabulary_in_every_process(tmp_path: Path) -> None:
    program = """
import json, pathlib, sys
from finetune_cli.models.vocabulary import train_wordpiece
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
texts = lambda: (row["sentence1"] for row in rows)
train_wordpiece(texts, vocab_size=600, max_length=64, directory=pathlib.Path(sys.argv[2]))
"""
    vocabularies = []
    for number in range(3):
        directory = tmp_path / str(number)
        command = [sys.executable, "-c", program, SAMPLES / "mrpc-mini" / "train.jsonl", directory]
        subprocess.run([*map(str, command)], check=True)
        vocabularies.append(json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"])
    assert len(vocabularies[0]) == 600
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]
