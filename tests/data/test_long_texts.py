"""What is kept of rows longer than the model, against transformers' own tokenizer and by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from finetune_cli.data.batching import pad_rows
from finetune_cli.data.long_texts import HeadTail, LongTexts
from finetune_cli.data.row_lengths import RowLengths
from finetune_cli.data.tokenization import EncodedBatch, TextEncoder
from finetune_cli.data.windows import WindowSettings
from finetune_cli.errors import ConfigError
from tests.conftest import FILLERS

WORDS = [*FILLERS, "good", "bad"]
TEXT = " ".join(WORDS * 4)  # 64 tokens, no two neighbours alike
MAX = 16


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_bert)


def encoded(tokenizer: Any, how: LongTexts, texts: list[str], pairs: list[str] | None = None) -> EncodedBatch:
    return TextEncoder(tokenizer, max_length=MAX, long_texts=how).encode(texts, pairs)


def windows(stride: int) -> WindowSettings:
    return WindowSettings(stride, "mean", "classification", MAX)


def words(tokenizer: Any, ids: Any) -> list[str]:
    return list(tokenizer.convert_ids_to_tokens([int(number) for number in ids]))


def shown_windows(tokenizer: Any, rows: EncodedBatch) -> list[list[list[str]]]:
    """The tokens of each window of each row."""
    pieces = rows.pieces
    inputs = pad_rows(rows, np.arange(len(pieces)), pad_token_id=0)
    real = [
        words(tokenizer, ids[mask == 1])
        for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]
    of_row = pieces.rows(np.arange(len(pieces)))
    return [[real[piece] for piece in np.flatnonzero(of_row == row)] for row in range(len(rows))]


@pytest.mark.parametrize("stride", [0, 1, 5, 13])
@pytest.mark.parametrize("pair", [False, True])
def test_windows_are_those_of_the_tokenizer_but_for_the_last_which_is_full(
    tokenizer: Any, stride: int, pair: bool
) -> None:
    first, stride = "good film" if pair else None, min(stride, 5) if pair else stride
    given = ([first], [TEXT]) if first else ([TEXT],)
    found = shown_windows(tokenizer, encoded(tokenizer, windows(stride), *given))[0]
    expected = tokenizer(
        *(texts[0] for texts in given),
        truncation="only_second" if pair else True,
        max_length=MAX,
        stride=stride,
        return_overflowing_tokens=True,
    )
    theirs = [words(tokenizer, ids) for ids in expected["input_ids"]]
    assert found[:-1] == theirs[:-1]
    assert len(found[-1]) == MAX
    end = theirs[-1][4 if pair else 1 :]  # what comes after the special tokens and the first text
    assert found[-1][-len(end) :] == end


def test_windows_cover_the_text_and_neighbours_share_the_stride(tokenizer: Any) -> None:
    (found,) = shown_windows(tokenizer, encoded(tokenizer, windows(4), [TEXT]))
    texts = [window[1:-1] for window in found]
    assert all(len(text) == 14 and one[0] == "[CLS]" for text, one in zip(texts, found, strict=True))
    joined = texts[0]
    for before, text in pairwise(texts[:-1]):
        assert before[-4:] == text[:4]
        joined = [*joined, *text[4:]]
    assert [*joined, *texts[-1][len(joined) + 14 - 64 :]] == TEXT.split()


def test_rows_that_fit_are_as_they_are(tokenizer: Any) -> None:
    texts = ["good", " ".join(WORDS[:14]), TEXT, "a bad film"]
    plain = encoded(tokenizer, None, texts)
    cut = encoded(tokenizer, windows(4), texts)
    found = shown_windows(tokenizer, cut)
    assert [len(of_row) for of_row in found] == [1, 1, 6, 1]
    inputs = pad_rows(plain, [0, 1, 3], pad_token_id=0)
    pieces = cut.pieces.of_rows(np.array([0, 1, 3]))
    assert all((pad_rows(cut, pieces, pad_token_id=0)[name] == values).all() for name, values in inputs.items())
    assert cut.pieces.weights(pieces).tolist() == [1, 1, 1]  # type: ignore[union-attr]
    assert cut.pieces.weights(cut.pieces.of_rows(np.array([2]))).sum() == pytest.approx(1)  # type: ignore[union-attr]


def test_token_types_and_the_padding_side_go_with_the_windows(tokenizer: Any) -> None:
    rows = encoded(tokenizer, windows(2), ["good film"], [TEXT])
    inputs = pad_rows(rows, np.arange(len(rows.pieces)), pad_token_id=0)
    assert (inputs["token_type_ids"] == [0, 0, 0, 0, *[1] * 12]).all()
    assert (inputs["input_ids"][:, :4] == rows.input_ids[:4]).all()
    short = encoded(tokenizer, windows(2), ["good", TEXT])
    left = EncodedBatch(**{**vars(short), "padding_side": "left"})
    padded = pad_rows(left, [0, 1], pad_token_id=0)
    assert words(tokenizer, padded["input_ids"][0][-3:]) == ["[CLS]", "good", "[SEP]"]
    assert words(tokenizer, padded["input_ids"][1]) == ["[CLS]", *WORDS[:14], "[SEP]"]


def test_of_a_pair_the_first_text_keeps_half_of_the_room_at_most(tokenizer: Any) -> None:
    """16 tokens, 3 of them special: 6 of 13 for the first text, 7 for the second."""
    (found,) = shown_windows(tokenizer, encoded(tokenizer, windows(5), [TEXT], [TEXT]))
    assert all(window[:8] == ["[CLS]", *WORDS[:6], "[SEP]"] for window in found)
    assert found[0][8:] == [*WORDS[:7], "[SEP]"]
    assert found[1][8:11] == WORDS[4:7]  # neighbours share 3 of the 7, less than the stride
    assert found[-1][-2] == "bad"
    # A second text that needs less than its half leaves the rest to the first.
    (whole,) = shown_windows(tokenizer, encoded(tokenizer, windows(5), [TEXT], ["good film"]))
    assert whole == [["[CLS]", *WORDS[:11], "[SEP]", "good", "film", "[SEP]"]]
    # Where the tokenizer cuts on the left, the end of the first text is kept.
    tokenizer.truncation_side = "left"
    try:
        (whole,) = shown_windows(tokenizer, encoded(tokenizer, windows(5), [TEXT], ["good film"]))
    finally:
        tokenizer.truncation_side = "right"
    assert whole == [["[CLS]", *WORDS[5:], "[SEP]", "good", "film", "[SEP]"]]


@pytest.mark.parametrize(("share", "head"), [(0.25, 4), (0.5, 7), (0.01, 1), (0.99, 13)])
def test_head_tail_keeps_both_ends(tokenizer: Any, share: float, head: int) -> None:
    """14 tokens beside the special ones; a quarter of them is 3.5, and Python rounds that to 4."""
    rows = encoded(tokenizer, HeadTail(share), [TEXT, "good film"])
    kept = words(tokenizer, rows.input_ids[: rows.offsets[1]])
    assert kept == ["[CLS]", *TEXT.split()[:head], *TEXT.split()[head - 14 :], "[SEP]"]
    assert rows.true_lengths.tolist() == [66, 4]
    assert words(tokenizer, rows.input_ids[rows.offsets[1] :]) == ["[CLS]", "good", "film", "[SEP]"]


def test_head_tail_of_a_pair_is_about_the_second_text(tokenizer: Any) -> None:
    rows = encoded(tokenizer, HeadTail(0.25), ["good film"], [TEXT])
    assert words(tokenizer, rows.input_ids) == [
        *["[CLS]", "good", "film", "[SEP]"],
        *TEXT.split()[:3],
        *TEXT.split()[-8:],
        "[SEP]",
    ]
    assert rows.token_type_ids.tolist() == [0, 0, 0, 0, *[1] * 12]  # type: ignore[union-attr]
    both = encoded(tokenizer, HeadTail(0.5), [TEXT], [TEXT])
    assert words(tokenizer, both.input_ids) == [
        *["[CLS]", *WORDS[:6], "[SEP]"],
        *TEXT.split()[:4],
        *TEXT.split()[-3:],
        "[SEP]",
    ]


def test_a_stride_that_leaves_no_way_forward_is_refused(tokenizer: Any) -> None:
    assert len(encoded(tokenizer, windows(13), [TEXT]).pieces) == 51
    with pytest.raises(ConfigError, match=r"data.long_texts.windows.stride: 14, and a window of 16 tokens has 14"):
        _ = encoded(tokenizer, windows(14), [TEXT]).pieces
    assert len(encoded(tokenizer, windows(14), ["good film"]).pieces) == 1


def test_lost_tokens_are_counted_for_all_and_by_class() -> None:
    lost = RowLengths(20)
    lost.add(np.array([10, 30]), np.array([10, 20]), np.array([0, 1]))
    lost.add(np.array([40, 20]), np.array([20, 20]), np.array([2, 1]))
    assert lost.lost_share == pytest.approx(30 / 100)
    assert lost.lost_by_class(np.array([1, 0, 1]), ["a", "b"]) == {"a": 10 / 50, "b": 20 / 50}
    sets = np.array([[1, 0], [1, 1], [0, 0]], np.int8)
    assert lost.lost_by_class(sets, ["a", "b"]) == {"a": 10 / 60, "b": 10 / 50}
    whole = RowLengths(20)
    whole.add(np.array([10]), np.array([10]), np.array([0]))
    assert (whole.lost_share, whole.lost_by_class(np.array([0]), ["a"])) == (0, None)
