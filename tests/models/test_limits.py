"""What a model takes in, read off its own tables: positions, tokens, token types."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from finetune_cli.data.tokenization import TextEncoder
from finetune_cli.errors import DataError, MissingError
from finetune_cli.models.facts import text_facts
from finetune_cli.models.limits import Limits, find_limits
from finetune_cli.models.tokenizer import load_tokenizer


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert", Limits(512, 30522, 2)),
        ("roberta", Limits(510, 50265, 2)),
        ("xlm-roberta", Limits(510, 30522, 2)),
        ("ibert", Limits(510, 30522, 2)),
        ("roberta-prelayernorm", Limits(510, 50265, 2)),
        ("mpnet", Limits(510, 30527, 0)),
        ("gpt2", Limits(1024, 50257, 50257)),
        ("gpt_bigcode", Limits(1024, 50257, 50257)),
        ("opt", Limits(2048, 50272, 0)),
        ("bart", Limits(1024, 50265, 0)),
        ("distilbert", Limits(512, 30522, 0)),
        ("nystromformer", Limits(510, 30000, 2)),
        ("gte", Limits(None, 250048, 1)),
        ("deberta-v2", Limits(512, 128100, None)),
        ("llama", Limits(None, 32000, 0)),
        ("xlnet", Limits(None, 32000, None)),
    ],
)
def test_limits_are_those_of_the_tables(name: str, expected: Limits) -> None:
    """Of the configurations as they come: RoBERTa's 514 rows on the Hub are 512 here, and the padding token counts."""
    assert find_limits(AutoConfig.for_model(name)) == expected


def test_limits_take_neither_memory_nor_random_numbers() -> None:
    state, start = torch.get_rng_state(), time.monotonic()
    assert find_limits(AutoConfig.for_model("llama", num_hidden_layers=48)).vocabulary == 32000  # 10 billion weights
    assert torch.equal(torch.get_rng_state(), state)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["roberta", "xmod", "ibert", "roberta-prelayernorm", "gpt2", "bart", "lilt"])
def test_the_longest_row_that_is_allowed_can_be_computed(family: Callable[[str], Path], name: str) -> None:
    """And one token more cannot: the limit is the table's, whatever the tokenizer says."""
    from finetune_cli.models.building import build_classifier

    limit = find_limits(AutoConfig.from_pretrained(family(name))).positions
    assert limit is not None
    model = build_classifier(family(name), kind="classification", label_names=("no", "yes")).eval()
    end = load_tokenizer(family(name)).sep_token_id or 20
    row, longer = (torch.tensor([[20] * (tokens - 1) + [end]]) for tokens in (limit, limit + 1))
    with torch.no_grad():
        model(input_ids=row, attention_mask=torch.ones_like(row))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=longer, attention_mask=torch.ones_like(longer))


def test_a_tokenizer_without_a_limit_has_the_models(family_copy: Callable[[str], Path]) -> None:
    directory = family_copy("roberta")
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": int(1e30)}))
    assert text_facts(directory).max_length == 64  # of 66 rows, the first two are not for tokens


@pytest.mark.parametrize(
    ("positions", "tokenizer", "expected"), [(512, 128, 128), (32, int(1e30), 32), (64, 10**9, 64), (-1, 48, 48)]
)
def test_the_longest_input_is_the_smaller_limit(
    family_copy: Callable[[str], Path], positions: int, tokenizer: int, expected: int
) -> None:
    """llama has no table of positions: what its configuration says counts."""
    directory = family_copy("llama")
    for file, field, value in (
        ("config.json", "max_position_embeddings", positions),
        ("tokenizer_config.json", "model_max_length", tokenizer),
    ):
        path = directory / file
        path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert text_facts(directory).max_length == expected


def test_types_of_tokens_that_a_model_cannot_tell_apart_are_left_out(family_copy: Callable[[str], Path]) -> None:
    """RoBERTa's weights with a tokenizer that numbers the texts of a pair 0 and 1."""
    directory = family_copy("roberta")
    for file, changes in (
        ("config.json", {"type_vocab_size": 1}),
        ("tokenizer_config.json", {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}),
    ):
        path = directory / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert not text_facts(directory).token_types
    encoder = TextEncoder(load_tokenizer(directory), max_length=64, token_types=False)
    assert encoder.encode(["good"], ["bad"]).token_type_ids is None


def test_words_that_the_model_does_not_know_are_refused_with_both_numbers(family_copy: Callable[[str], Path]) -> None:
    directory = family_copy("bert")
    tokenizer = load_tokenizer(directory)
    tokenizer.add_tokens([f"word{number}" for number in range(400)])
    tokenizer.save_pretrained(directory)
    with pytest.raises(MissingError, match=rf"has {len(tokenizer)} tokens and the model's table 320 rows.*resize"):
        text_facts(directory)


def test_a_special_token_beyond_the_table_is_refused_where_a_text_has_it(family: Callable[[str], Path]) -> None:
    tokenizer = load_tokenizer(family("bert"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra>"]})
    encoder = TextEncoder(tokenizer, max_length=64, vocabulary=len(tokenizer) - 1)
    assert len(encoder.encode(["good"])) == 1
    with pytest.raises(DataError, match=rf"row 2: has the token '<extra>'.*knows {len(tokenizer) - 1} tokens"):
        encoder.encode(["good", "a <extra> b"])
