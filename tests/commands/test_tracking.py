"""Trackers get the lines of history.jsonl: all of them, once, from both loops; a failing one never ends a run.

TensorBoard is the real one. Weights & Biases, MLflow and Trackio are told apart by their starters alone; a small
stand-in for Trackio shows what is handed over.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.commands.compare import compare
from finetune_cli.commands.train import train
from finetune_cli.config.dump import to_yaml
from finetune_cli.config.fields import TRACKERS
from finetune_cli.config.load import load_config
from finetune_cli.errors import MissingError, NotFinishedError
from finetune_cli.records.training import EvalRecord, StepRecord
from finetune_cli.runs.tracking import _STARTERS, scalars
from tests.commands.run_files import LOOPS, Trained, history, read_jsonl

STAND_IN = """\
import json, pathlib

FOLDER = pathlib.Path(__file__).parent


class Run:
    def log(self, values, step=None):
        if (FOLDER / "broken").exists() and step >= 3:
            raise ConnectionError("the server has gone\\nfor good")
        with (FOLDER / "logged.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\\n")

    def finish(self):
        print("a line that is no result")
        (FOLDER / "finished").touch()


def init(**options):
    print("another one")
    if (FOLDER / "refuses").exists():
        raise PermissionError("nobody is logged in")
    with (FOLDER / "started.jsonl").open("a") as file:
        file.write(json.dumps(options) + "\\n")
    return Run()
"""


@pytest.fixture
def trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in for the package trackio: what it is told lands in files beside it."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "trackio.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    return folder


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows: name -> (step, value) in the order of the file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = EventAccumulator(str(run / "tracking" / "tensorboard"), size_guidance={"scalars": 0})
    files.Reload()
    return {tag: [(event.step, event.value) for event in files.Scalars(tag)] for tag in files.Tags()["scalars"]}


def expected_curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The same, from history.jsonl."""
    names = {"train": ("loss", "grad_norm", "learning_rate", "epoch"), "eval": ("loss", "accuracy")}
    found: dict[str, list[tuple[int, float]]] = {}
    for record_type, fields in names.items():
        for line in history(run, record_type):
            for field in fields:
                name = f"{line.get('split', 'train')}/{field}"
                found.setdefault(name, []).append((line["step"], line[field]))
    return found


def assert_same_curves(run: Path) -> None:
    shown, expected = curves(run), expected_curves(run)
    assert shown.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in shown[name]] == [step for step, _ in points]
        # A TensorBoard scalar is a 32-bit number.
        assert [value for _, value in shown[name]] == pytest.approx([value for _, value in points], rel=1e-6)


@pytest.mark.parametrize("loop", LOOPS)
def test_tensorboard_shows_the_numbers_of_the_history(
    tmp_path: Path, train_run: Callable[..., Trained], loop: str
) -> None:
    trained = train_run(
        tmp_path,
        "tracking=[tensorboard]",
        f"training.loop={loop}",
        "evaluation.every=3",
        "evaluation.metrics=[accuracy]",
    )
    assert_same_curves(trained.run.path)
    assert len(curves(trained.run.path)["train/loss"]) == 6
    assert "tracking" not in trained.run.history.read_text()


class _Killed(Exception):
    """Stands for whatever ends a process between two updates."""


def killed_after(step: int) -> Callable[[Any], None]:
    def listen(event: Any) -> None:
        if isinstance(event, StepRecord) and event.step == step:
            raise _Killed

    return listen


def test_a_continued_run_continues_its_curves_without_a_point_twice(
    tmp_path: Path, write_config: Callable[..., Path], trackio: Path
) -> None:
    """Killed after update 5, with checkpoints at 2 and 4: update 5 is trained twice, and shown once."""
    config = load_config(
        write_config(tmp_path),
        [
            "tracking=[tensorboard, trackio]",
            "checkpointing.every=2",
            "evaluation.every=3",
            "evaluation.metrics=[accuracy]",
        ],
    )
    with pytest.raises(_Killed):
        train(config, listen=killed_after(5))
    assert train(config).resumed_from == 4
    run = tmp_path / "run"
    assert_same_curves(run)
    logged = read_jsonl(trackio / "logged.jsonl")
    assert [line["step"] for line in logged if "train/loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["train/loss"] for line in logged if "train/loss" in line] == [
        line["loss"] for line in history(run, "train")
    ]
    first, second = read_jsonl(trackio / "started.jsonl")
    assert first["name"] == second["name"]
    assert second["resume"] == "allow"
    assert first["config"]["training.learning_rate"] == 1e-3


def test_a_run_that_starts_anew_starts_its_curves_anew(
    tmp_path: Path, write_config: Callable[..., Path], trackio: Path
) -> None:
    """Killed before the first checkpoint, and once more with --overwrite: nothing of the old curve is left."""
    config = load_config(write_config(tmp_path), ["tracking=[tensorboard, trackio]", "evaluation.metrics=[accuracy]"])
    with pytest.raises(_Killed):
        train(config, listen=killed_after(3))
    train(config)
    assert_same_curves(tmp_path / "run")
    train(config, overwrite=True)
    assert_same_curves(tmp_path / "run")
    assert len({line["name"] for line in read_jsonl(trackio / "started.jsonl")}) == 3


