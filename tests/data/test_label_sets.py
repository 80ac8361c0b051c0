"""Several labels a row: what cells are read as, what is refused, and how rows are drawn for a validation split."""

import math
from typing import Any

import numpy as np
import pytest

from finetune_cli.data.fractions import carve
from finetune_cli.data.label_cells import joined_names
from finetune_cli.data.label_sets import Column, LabelSets, named_label, set_in_words, set_numbers
from finetune_cli.data.source_files import Source
from finetune_cli.errors import DataError


def read(*cells: Any, column: Column = "tags", names: Any = None, may_be_unlabelled: bool = False) -> Any:
    """The names of each row's labels; None for a split without labels."""
    labels = LabelSets("d.jsonl", column)
    codes = [labels.add(row, cell) for row, cell in enumerate(cells)]
    names = labels.names() if names is None else names
    numbers = labels.numbers(names, may_be_unlabelled=may_be_unlabelled)
    return None if numbers is None else [named_label(numbers[code], names) for code in codes]


def test_a_list_a_joined_text_and_a_json_text_are_the_same_labels() -> None:
    found = read(["b", "a"], "b|a", " a | b ", '["a", "b"]', [], "", "  ", "c")
    assert found == [["a", "b"]] * 4 + [[], [], [], ["c"]]


def test_classes_are_sorted_naturally_and_numbers_are_names_or_places() -> None:
    labels = LabelSets("d", "tags")
    for row in range(12):
        labels.add(row, [f"t{row}", "t12"])
    assert labels.names() == tuple(f"t{number}" for number in range(13))
    assert read([3, 1], [10], []) == [["1", "3"], ["10"], []]
    assert read([1], [0, 1], names=("no", "yes")) == [["yes"], ["no", "yes"]]


def test_columns_with_0_and_1_are_classes_in_their_order() -> None:
    rows = [[1, "0"], [True, False], ["0.0", 1.0], ["True", "false"], [0, 0]]
    assert read(*rows, column=("z", "a")) == [["z"], ["z"], ["a"], ["z"], []]


def test_counts_are_by_class_and_by_row() -> None:
    labels = LabelSets("d", "tags")
    for row, cell in enumerate([["a", "b"], ["a"], [], ["b", "a"], []]):
        labels.add(row, cell)
    numbers = labels.numbers(("a", "b", "c"), may_be_unlabelled=False)
    assert numbers is not None
    assert numbers.dtype == np.int8
    assert labels.counts(numbers, ("a", "b", "c")) == {"a": 3, "b": 2, "c": 0}
    assert labels.labels_per_row(numbers) == {"0": 2, "1": 1, "2": 2}


@pytest.mark.parametrize(
    ("cells", "options", "problem"),
    [
        ([["a"], ["b", "d"]], {"names": ("a", "b")}, "unknown label 'd' in row 2. The classes are: a, b."),
        ([["a"], 3], {}, "expected a list of class names, found int 3 in row 2."),
        ([["a"], {"b": 1}], {}, "expected a list of class names, found dict {'b': 1} in row 2."),
        ([["a"], ["b", None]], {}, "found None in the list of row 2."),
        ([["a"], ["b", 0.5]], {}, "found 0.5 in the list of row 2."),
        ([["a"], "b||c"], {}, "found '' in the list of row 2."),
        ([["a"], "[b, c"], {}, "expected class names such as a|b or"),
        ([["a"], None, ["b"]], {}, "expected labels in each row, found null in row 2. Label or remove them; a row"),
        ([["a"], ["a"]], {}, "one class only ('a')"),
        ([[], [], ""], {}, "no row has a label. Is data.label the right column?"),
        ([[1, 0], [2, 0]], {"column": ("x", "y")}, "d.jsonl, column 'x': expected 0 or 1, found 2 in row 2."),
        ([[1, 0], [0, "yes"]], {"column": ("x", "y")}, "column 'y': expected 0 or 1, found 'yes' in row 2."),
        ([[1, 0], [0, None]], {"column": ("x", "y")}, "column 'y': expected 0 or 1, found None in row 2."),
        ([[1, 0], [-1, -1]], {"column": ("x", "y")}, "columns x, y: expected labels in each row, found null in row 2"),
        ([[1, 0]], {"column": ("x", "y"), "names": ("a", "y")}, "'x' is none of the classes a, y."),
    ],
)
def test_what_is_no_set_of_labels_is_refused_with_its_row(cells: Any, options: Any, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        read(*cells, **options)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "column"), [([None, math.nan], "tags"), (["", ""], "tags"), ([[-1, -1], ["", None]], ("x", "y"))]
)
def test_a_test_split_may_be_without_labels(cells: Any, column: Column) -> None:
    assert read(*cells, column=column, names=("x", "y"), may_be_unlabelled=True) is None


def test_equal_sets_have_equal_numbers() -> None:
    sets = np.random.default_rng(0).integers(0, 2, (200, 11))
    firsts, numbers, counts = set_numbers(sets)
    assert len(firsts) == len({tuple(row) for row in sets})
    assert np.array_equal(sets[firsts][numbers], sets)
    assert np.array_equal(np.bincount(numbers), counts)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b c"], ["a|b", "c"], ["[a", "b"], [" a", "b"]])
def test_joined_names_are_read_as_the_same_labels(names: list[str]) -> None:
    assert read(joined_names(names), ["x", "y"])[0] == sorted(names)


def test_a_set_in_words() -> None:
    assert set_in_words(np.array([1, 0, 1]), ("a", "b", "c")) == "a, c"
    assert set_in_words(np.zeros(3), ("a", "b", "c")) == "no label"


def test_a_part_of_train_has_its_share_of_each_set_and_of_the_rare_ones_together() -> None:
    cells = [["a"]] * 100 + [["a", "b"]] * 50 + [[f"rare {number}"] for number in range(40)]
    train = Source("d", "d", lambda columns: ((row, {"tags": cell}) for row, cell in enumerate(cells)))

    def part(seed: int) -> list[Any]:
        parts = carve(train, {"validation": 0.1}, label="tags", kind="multilabel", seed=seed)
        assert sum(1 for _ in parts["train"].open(None)) == 171
        return [values["tags"] for _, values in parts["validation"].open(None)]  # type: ignore[misc]

    drawn = part(1)
    assert (drawn.count(["a"]), drawn.count(["a", "b"]), len(drawn)) == (10, 5, 19)
    assert part(1) == drawn != part(2)
