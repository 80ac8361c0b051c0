"""Which fold each row is tested in: each row once, strata in equal shares, groups whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_cli.data.folds import Folds, draw_folds, fold_sources, folds_of_rows
from finetune_cli.data.formats.row import good_rows
from finetune_cli.data.source_files import file_source
from finetune_cli.data.strata import Strata
from finetune_cli.errors import DataError


def strata(codes: list[int], groups: list[int] | None = None) -> Strata:
    names = tuple(f"class {code}" for code in range(max(codes) + 1))
    return Strata(np.arange(len(codes)), np.array(codes, np.int32), names, groups and np.array(groups))


@st.composite
def classes_and_n(draw: st.DrawFn) -> tuple[list[int], int]:
    n = draw(st.integers(2, 6))
    counts = draw(st.lists(st.integers(n, 25), min_size=1, max_size=4))
    codes = [code for code, count in enumerate(counts) for _ in range(count)]
    return draw(st.permutations(codes)), n


@settings(deadline=None, max_examples=60)
@given(classes_and_n(), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_folds_have_equal_shares_of_the_rows_and_of_each_class(
    case: tuple[list[int], int], seed: int, repeat: int
) -> None:
    codes, n = case
    found = draw_folds(strata(codes, None), n, seed=seed, repeat=repeat, where="rows")
    assert found.min() >= 0
    assert found.max() < n
    for members in (found, *(found[np.array(codes) == code] for code in set(codes))):
        sizes = np.bincount(members, minlength=n)
        assert sizes.max() - sizes.min() <= 1
        assert sizes.min() >= 1
    again = draw_folds(strata(codes, None), n, seed=seed, repeat=repeat, where="rows")
    assert (again == found).all()


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(2, 5), st.integers(0, 99))
def test_groups_stay_whole_and_no_fold_is_empty(data: st.DataObject, n: int, seed: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=n, max_size=20))
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    rows = Strata(np.arange(len(groups)), np.zeros(len(groups), np.int32), None, np.array(groups))
    found = draw_folds(rows, n, seed=seed, repeat=0, where="rows")
    assert all(len(set(found[np.array(groups) == group])) == 1 for group in set(groups))
    assert set(found) == set(range(n))
    filled = np.bincount(found)
    assert filled.max() - filled.min() <= max(sizes)  # the smallest fold would have taken the last group


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(2, 4), st.integers(0, 99))
def test_groups_of_several_classes_stay_whole_and_each_class_is_in_two_folds(
    data: st.DataObject, n: int, seed: int
) -> None:
    """So that every model has rows of every class to learn from; else the rows are refused."""
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=n, max_size=12))
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    codes = [0, 1] + [data.draw(st.integers(0, 1)) for _ in groups[2:]] if len(groups) > 1 else [0]
    try:
        found = draw_folds(strata(codes, groups), n, seed=seed, repeat=0, where="rows")
    except DataError:  # a class whose rows are all in one group, or in groups of one fold
        return
    assert len(found) == len(groups)
    assert set(found) <= set(range(n))
    assert all(len(set(found[np.array(groups) == group])) == 1 for group in set(groups))
    assert all(len(set(found[np.array(codes) == code])) > 1 for code in set(codes))


def test_rows_are_dealt_as_cards_are() -> None:
    """By hand: rows in the drawn order, one class after the other, each to the next fold."""
    codes = [0, 1, 1, 0, 1, 1, 0]
    drawn = np.random.default_rng([5, 1]).permutation(7).tolist()
    expected, turn = [0] * 7, 0
    for code in (0, 1):
        for row in drawn:
            if codes[row] == code:
                expected[row] = turn % 3
                turn += 1
    assert draw_folds(strata(codes), 3, seed=5, repeat=1, where="rows").tolist() == expected


def test_groups_give_each_class_to_all_folds_where_they_can() -> None:
    groups = [group for group in range(12) for _ in range(4)]
    codes = [group % 3 for group in groups]
    found = draw_folds(strata(codes, groups), 4, seed=1, repeat=0, where="rows")
    for code in range(3):
        assert np.bincount(found[np.array(codes) == code], minlength=4).tolist() == [4, 4, 4, 4]


def test_another_seed_or_repeat_deals_anew() -> None:
    rows = strata([0, 1] * 20, None)
    deals = [
        draw_folds(rows, 5, seed=seed, repeat=repeat, where="rows").tolist()
        for seed, repeat in ((0, 0), (1, 0), (0, 1))
    ]
    assert len({tuple(deal) for deal in deals}) == 3


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(source: Any) -> list[int]:
    return [row for row, _ in good_rows(source.open(None))]


def test_each_row_of_a_small_file_is_tested_once_and_trained_on_by_all_other_folds(tmp_path: Path) -> None:
    source = file_source(write(tmp_path / "a.jsonl", [{"text": f"t{i}", "label": i % 2} for i in range(11)]))
    tested: list[int] = []
    for fold in (1, 2, 3):
        parts = fold_sources(source, Folds(3, 1, None, 0, fold), label="label", kind="classification", limit=None)
        assert sorted(rows_of(parts["train"]) + rows_of(parts["validation"])) == list(range(11))
        assert rows_of(parts["validation"]) == sorted(rows_of(parts["validation"]))
        assert parts["train"].fingerprint != parts["validation"].fingerprint
        tested += rows_of(parts["validation"])
    assert sorted(tested) == list(range(11))
    both = fold_sources(source, Folds(3, 1, None, 0, None), label="label", kind="classification", limit=None)
    assert rows_of(both["train"]) == rows_of(both["validation"]) == list(range(11))
    first = fold_sources(source, Folds(3, 1, None, 0, 1), label="label", kind="classification", limit=7)
    assert sorted(rows_of(first["train"]) + rows_of(first["validation"])) == list(range(7))


def test_sets_of_labels_are_strata_and_rare_ones_count_as_one(tmp_path: Path) -> None:
    sets = [["a"] if i % 2 else ["a", "b"] for i in range(12)] + [["b"], []]
    rows = [{"text": "x", "label": labels} for labels in sets]
    source = file_source(write(tmp_path / "a.jsonl", rows))
    found = folds_of_rows(source, Folds(3, 1, None, 0, 1), label="label", kind="multilabel")
    for parity in (0, 1):
        assert np.bincount(found[parity:12:2]).tolist() == [2, 2, 2]
    numbers = file_source(write(tmp_path / "n.jsonl", [{"label": i / 10} for i in range(10)]))
    dealt = folds_of_rows(numbers, Folds(5, 1, None, 0, 1), label="label", kind="regression")
    assert np.bincount(dealt).tolist() == [2] * 5


@pytest.mark.parametrize(
    ("rows", "folds", "message"),
    [
        ([{"label": "a"}] * 3, Folds(5, 1, None, 0, 1), "has 3 rows, too few for 5 folds"),
        (
            [{"label": "a"}] * 9 + [{"label": "b"}] * 2,
            Folds(3, 1, None, 0, 1),
            "class 'b' has 2 rows, too few for 3 folds.*Lower data.folds to 2",
        ),
        (
            [{"label": "a", "who": 1}] * 9,
            Folds(2, 1, "person", 0, 1),
            "the column 'person'; found 'label', 'who'",
        ),
        (
            [{"label": "a", "who": i % 2} for i in range(9)],
            Folds(3, 1, "who", 0, 1),
            "has 2 groups, too few for 3 folds",
        ),
        ([{"label": "a", "who": None}] * 9, Folds(3, 1, "who", 0, 1), "found None in row 1"),
        ([{"label": "a", "who": ""}] * 9, Folds(3, 1, "who", 0, 1), "found '' in row 1"),
        (
            [{"label": "b" if i == 4 else "a", "who": i % 5} for i in range(5)],
            Folds(3, 1, "who", 0, 1),
            "all rows of class 'b' are in fold",
        ),
    ],
)
def test_rows_that_cannot_be_dealt_out_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], folds: Folds, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        folds_of_rows(file_source(write(tmp_path / "a.jsonl", rows)), folds, label="label", kind="classification")
