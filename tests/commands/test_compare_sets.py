"""finetune compare on predictions of several labels a row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.commands.compare import compare
from finetune_cli.errors import ConfigError, DataError

LABELS = [["a"], [], ["a", "b"], ["c"]] * 10


def rows(wrong: set[int], *, classes: Sequence[str] = ("a", "b", "c")) -> list[dict[str, Any]]:
    """Rows as `evaluate` writes them; the chosen ones lack a label or have one too many."""
    written = []
    for number, label in enumerate(LABELS):
        answer = (label[:-1] or ["b"]) if number in wrong else label
        probabilities = {name: 0.8 if name in answer else 0.3 for name in classes}
        written.append({"id": number, "label": label, "prediction": answer, "probabilities": probabilities})
    return written


def write(path: Path, content: Sequence[Any]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in content), encoding="utf-8")
    return str(path)


def test_rows_are_right_when_all_labels_are(tmp_path: Path) -> None:
    """A has rows 0 to 8 wrong and B row 20; classes and rows come in another order in B."""
    a = write(tmp_path / "a.jsonl", rows(set(range(9))))
    b = write(tmp_path / "b.jsonl", rows({20}, classes=("c", "a", "b"))[::-1])
    report = compare([a, b])
    accuracy = next(one for one in report.comparisons if one.metric == "accuracy")
    assert (accuracy.only_a, accuracy.only_b, accuracy.method) == (1, 9, "mcnemar")
    assert accuracy.p_value == pytest.approx(2 * (1 + 10) / 2**10)
    assert [side.metrics["accuracy"].value for side in report.sides] == [31 / 40, 39 / 40]
    assert list(report.sides[0].metrics) == ["f1_micro", "f1_macro", "accuracy"]
    assert compare([a, b], metrics=["auroc", "hamming_loss"]).comparisons[1].verdict == "better"


def test_a_collapsed_side_is_called_that(tmp_path: Path) -> None:
    nothing = [{**row, "prediction": []} for row in rows(set())]
    report = compare([write(tmp_path / "a.jsonl", rows(set())), write(tmp_path / "b.jsonl", nothing)])
    assert list(report.sides[1].collapsed.values()) == ["no label"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": "a"}, "prediction 'a'; expected a list of class names."),
        ({"prediction": [1]}, "prediction [1]; expected a list of class names."),
        ({"prediction": ["d"]}, "prediction 'd' is none of the classes a, b, c."),
        ({"label": "a"}, "label 'a'; expected a list of class names."),
        ({"label": ["b"]}, "40 rows differ, first id 5 with [] and ['b']"),
    ],
)
def test_rows_that_are_not_of_this_form_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    good, bad = rows(set()), rows(set())
    bad[5] = {**bad[5], **change}
    with pytest.raises(DataError) as caught:
        compare([write(tmp_path / "a.jsonl", good), write(tmp_path / "b.jsonl", bad)])
    assert message in str(caught.value)


def test_one_class_and_several_are_not_compared(tmp_path: Path) -> None:
    single = [{**row, "label": "a", "prediction": "a"} for row in rows(set())]
    with pytest.raises(DataError, match=r"do not answer the same question.*several to a row"):
        compare([write(tmp_path / "a.jsonl", rows(set())), write(tmp_path / "b.jsonl", single)])
    with pytest.raises(ConfigError, match="metric f1: f1 is a metric for classification"):
        compare([write(tmp_path / "a.jsonl", rows(set()))] * 2, metrics=["f1"])
