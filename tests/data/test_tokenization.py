"""Our encoding equals calling the tokenizer, for single texts and pairs, under every truncation."""

import pytest

from finetune_cli.data.tokenization import TextEncoder
from finetune_cli.errors import DataError, MissingError
from finetune_cli.models.tokenizer import load_tokenizer
from finetune_cli.models.vocabulary import train_wordpiece

TEXTS = [
    "a good film",
    "",
    "  spaces   and\ttabs\n",
    "Ünïcode: 雪が降る 👍🏽 e\u0301 \u200b end",
    "[SEP] inside [CLS] and [MASK]",
    "long " * 40,
    "one two three four five six seven eight nine ten " * 3,
    'quotes "here", comma; 3.14 $5',
]
PAIRS = ["yes", "second text " * 30, "", "short", "x " * 60, "b", "also rather long for a second text " * 4, "\u00a0"]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("wordpiece")
    train_wordpiece(lambda: [*TEXTS, *PAIRS] * 3, vocab_size=300, max_length=512, directory=directory)
    return directory


@pytest.fixture
def tokenizer(tokenizer_dir):
    return load_tokenizer(tokenizer_dir)


def rows_of(encoded) -> tuple[list[list[int]], list[list[int]]]:
    spans = list(zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True))
    ids = [encoded.input_ids[start:end].tolist() for start, end in spans]
    return ids, [encoded.token_type_ids[start:end].tolist() for start, end in spans]


@pytest.mark.parametrize("max_length", [8, 20, 512])
def test_single_texts_are_encoded_as_by_the_tokenizer(tokenizer, max_length):
    reference = tokenizer(TEXTS, truncation=True, max_length=max_length)
    encoded = TextEncoder(tokenizer, max_length=max_length).encode(TEXTS)
    assert rows_of(encoded) == (reference["input_ids"], reference["token_type_ids"])
    assert encoded.true_lengths.tolist() == [len(ids) for ids in tokenizer(TEXTS)["input_ids"]]


@pytest.mark.parametrize("max_length", [24, 512])
@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second"])
def test_pairs_are_encoded_as_by_the_tokenizer(tokenizer, truncation, max_length):
    # Only rows whose cut text is long enough: the tokenizer refuses the others, and so do we (next test).
    rows = [
        (text, pair)
        for text, pair in zip(TEXTS, PAIRS, strict=True)
        if truncation == "longest_first"
        or max_length == 512
        or len({"only_first": pair, "only_second": text}[truncation]) < 20
    ]
    texts, pairs = map(list, zip(*rows, strict=True))
    reference = tokenizer(texts, pairs, truncation=truncation, max_length=max_length)
    encoded = TextEncoder(tokenizer, max_length=max_length, truncation=truncation).encode(texts, pairs)
    assert rows_of(encoded) == (reference["input_ids"], reference["token_type_ids"])
    assert max(map(len, reference["input_ids"])) == max_length or max_length == 512


def test_truncation_side_of_the_tokenizer_is_kept(tokenizer):
    tokenizer.truncation_side = "left"
    reference = tokenizer(TEXTS, truncation=True, max_length=8)
    assert rows_of(TextEncoder(tokenizer, max_length=8).encode(TEXTS))[0] == reference["input_ids"]


def test_truncation_and_padding_left_in_the_tokenizer_file_do_not_count(tokenizer):
    plain = TextEncoder(tokenizer, max_length=512).encode(TEXTS)
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    assert rows_of(TextEncoder(tokenizer, max_length=512).encode(TEXTS)) == rows_of(plain)
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 5  # and the caller's tokenizer is not changed


def test_a_row_that_cannot_be_cut_as_asked_is_an_error(tokenizer):
    encoder = TextEncoder(tokenizer, max_length=8, truncation="only_second")
    with pytest.raises(DataError, match=r"row 71: longer than 8 tokens.*only_second is not enough"):
        encoder.encode(["short", "long " * 40], ["x", "y"], rows=[50, 70])


def test_error_refuses_long_rows_with_their_numbers(tokenizer):
    encoder = TextEncoder(tokenizer, max_length=8, truncation="error")
    with pytest.raises(DataError, match=r"rows 4, 10: longer than data.max_length \(8 tokens; the longest has 42\)"):
        encoder.encode(["fine", "long " * 40, "long " * 9], rows=[1, 3, 9])
    assert len(encoder.encode(["fine"])) == 1


def test_token_types_only_where_the_model_takes_them(tokenizer):
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    assert TextEncoder(tokenizer, max_length=8).encode(TEXTS).token_type_ids is None


def test_a_tokenizer_without_a_fast_version_is_named():
    class SlowTokenizer:
        pass

    with pytest.raises(MissingError, match="SlowTokenizer has no fast version"):
        TextEncoder(SlowTokenizer(), max_length=8)


def test_rows_without_any_token_are_an_error(tokenizer):
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])  # no [CLS], no [SEP]
    with pytest.raises(DataError, match="row 7: no tokens are left"):
        TextEncoder(tokenizer, max_length=8).encode(["word", "  "], rows=[5, 6])
