"""A run that was stopped and continued equals the undisturbed one: weights, optimizer, history but for times."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_cli.errors import InterruptedRunError, MissingError, NotFinishedError
from finetune_cli.records.training import StepRecord
from finetune_cli.system.signals import StopRequest
from finetune_cli.training.kept_predictions import KEPT_FILE, KeptPredictions
from tests.training.small_runs import Run, make_rows

LOOPS = ["trainer", "accelerate"]


def timeless(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


def optimizer_state(run: Run) -> dict[str, Any]:
    newest = run.checkpoints.newest()
    assert newest is not None
    return torch.load(newest / "optimizer.bin", weights_only=True)


def candidates(run: Run) -> bytes:
    """What was kept of every evaluation, as the newest checkpoint has it."""
    newest = run.checkpoints.newest()
    assert newest is not None
    return (newest / KEPT_FILE).read_bytes()


def assert_same_run(first: Run, second: Run) -> None:
    assert timeless(first.history()) == timeless(second.history())
    weights = second.weights()
    assert all(torch.equal(value, weights[name]) for name, value in first.weights().items())
    torch.testing.assert_close(optimizer_state(first), optimizer_state(second), rtol=0, atol=0)
    assert candidates(first) == candidates(second)


def stop_at(step: int, record_type: type = StepRecord, number: int = signal.SIGTERM) -> dict[str, Any]:
    """Settings of a run that is asked to stop once it has reported that update or evaluation."""
    stop = StopRequest()

    def listen(event: Any) -> None:
        if isinstance(event, record_type) and event.step == step:
            stop.handle(number, None)

    return {"stop": stop, "listen": listen}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("at", [1, 5, 6, 7, 11, 12])
def test_a_stopped_run_continues_bit_for_bit(tmp_path: Path, loop: str, at: int) -> None:
    """Mid-epoch, at an epoch's end (6), at the last update (12), with accumulation, dropout and a ragged update."""
    settings: dict[str, Any] = {"rows": make_rows(45), "micro_batch_size": 4, "dropout": 0.1}
    undisturbed = Run(loop, tmp_path / "undisturbed", **settings).train()
    with pytest.raises(NotFinishedError, match=f"after update {at} of 12"):
        Run(loop, tmp_path / "stopped", **settings, **stop_at(at)).train()
    assert_same_run(undisturbed, Run(loop, tmp_path / "stopped", **settings, resume=True).train())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_stopped_after_every_update_continues_bit_for_bit(tmp_path: Path, loop: str) -> None:
    settings: dict[str, Any] = {"rows": make_rows(21), "dropout": 0.1}
    undisturbed = Run(loop, tmp_path / "undisturbed", **settings).train()
    for step in range(1, 7):
        with pytest.raises(NotFinishedError):
            Run(loop, tmp_path / "stopped", **settings, **stop_at(step), resume=step > 1).train()
    assert_same_run(undisturbed, Run(loop, tmp_path / "stopped", **settings, resume=True).train())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stop_during_an_evaluation_leaves_the_scoring_to_the_continued_run(tmp_path: Path, loop: str) -> None:
    settings: dict[str, Any] = {"rows": make_rows(40), "dropout": 0.1}
    undisturbed = Run(loop, tmp_path / "undisturbed", **settings).train()
    stop = StopRequest()
    run = Run(
        loop, tmp_path / "stopped", **settings, stop=stop, during_evaluation=lambda: stop.handle(signal.SIGTERM, None)
    )
    with pytest.raises(NotFinishedError, match="after update 5 of 10"):
        run.train()
    assert not [record for record in run.history() if record["type"] == "eval"]
    assert_same_run(undisturbed, Run(loop, tmp_path / "stopped", **settings, resume=True).train())


