"""Shares of train: the smaller inside the larger, the classes as in all rows, groups whole, the same each time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetune_cli.data.prepared import PreparedSplit
from finetune_cli.data.shares import nested_order, share_of
from finetune_cli.errors import DataError

SHARES = (0.02, 0.05, 0.1, 0.11, 0.3, 0.5, 0.75, 0.999, 1.0)


def split_with(labels: np.ndarray) -> PreparedSplit:
    """A row has its number as many times as its number's last digit and once more."""
    lengths = np.arange(len(labels)) % 10 + 1
    tokens = np.repeat(np.arange(len(labels), dtype=np.int32), lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return PreparedSplit(
        tokens, offsets, tokens.astype(np.int8), name="train", labels=labels, ids=list(range(len(labels)))
    )


def labels_of(kind: str, generator: np.random.Generator, rows: int) -> np.ndarray:
    if kind == "classes":
        return generator.choice(5, rows, p=[0.6, 0.3, 0.08, 0.01, 0.01])
    if kind == "sets":
        return (generator.random((rows, 4)) < [0.5, 0.3, 0.1, 0.01]).astype(np.int8)
    return generator.random(rows).astype(np.float32)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", ["classes", "sets", "numbers"])
def test_the_smaller_share_is_inside_the_larger(kind: str, grouped: bool) -> None:
    for seed in range(8):
        generator = np.random.default_rng(seed)
        rows = int(generator.integers(300, 700))
        train = split_with(labels_of(kind, generator, rows))
        groups = generator.integers(0, 40, rows) if grouped else None
        before: set[int] = set()
        for share in SHARES:
            chosen = share_of(train, share, seed=seed, groups=groups)
            ids = list(chosen.ids)
            assert ids == sorted(ids)  # in the order of the data
            assert before <= set(ids)
            assert ids == list(share_of(train, share, seed=seed, groups=groups).ids)  # the same each time
            before = set(ids)
            if groups is None:
                assert len(ids) == round(share * rows)
            else:
                assert len(ids) >= round(share * rows)
                assert not set(groups[ids]) & set(np.delete(groups, ids))  # none is torn apart
        assert before == set(range(rows))
        if grouped:
            assert share_of(train, 0.3, seed=seed).ids != share_of(train, 0.3, seed=seed + 1).ids


def test_a_share_has_the_classes_as_all_rows_have_them_and_each_of_them_once() -> None:
    labels = labels_of("classes", np.random.default_rng(5), 2000)
    train = split_with(labels)
    for share in (0.05, 0.2, 0.5):
        counts = np.bincount(share_of(train, share, seed=3).known_labels(), minlength=5)
        assert np.abs(counts - share * np.bincount(labels)).max() <= 2
    assert np.bincount(share_of(train, 5 / 2000, seed=3).known_labels()).tolist() == [1] * 5


def test_no_label_of_several_is_missing_from_a_share() -> None:
    generator = np.random.default_rng(1)
    labels = (generator.random((500, 6)) < [0.5, 0.4, 0.3, 0.2, 0.004, 0.004]).astype(np.int8)
    assert labels.any(axis=0).all()
    assert share_of(split_with(labels), 0.02, seed=0).known_labels().any(axis=0).all()


def test_the_rows_of_a_share_are_those_of_train() -> None:
    train = split_with(np.arange(40) % 2)
    chosen = share_of(train, 0.25, seed=0)
    assert chosen.num_rows == 10
    assert chosen.token_type_ids is not None
    for place, row in enumerate(chosen.ids):
        assert chosen.tokens(place).tolist() == train.tokens(row).tolist()
        assert chosen.known_labels()[place] == row % 2
    assert chosen.token_type_ids.tolist() == chosen.input_ids.tolist()
    assert share_of(train, 1.0, seed=0) is train


@pytest.mark.parametrize(
    ("labels", "share", "message"),
    [
        (
            np.arange(100) % 5,
            0.03,
            r"data.share 0.03 is 3 of the 100 rows of train, and each of the 5 classes needs one",
        ),
        (np.zeros(100, np.float32), 0.004, r"0 of the 100 rows of train, and it needs one. Take 0.01 or more"),
        (np.eye(4, dtype=np.int8)[np.arange(100) % 4], 0.02, r"each of the 4 classes needs one. Take 0.04 or more"),
    ],
)
def test_a_share_with_fewer_rows_than_classes_is_refused(labels: Any, share: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        share_of(split_with(labels), share, seed=0)
    needed = float(message.split()[-3]) if "Take" in message else 0.05
    assert share_of(split_with(labels), needed, seed=0).num_rows >= 1


def test_the_first_rows_of_groups_hold_every_class() -> None:
    labels = np.repeat([0, 0, 0, 0, 0, 0, 0, 1], 10)  # one group alone has class 1
    groups = np.repeat(np.arange(8), 10)
    for seed in range(20):
        order, least = nested_order(labels, seed=seed, groups=groups)
        assert least == 2
        assert set(labels[order[:20]]) == {0, 1}
