"""What a run leaves on disk: every file and field that is promised, and a config that repeats the run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.commands.prepare import prepare
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, GateFailedError
from finetune_cli.models.files import weights_fingerprint
from finetune_cli.runs.session import run_differences
from tests.commands.run_files import Answer, Trained, history, read_jsonl, same_weights, saved_scores

SHA256 = re.compile(r"[0-9a-f]{64}")


def test_the_directory_holds_what_is_promised_and_nothing_else(learned: Callable[..., Trained]) -> None:
    run = learned("sst2").run.path
    names = {"config.yaml", "run.json", "run.lock", "run.log", "history.jsonl", "checkpoints", "model", "eval"}
    assert {path.name for path in run.iterdir()} == names
    assert {path.name for path in (run / "eval" / "validation").iterdir()} == {
        "candidates.npz",
        "metrics.json",
        "predictions.jsonl",
        "report.html",
        "report.md",
    }
    assert {path.name for path in (run / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    best = json.loads((run / "run.json").read_text())["best_step"]
    kept = {path.name for path in (run / "checkpoints").iterdir()}
    assert {f"step-{best:06d}", "step-000060"} <= kept
    assert all(re.fullmatch(r"step-\d{6}", name) for name in kept)
    assert all((run / "checkpoints" / name / "manifest.json").is_file() for name in kept)


def test_the_record_says_what_ran_on_what_and_how_it_went(learned: Callable[..., Trained], tiny_bert: Path) -> None:
    trained = learned("sst2")
    record = json.loads(trained.run.record.read_text())
    assert (record["status"], record["exit_code"], record["seed"], record["processes"]) == ("finished", 0, 42, 1)
    assert record["command"].startswith("finetune")
    assert {"finetune-cli", "python", "torch", "transformers", "accelerate", "tokenizers", "numpy"} <= set(
        record["versions"]
    )
    assert record["devices"] == ["cpu"]
    assert record["precision"] in ("fp32", "bf16")
    assert SHA256.fullmatch(record["fingerprints"]["data"])
    assert record["fingerprints"]["model"] == weights_fingerprint(tiny_bert)
    assert record["git_commit"] is None or re.fullmatch(r"[0-9a-f]{40}", record["git_commit"])
    assert 0 < record["training_seconds"] <= record["seconds"] < 600
    assert record["rows_per_second"] == pytest.approx(960 / record["training_seconds"])
    assert record["peak_memory_bytes"] > 50e6
    assert (record["steps"], record["resumed_from"]) == (120, 0)


def test_the_fingerprint_of_a_model_follows_its_weights(tmp_path: Path, tiny_bert: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny_bert / name).read_bytes())
    before = weights_fingerprint(tmp_path)
    assert before == weights_fingerprint(tiny_bert)
    changed = bytearray((tmp_path / "model.safetensors").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(changed)
    assert weights_fingerprint(tmp_path) != before


def test_history_has_one_line_per_update_and_per_evaluation(learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    lines = read_jsonl(trained.run.history)
    updates = [line for line in lines if line["type"] == "train"]
    evaluations = [line for line in lines if line["type"] == "eval"]
    assert [line["step"] for line in updates] == list(range(1, 121))
    assert [line["step"] for line in evaluations] == [60, 120]
    keys = ["type", "step", "epoch", "loss", "grad_norm", "learning_rate", "seconds", "rows", "tokens"]
    assert all(list(line) == keys for line in updates)
    assert all(list(line) == ["type", "step", "epoch", "split", "loss", "accuracy", "f1"] for line in evaluations)
    assert [line["learning_rate"] for line in updates] == pytest.approx([5e-3 * (1 - n / 120) for n in range(120)])
    assert [line["epoch"] for line in updates] == pytest.approx([step / 6 for step in range(1, 121)])
    seconds = [line["seconds"] for line in updates]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_each_epoch_sees_each_row_and_token_once(learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    updates = history(trained.run.path, "train")
    prepared = prepare(trained.config)
    for epoch in range(20):
        lines = updates[epoch * 6 : epoch * 6 + 6]
        assert sum(line["rows"] for line in lines) == 48
        assert sum(line["tokens"] for line in lines) == prepared.splits["train"].lengths.sum()


def test_metrics_have_values_inside_their_intervals(learned: Callable[..., Trained]) -> None:
    scores = saved_scores(learned("sst2").run.path)
    assert {"split", "n", "loss", "metrics"} <= set(scores)
    assert (scores["split"], scores["n"]) == ("validation", 12)
    assert set(scores["metrics"]) == {"accuracy", "f1"}
    for metric in scores["metrics"].values():
        assert list(metric) == ["value", "low", "high", "corrected"]
        corrected = metric["corrected"]
        assert list(corrected) == ["value", "low", "high", "candidates"]
        for score in (metric, corrected):
            assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1


def test_predictions_are_one_per_row_in_the_order_of_the_data(learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    data = read_jsonl(Path(trained.config.data.path) / "validation.jsonl")
    rows = read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")
    assert [row["id"] for row in rows] == [row["idx"] for row in data]
    assert [row["label"] for row in rows] == [("negative", "positive")[row["label"]] for row in data]
    for row in rows:
        assert list(row) == ["id", "label", "prediction", "probabilities"]
        assert list(row["probabilities"]) == ["negative", "positive"]
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["prediction"] == max(row["probabilities"], key=row["probabilities"].get)


def test_the_model_card_has_front_matter_that_says_base_and_scores(learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    _, front, body = (trained.run.model / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card: dict[str, Any] = yaml.safe_load(front)
    assert (card["library_name"], card["pipeline_tag"]) == ("transformers", "text-classification")
    [result] = card["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        name: round(metric["value"], 4) for name, metric in saved_scores(trained.run.path)["metrics"].items()
    }
    assert "`negative`, `positive`" in body


def test_the_saved_config_is_the_config_and_repeats_the_run(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    first = train_run(tmp_path, "training.batch_size=16")
    saved = load_config(first.run.config)
    assert saved == first.config
    train(load_config(first.run.config, [f"output_dir={tmp_path / 'again'}"]))
    for record_type in ("train", "eval"):
        assert history(tmp_path / "again", record_type) == history(first.run.path, record_type)
    assert same_weights(tmp_path / "again", first.run.path)


def test_a_finished_run_says_so_and_is_left_alone(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    first = train_run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.run.path.rglob("*") if path.is_file()}
    again = train(first.config)
    assert again.already_finished
    assert again.evaluations == first.report.evaluations
    after = {path: path.stat().st_mtime_ns for path in first.run.path.rglob("*") if path.is_file()}
    lock = first.run.lock
    assert {**after, lock: 0} == {**before, lock: 0}


def test_the_checkpoints_of_a_finished_run_may_be_deleted(
    tmp_path: Path, train_run: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    first = train_run(tmp_path)
    again = command(["train", first.file])
    assert f"{first.run.checkpoints}: not needed any more, may be deleted" in again.stdout
    shutil.rmtree(first.run.checkpoints)
    again = command(["train", first.file])
    assert (again.code, "Finished before" in again.stdout, "may be deleted" in again.stdout) == (0, True, False)
    assert command(["evaluate", first.run.path]).code == 0


def test_another_config_or_other_data_are_refused_with_the_difference(
    tmp_path: Path, train_run: Callable[..., Trained]
) -> None:
    first = train_run(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)training\.learning_rate: 0\.001 there, 0\.5 now.*--overwrite"):
        train(load_config(first.file, ["training.learning_rate=0.5"]))
    rows = Path(first.config.data.path) / "train.jsonl"
    rows.write_text(rows.read_text().replace("film", "book"))
    with pytest.raises(ConfigError, match="the rows, the tokenizer or the way that texts are encoded have changed"):
        train(first.config)
    assert saved_scores(first.run.path) == first.report.evaluations[0].to_json()
    assert not train(first.config, overwrite=True).already_finished


def test_what_no_weight_depends_on_may_change_and_new_gates_are_held(
    tmp_path: Path, train_run: Callable[..., Trained]
) -> None:
    first = train_run(tmp_path)
    changed = ["evaluation.gates=['accuracy>=0', 'accuracy>1']", "data.checks.overlap=ignore"]
    assert run_differences(first.config, load_config(first.file, [*changed, "tracking=[tensorboard]"])) == []
    config = load_config(first.file, changed)
    with pytest.raises(GateFailedError) as caught:
        train(config)
    assert caught.value.report.already_finished
    assert [gate.passed for gate in caught.value.report.evaluations[0].gates] == [True, False]
    assert load_config(first.run.config) == config


def test_a_failed_run_says_why_in_its_record_and_its_log(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    """A learning rate that blows up the loss: exit 1, and the traceback is in run.log alone."""
    config = write_config(tmp_path, training={"learning_rate": 1e30, "num_epochs": 3, "max_grad_norm": None})
    answer = command(["train", config])
    assert answer.code == 1
    assert "Traceback" not in answer.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["exit_code"]) == ("failed", 1)
    assert "training.on_nonfinite" in record["error"]
    assert "Traceback" in (tmp_path / "run" / "run.log").read_text()
