"""The label column: which classes it shows, which number each row gets, and what is refused."""

import math

import numpy as np
import pytest

from finetune_cli.data.labels import ClassLabels, NumberLabels
from finetune_cli.errors import DataError


def collected(values, where="train.csv") -> tuple[ClassLabels, list[int]]:
    labels = ClassLabels(where, "label")
    return labels, [labels.add(row, value) for row, value in enumerate(values)]


def numbers_of(values, names, *, test=False) -> list[int] | None:
    labels, codes = collected(values)
    numbers = labels.numbers(names, may_be_unlabelled=test)
    return None if numbers is None else numbers[codes].tolist()


@pytest.mark.parametrize(
    ("values", "names", "numbers"),
    [
        ([1, 0, 1], ("0", "1"), [1, 0, 1]),
        (["b", "a"], ("a", "b"), [1, 0]),
        (["c10", "c2", "c1"], ("c1", "c2", "c10"), [2, 1, 0]),
        ([10, 2, 1], ("1", "2", "10"), [2, 1, 0]),
        (["0", "1"], ("0", "1"), [0, 1]),
        (["0.0", "1.0"], ("0", "1"), [0, 1]),
        ([0.0, 1.0], ("0", "1"), [0, 1]),
        ([0, 1.0, 1], ("0", "1"), [0, 1, 1]),
        ([True, False], ("False", "True"), [1, 0]),
        (["True", "False"], ("False", "True"), [1, 0]),
        (["001", "010", "100"], ("001", "010", "100"), [0, 1, 2]),
        (["null", "NA", "None"], ("NA", "None", "null"), [2, 0, 1]),
        (["雪", "ü"], ("ü", "雪"), [1, 0]),
        ([1, 5, 3], ("1", "3", "5"), [0, 2, 1]),
        ([10**20, 0], ("0", str(10**20)), [1, 0]),
    ],
)
def test_class_names_are_found_in_natural_order_and_number_their_rows(values, names, numbers):
    labels, codes = collected(values)
    assert labels.names() == names
    assert labels.numbers(names, may_be_unlabelled=False)[codes].tolist() == numbers


@pytest.mark.parametrize(
    ("values", "names", "expected"),
    [
        ([0, 1, 1], ("negative", "positive"), [0, 1, 1]),
        (["0", "1.0"], ("negative", "positive"), [0, 1]),
        (["positive", "negative"], ("negative", "positive"), [1, 0]),
        ([False, True], ("negative", "positive"), [0, 1]),
        ([1, 5], ("1", "2", "3", "4", "5"), [0, 4]),  # named by numbers: 1 is the class "1", not the second
        ([-1, 1, 0], ("-1", "0", "1"), [0, 2, 1]),
        (["01", "1"], ("01", "1"), [0, 1]),
    ],
)
def test_given_names_are_matched_by_name_or_indexed(values, names, expected):
    assert numbers_of(values, names) == expected


BAD_CLASSES = [
    ([0, "one"], "labels of different kinds: 'one' (row 2) and 0 (row 1)"),
    (["0", "one"], "labels of different kinds: '0' (row 1) and 'one' (row 2)"),
    ([True, 1, 0], "labels of different kinds"),
    (["a", "a", "a"], "one class only ('a') in all rows"),
    (["a", None, "b"], "found no label in row 2"),
    (["a", "", "b"], "found no label in row 2"),
    (["a", math.nan, "b"], "found no label in row 2"),
    ([None, None], "found no label in all 2 rows"),
    ([-1, -1], "label -1 in rows 1, 2; negative numbers mark rows without a label"),
    ([0, 1, -100], "label -100 in row 3"),
    ([0.5, 1.0], "label 0.5 in row 1 is not a whole number. For values to predict, set task: regression"),
]


@pytest.mark.parametrize(("values", "message"), BAD_CLASSES)
def test_labels_of_train_that_are_refused(values, message):
    with pytest.raises(DataError) as caught:
        collected(values)[0].names()
    assert str(caught.value).startswith("train.csv, column 'label': ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["positive", "postive"],
            "unknown label 'postive' in row 2. The classes are: negative, positive. Did you mean 'positive'?",
        ),
        ([" positive"], "Did you mean 'positive'?"),
        ([0, 1, 2, 2], "unknown label 2 in rows 3, 4"),
        ([0, -100], "unknown label -100 in row 2"),
        ([0, 10**20], f"unknown label {10**20}"),
        ([2] * 9, "rows 1, 2, 3, 4, 5 ... (9 in all)"),
        (["x", "y"], "(1 more unknown labels, such as 'y')"),
        ([0, -1, 1], "found -1, which marks a row without a label, in row 2"),
        ([-1, -1], "found -1, which marks a row without a label, in all 2 rows"),
    ],
)
def test_labels_that_no_class_has(values, message):
    with pytest.raises(DataError) as caught:
        numbers_of(values, ("negative", "positive"))
    assert message in str(caught.value)


def test_a_gap_in_the_numbers_of_train_does_not_move_classes():
    with pytest.raises(DataError, match="unknown label 2"):
        numbers_of([2], ("0", "1", "3"))
    assert numbers_of([3], ("0", "1", "3")) == [2]


@pytest.mark.parametrize("values", [[-1, -1], ["-1", "-1"], [-1.0], [None, None], ["", ""]])
def test_a_test_split_may_be_unlabelled_as_a_whole(values):
    assert numbers_of(values, ("a", "b"), test=True) is None


def test_a_test_split_labelled_in_part_is_refused_with_its_rows():
    with pytest.raises(DataError, match="in rows 2, 3"):
        numbers_of([0, -1, -1], ("a", "b"), test=True)


def test_label_values_that_are_no_labels_at_all():
    for value in ([1, 0], {"a": 1}, b"x"):
        with pytest.raises(DataError, match="expected a class name or number, found"):
            collected([value])


def test_a_text_column_named_as_label_is_noticed():
    with pytest.raises(DataError, match="more than 10,000 different values"):
        collected(f"sentence {number}" for number in range(10_001))


def test_counts_go_by_class():
    labels, _ = collected(["b", "a", "b"])
    names = ("a", "b", "c")
    assert labels.counts(labels.numbers(names, may_be_unlabelled=False), names) == {"a": 1, "b": 2, "c": 0}


def read_numbers(values, *, test=False) -> tuple[list[float], bool]:
    labels = NumberLabels("train.csv", "score")
    read = [labels.add(row, value) for row, value in enumerate(values)]
    return read, labels.check(may_be_unlabelled=test)


def test_regression_takes_numbers_and_their_texts():
    assert read_numbers([0, 2.5, "3.75", "-1e-3", -1]) == ([0.0, 2.5, 3.75, -0.001, -1.0], True)


@pytest.mark.parametrize("value", ["nan", "inf", math.inf, "1_0", "five", True, [1.0], 1e300, 10**400])
def test_regression_refuses_what_is_no_finite_number(value):
    with pytest.raises(DataError, match=r"expected a finite number, found .* in row 2"):
        read_numbers([1.0, value])


def test_regression_with_missing_values():
    for missing in (None, "", math.nan):
        with pytest.raises(DataError, match="found none in row 2"):
            read_numbers([1.0, missing])
    assert read_numbers([None, None], test=True)[1] is False
    assert read_numbers([-1.0, -1.0], test=True)[1] is False
    assert np.isnan(read_numbers([None], test=True)[0][0])