@pytest.mark.parametrize("loop", LOOPS)
def test_early_stopping_counts_on_after_a_resume(tmp_path: Path, loop: str, caplog: pytest.LogCaptureFixture) -> None:
    """With a learning rate of almost 0 nothing improves by enough: two evaluations after the best one it is over."""
    settings: dict[str, Any] = {"rows": make_rows(40), "num_epochs": 6, "patience": 2, "learning_rate": 1e-12}
    with caplog.at_level("INFO", logger="finetune_cli"):
        undisturbed = Run(loop, tmp_path / "undisturbed", **settings).train()
    steps = len(undisturbed.updates())
    assert steps < 30
    assert f"Stopped early after update {steps} of 30: 2 evaluations without a better loss" in caplog.text
    with pytest.raises(NotFinishedError):
        Run(loop, tmp_path / "stopped", **settings, **stop_at(steps - 4, StepRecord)).train()
    assert_same_run(undisturbed, Run(loop, tmp_path / "stopped", **settings, resume=True).train())


def test_ctrl_c_stops_with_a_checkpoint_and_its_own_exit_code(tmp_path: Path) -> None:
    with pytest.raises(InterruptedRunError, match="complete checkpoint") as caught:
        Run("accelerate", tmp_path, make_rows(40), **stop_at(3, number=signal.SIGINT)).train()
    assert caught.value.exit_code == 130


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl", "progress.json", "manifest.json"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"rows": make_rows(40), "dropout": 0.1, "save_every": 2}
    undisturbed = Run("accelerate", tmp_path / "undisturbed", **settings).train()
    with pytest.raises(NotFinishedError):
        Run("accelerate", tmp_path / "stopped", **settings, **stop_at(7)).train()
    file = tmp_path / "stopped" / "checkpoints" / "step-000007" / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[len(content) // 2] ^= 0x55
        file.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    continued = Run("accelerate", tmp_path / "stopped", **settings, resume=True).train()
    assert "step-000007" in caplog.text
    assert name in caplog.text or name == "manifest.json"
    assert_same_run(undisturbed, continued)


def test_a_checkpoint_has_the_predictions_of_all_evaluations_before_it(tmp_path: Path) -> None:
    """Also of one that is not the best and leaves no checkpoint of its own."""
    scores = iter([0.1, 0.9, 0.8, 0.7])
    run = Run("accelerate", tmp_path, make_rows(40), num_epochs=4, save_every=20, loss_of=lambda: next(scores)).train()
    kept = KeptPredictions()
    for step, evaluated in ((5, [5]), (20, [5, 10, 15, 20])):
        kept.restore(run.checkpoints.path(step))
        assert list(kept.by_step) == evaluated
    manifest = json.loads((run.checkpoints.path(20) / "manifest.json").read_text())
    assert KEPT_FILE in manifest["files"]
    assert all(arrays["logits"].shape == (40, 2) for arrays in kept.by_step.values())


def test_only_damaged_checkpoints_are_an_error_that_names_them(tmp_path: Path) -> None:
    run = Run("accelerate", tmp_path, make_rows(40)).train()
    for path in (tmp_path / "checkpoints").iterdir():
        (path / "optimizer.bin").unlink()
    with pytest.raises(MissingError, match=r"(?s)step-000010.*optimizer.bin is missing.*step-000005.*--overwrite"):
        run.checkpoints.newest()


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    """Saves every update; the loss is best at the first evaluation because the rate is absurd afterwards."""
    scores = iter([0.1, 0.9, 0.8, 0.7])
    run = Run(
        "accelerate",
        tmp_path,
        make_rows(40),
        num_epochs=4,
        save_every=1,
        evaluate_every=5,
        loss_of=lambda: next(scores),
    )
    run.train()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-000005", "step-000019", "step-000020"]


def test_the_earliest_of_equal_scores_is_the_best(tmp_path: Path) -> None:
    run = Run("trainer", tmp_path, make_rows(40), num_epochs=3, loss_of=lambda: 0.5).train()
    newest = run.checkpoints.newest()
    assert newest is not None
    assert json.loads((newest / "progress.json").read_text())["progress"]["best_step"] == 5
    assert [event["step"] for event in run.history() if event["type"] == "eval"] == [5, 10, 15]
