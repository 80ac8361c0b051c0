"""TF-IDF with logistic regression on the tokens of the rows that a model was trained on."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from finetune_cli.data.prepared import PreparedSplit
from finetune_cli.evaluation import text_baseline
from finetune_cli.evaluation.text_baseline import fit_text_baseline
from finetune_cli.tasks import Kind

CLS, SEP = 1, 2


def split(texts: list[Any], labels: Any, *, types: bool = True) -> PreparedSplit:
    """Rows of one text (a list of ids) or of two (a pair of such lists), as a BERT encodes them."""
    rows, of_rows = [], []
    for text in texts:
        first, second = text if isinstance(text, tuple) else (text, None)
        row = [CLS, *first, SEP, *([] if second is None else [*second, SEP])]
        rows.append(row)
        of_rows.append([int(place > len(first) + 1) for place in range(len(row))])
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    ids = np.concatenate(rows).astype(np.int32)
    return PreparedSplit(
        ids,
        offsets,
        np.concatenate(of_rows).astype(np.int8) if types else None,
        name="x",
        labels=np.asarray(labels),
        ids=range(len(rows)),
    )


def words(count: int, seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(10, 60, generator.integers(3, 12)).tolist() for _ in range(count)]


def fitted(train: PreparedSplit, rows: PreparedSplit, kind: Kind, num_classes: int, *, pair: bool = False) -> Any:
    found = fit_text_baseline(train, train.known_labels(), rows, kind=kind, num_classes=num_classes, pair=pair, seed=0)
    assert found is not None
    return found


@pytest.mark.parametrize("classes", [2, 4])
def test_telling_words_are_found_and_probabilities_sum_to_1(classes: int) -> None:
    labels = np.arange(300) % classes
    texts = [[*text, 70 + label] for text, label in zip(words(300), labels, strict=True)]
    found = fitted(split(texts[:200], labels[:200]), split(texts[200:], labels[200:]), "classification", classes)
    assert (found.scores.argmax(axis=1) == labels[200:]).mean() > 0.95
    assert np.allclose(found.scores.sum(axis=1), 1)
    assert found.num_rows == 200


def test_a_class_that_no_train_row_has_gets_no_probability() -> None:
    labels = np.arange(60) % 2
    found = fitted(split(words(60), labels), split(words(5, 1), labels[:5]), "classification", 3)
    assert found.scores.shape == (5, 3)
    assert (found.scores[:, 2] == 0).all()


@pytest.mark.parametrize("types", [True, False])
def test_of_two_texts_it_sees_what_they_have_in_common(types: bool) -> None:
    """Equal or not: no word alone tells it. Without token types the separator says where the second one begins."""
    first, other = words(400), words(400, 1)
    labels = np.arange(400) % 2
    texts = [(a, a[::-1] if label else b) for a, b, label in zip(first, other, labels, strict=True)]
    train, rows = split(texts[:300], labels[:300], types=types), split(texts[300:], labels[300:], types=types)
    assert (fitted(train, rows, "classification", 2, pair=True).scores.argmax(axis=1) == labels[300:]).mean() > 0.95


def test_the_order_of_two_neighbours_tells() -> None:
    labels = np.arange(400) % 2
    texts = [[*text, *((70, 71) if label else (71, 70))] for text, label in zip(words(400), labels, strict=True)]
    found = fitted(split(texts[:300], labels[:300]), split(texts[300:], labels[300:]), "classification", 2)
    assert (found.scores.argmax(axis=1) == labels[300:]).mean() > 0.95


def test_several_labels_a_row_have_a_probability_each() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (300, 3)).astype(np.int8)
    labels[:, 2] = 1  # nothing to learn: every row has it
    texts = [[*text, *(70 + np.flatnonzero(row))] for text, row in zip(words(300), labels, strict=True)]
    found = fitted(split(texts[:200], labels[:200]), split(texts[200:], labels[200:]), "multilabel", 3)
    assert ((found.scores >= 0.5) == labels[200:]).mean() > 0.95
    assert (found.scores[:, 2] == 1).all()


def test_numbers_are_predicted_by_ridge_regression() -> None:
    texts = words(400)
    numbers = np.array([sum(word > 35 for word in text) / len(text) for text in texts], np.float32)
    found = fitted(split(texts[:300], numbers[:300]), split(texts[300:], numbers[300:]), "regression", 0)
    assert np.corrcoef(found.scores, numbers[300:])[0, 1] > 0.7


def test_where_all_rows_are_labelled_alike_there_is_no_baseline() -> None:
    rows = split(words(9), [1] * 9)
    assert (
        fit_text_baseline(rows, rows.known_labels(), rows, kind="classification", num_classes=2, pair=False, seed=0)
        is None
    )


def test_of_many_rows_some_are_drawn_and_the_same_seed_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_baseline, "MAX_ROWS", 50)
    labels = np.arange(120) % 2
    train = split(words(120), labels)
    first, again = fitted(train, train, "classification", 2), fitted(train, train, "classification", 2)
    assert first.num_rows == 50
    assert np.array_equal(first.scores, again.scores)


@pytest.mark.parametrize(("kind", "classes"), [("classification", 2), ("classification", 3), ("regression", 0)])
def test_rows_scored_in_parts_have_the_same_scores(monkeypatch: pytest.MonkeyPatch, kind: Kind, classes: int) -> None:
    labels = np.arange(60) % 3 if classes == 3 else np.arange(60) % 2
    train, rows = split(words(60), labels), split(words(23, 1), labels[:23])
    whole = fitted(train, rows, kind, classes).scores
    monkeypatch.setattr(text_baseline, "ROWS_AT_ONCE", 10)
    assert np.allclose(fitted(train, rows, kind, classes).scores, whole, rtol=0, atol=1e-12)


def test_scikit_learn_is_imported_when_a_baseline_is_fitted_and_not_before() -> None:
    code = "import sys, finetune_cli.runs.scoring, finetune_cli.runs.text_baseline; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
