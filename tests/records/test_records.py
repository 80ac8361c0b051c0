"""The records: to JSON and back without loss, and the fields that files promise."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from finetune_cli.records.evaluation import ClassScore, EvalReport, MetricValue
from finetune_cli.records.plain import as_json
from finetune_cli.records.preparation import Finding, Padding, PrepareReport, SplitReport
from finetune_cli.records.training import EvalRecord, StepRecord, TrainReport

REPORT = EvalReport(
    split="validation",
    n=3,
    loss=0.5,
    metrics={"accuracy": MetricValue(0.75, 0.5, 1.0), "mse": MetricValue(2.0)},
    baseline={"accuracy": 0.5},
    per_class=[ClassScore("yes", 1.0, 0.5, 2 / 3, 2)],
    confusion=[[1, 1], [0, 1]],
)


def test_a_report_comes_back_from_its_json() -> None:
    assert EvalReport.from_json(json.loads(json.dumps(REPORT.to_json()))) == REPORT


def test_a_metric_that_is_not_defined_is_null_in_json() -> None:
    report = EvalReport("test", 2, 0.1, {"pearson": MetricValue(math.nan)}, {})
    text = json.dumps(report.to_json(), allow_nan=False)
    assert json.loads(text)["metrics"]["pearson"] == {"value": None, "low": None, "high": None}
    assert math.isnan(EvalReport.from_json(json.loads(text)).metrics["pearson"].value)


def test_lines_of_the_history_have_the_promised_fields_in_order() -> None:
    step = StepRecord(3, 0.5, 0.7, 1.2, 5e-5, 2.5, 8, 200).to_json()
    assert step == {
        "type": "train",
        "step": 3,
        "epoch": 0.5,
        "loss": 0.7,
        "grad_norm": 1.2,
        "learning_rate": 5e-5,
        "seconds": 2.5,
        "rows": 8,
        "tokens": 200,
    }
    assert next(iter(step)) == "type"
    evaluation = EvalRecord(6, 1.0, "validation", 0.6, {"f1": 0.9}).to_json()
    assert evaluation == {"type": "eval", "step": 6, "epoch": 1.0, "split": "validation", "loss": 0.6, "f1": 0.9}
    best = EvalRecord(6, 1.0, "validation", 0.6, {"f1": 0.9}, best=True).to_json()
    assert best == evaluation


def test_a_metric_reads_as_a_value_with_its_interval() -> None:
    assert str(MetricValue(0.8991, 0.872, 0.9234)) == "0.899 [0.872, 0.923]"
    assert str(MetricValue(0.5)) == "0.500"


def test_the_report_of_a_training_is_json() -> None:
    report = TrainReport(Path("runs/x"), 10, 5, 0, 1.5, 100.0, False, [REPORT])
    value = json.loads(json.dumps(report.to_json()))
    assert (value["run_dir"], value["best_step"]) == ("runs/x", 5)
    assert value["evaluations"] == [json.loads(json.dumps(REPORT.to_json()))]


def test_the_report_on_prepared_rows_comes_back_from_its_json() -> None:
    """Fields that only some reports have are left out of the JSON of the others."""
    finding = Finding("duplicates", "train", "d/train.csv", 1, [3], "1 of 9 rows repeats another", None, "Remove it.")
    split = SplitReport(
        "d/train.csv", "ab12", 9, {"no": 4, "yes": 5}, {"min": 3, "max": 9}, [(9, None, 1)], 1, 1 / 9, 0
    )
    stored = PrepareReport(64, {"train": split}, 0.5, 18.0, [finding])
    document = json.loads(json.dumps(stored.to_json()))
    assert list(document) == ["max_length", "splits", "seconds", "rows_per_second", "findings"]
    assert "labels_per_row" not in document["splits"]["train"]
    assert "level" not in document["findings"][0]
    assert PrepareReport.from_json(document) == stored
    shown = replace(
        stored, key="k", reused=False, padding=Padding(8, 0.3, 0.02), findings=[replace(finding, level="warn")]
    )
    document = shown.to_json()
    assert list(document)[5:] == ["key", "reused", "padding"]
    assert document["padding"] == {"batch_size": 8, "random": 0.3, "length": 0.02}
    assert list(document["findings"][0])[-1] == "level"


def test_records_are_plain_json_whatever_lies_in_them() -> None:
    """A path is text, NaN and infinity are null, a record inside is written as it writes itself."""

    @dataclass(frozen=True)
    class Inner:
        value: float
        note: str | None = None

    @dataclass(frozen=True)
    class Own:
        def to_json(self) -> dict[str, int]:
            return {"own": 1}

    @dataclass(frozen=True)
    class Outer:
        place: Path
        inner: dict[str, Inner]
        several: tuple[Own, ...]
        note: str | None = None

    outer = Outer(Path("runs/x"), {"a": Inner(math.inf), "b": Inner(0.5, "few rows")}, (Own(),))
    assert as_json(outer) == {
        "place": "runs/x",
        "inner": {"a": {"value": None, "note": None}, "b": {"value": 0.5, "note": "few rows"}},
        "several": [{"own": 1}],
        "note": None,
    }
    without = as_json(outer, drop_null=("note",))
    assert (list(without), list(without["inner"]["a"])) == (["place", "inner", "several"], ["value"])


def test_a_loss_that_is_not_a_number_comes_back_as_such() -> None:
    report = EvalReport("test", 2, math.nan, {"f1": MetricValue(math.nan)}, {})
    read = EvalReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))
    assert math.isnan(read.loss)
    assert math.isnan(read.scores["f1"].value)