def test_a_stop_during_an_evaluation_loses_no_point(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores of the update at which the stop came are sent when the run goes on."""
    from finetune_cli.training import monitor

    config = load_config(
        write_config(tmp_path), ["tracking=[tensorboard]", "evaluation.every=3", "evaluation.metrics=[accuracy]"]
    )

    def stop(self: monitor.Monitor) -> None:
        self.stop.signal_number = 15
        raise monitor._StopDuringEvaluation

    with monkeypatch.context() as patch:
        patch.setattr(monitor.Monitor, "_check_between_batches", stop)
        with pytest.raises(NotFinishedError):
            train(config)
    train(config)
    assert_same_curves(tmp_path / "run")
    assert [step for step, _ in curves(tmp_path / "run")["validation/accuracy"]] == [3, 6]


def test_a_tracker_that_fails_is_left_out_with_one_warning(
    tmp_path: Path,
    train_run: Callable[..., Trained],
    trackio: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (trackio / "broken").touch()
    with caplog.at_level(logging.WARNING, logger="finetune_cli"):
        trained = train_run(tmp_path, "tracking=[trackio, tensorboard]", "evaluation.metrics=[accuracy]")
    assert len(history(trained.run.path, "train")) == 6
    warnings = [record.getMessage() for record in caplog.records if "trackio" in record.getMessage()]
    assert len(warnings) == 1
    assert "the server has gone" in warnings[0]
    assert max(line["step"] for line in read_jsonl(trackio / "logged.jsonl")) == 2
    assert_same_curves(trained.run.path)
    assert capsys.readouterr().out == ""


def test_a_tracker_that_does_not_start_ends_a_new_run_before_training_and_not_a_continued_one(
    tmp_path: Path, write_config: Callable[..., Path], trackio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(write_config(tmp_path), ["tracking=[trackio]", "checkpointing.every=2"])
    (trackio / "refuses").touch()
    with pytest.raises(MissingError, match="trackio does not start: nobody is logged in"):
        train(config)
    assert not (tmp_path / "run" / "history.jsonl").exists()
    (trackio / "refuses").unlink()
    with pytest.raises(_Killed):
        train(config, listen=killed_after(5))
    (trackio / "refuses").touch()
    with caplog.at_level(logging.WARNING, logger="finetune_cli"):
        assert train(config).steps == 6
    assert sum("trackio does not start" in record.getMessage() for record in caplog.records) == 1


def test_each_of_several_seeds_is_a_run_of_the_tracker(
    tmp_path: Path, write_config: Callable[..., Path], trackio: Path
) -> None:
    train(load_config(write_config(tmp_path), ["tracking=[tensorboard, trackio]", "training.seeds=[1, 2]"]))
    for seed in (1, 2):
        assert len(curves(tmp_path / "run" / f"seed-{seed}")["train/loss"]) == 6
    assert not (tmp_path / "run" / "tracking").exists()
    first, second = read_jsonl(trackio / "started.jsonl")
    assert first["name"].startswith(f"{tmp_path / 'run' / 'seed-1'} ")
    assert second["name"].startswith(f"{tmp_path / 'run' / 'seed-2'} ")


def test_a_package_that_is_not_there_is_named_before_anything_is_written(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in ("wandb", "mlflow") else find(name, *rest)
    )
    config = load_config(write_config(tmp_path), ["tracking=[mlflow, tensorboard, wandb]"])
    with pytest.raises(MissingError, match=r"not installed: mlflow, wandb. Install with `pip install mlflow wandb`"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_the_package_of_a_tracker_may_have_another_name(
    tmp_path: Path, write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_config(tmp_path), ["tracking=[tensorboard]"])
    monkeypatch.setitem(TRACKERS, "tensorboard", "no_such_package")
    with pytest.raises(MissingError, match=r"not installed: tensorboard. Install with `pip install no_such_package`"):
        train(config)


def test_every_tracker_of_the_config_can_be_started() -> None:
    assert _STARTERS.keys() == TRACKERS.keys()


def test_numbers_are_named_by_split_and_those_that_are_not_finite_left_out() -> None:
    step = StepRecord(3, 0.5, 0.25, math.inf, 5e-5, 1.0, 8, 80)
    assert scalars(step) == {"train/loss": 0.25, "train/learning_rate": 5e-5, "train/epoch": 0.5}
    evaluation = EvalRecord(3, 0.5, "validation_matched", 0.5, {"f1": math.nan, "accuracy": 0.75})
    assert scalars(evaluation) == {"validation_matched/loss": 0.5, "validation_matched/accuracy": 0.75}


def test_where_things_go_is_no_difference_between_two_runs(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    runs = [shutil.copytree(trained.run.path, tmp_path / name) for name in ("a", "b")]
    elsewhere = load_config(trained.file, ["hub.repo_id=user/b", "tracking=[tensorboard]", "output_dir=b"])
    (runs[1] / "config.yaml").write_text(to_yaml(elsewhere), encoding="utf-8")
    assert compare([str(run) for run in runs]).config_differences == []
