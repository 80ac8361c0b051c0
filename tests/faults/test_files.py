"""Full disks, damaged files, old locks, wrong clocks, moved runs: named and survived, with the undisturbed result."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import SafetensorError

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import MissingError, NotFinishedError, RunFailedError
from finetune_cli.records.run import RunRecord
from finetune_cli.records.training import StepRecord
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.files import disk_errors_explained
from finetune_cli.training.manifest import find_damage
from scripts.faults.cases import hurt_file
from scripts.faults.files import differences, leftovers, outcome, unreadable_files
from scripts.faults.runs import CONFIG, write_data

Listener = Callable[[Any], None]


def train_in(folder: Path, listen: Listener = lambda event: None, output_dir: str = "run", **options: Any) -> Path:
    """Train the small run of the harness for one epoch (15 updates) in this process; its run directory."""
    if not (folder / "config.yaml").exists():
        write_data(folder / "data")
        text = CONFIG.format(loop="trainer", epochs=1, evaluate=6, save=2, baseline="false")
        (folder / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(load_config(Path("config.yaml"), [f"output_dir={output_dir}"]), listen=listen, **options)
    return folder / output_dir


def at(step: int, do: Callable[[], Any]) -> Listener:
    """Do something once that update is reported."""

    def listen(event: Any) -> None:
        if isinstance(event, StepRecord) and event.step == step:
            do()

    return listen


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_CACHE", str(tmp_path_factory.getbasetemp() / "faults-cache"))
        return outcome(train_in(tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that SIGTERM has stopped after update 9, with the checkpoints 6 (the best), 8 and 9."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_CACHE", str(tmp_path_factory.getbasetemp() / "faults-cache"))
        with pytest.raises(NotFinishedError, match="after update 9 of 15"):
            train_in(folder, at(9, terminate))
    return folder


@pytest.fixture
def stopped(
    stopped_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A copy of it for one test, its rows tokenised already."""
    monkeypatch.setenv("FINETUNE_CACHE", str(tmp_path_factory.getbasetemp() / "faults-cache"))
    return Path(shutil.copytree(stopped_once, tmp_path / "stopped"))


def newest(folder: Path) -> Path:
    return max((folder / "run" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("model.safetensors", "bit flipped"),
        ("optimizer.bin", "cut in half"),
        ("random_states_0.pkl", "missing"),
        ("trainer_state.json", "empty"),
        ("progress.json", "bit flipped"),
        ("manifest.json", "cut in half"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_gives_the_same_run(
    stopped: Path, undisturbed: dict[str, Any], caplog: pytest.LogCaptureFixture, name: str, how: str
) -> None:
    assert newest(stopped).name == "step-000009"
    hurt_file(newest(stopped) / name, how)
    assert differences(undisturbed, outcome(train_in(stopped))) == []
    assert "step-000009" in caplog.text
    assert name in caplog.text


def test_what_is_written_after_going_behind_a_damaged_checkpoint_is_kept(stopped: Path) -> None:
    """The damaged one is newer by number: it must not push the new one out."""
    for damaged in ("step-000008", "step-000009"):
        hurt_file(stopped / "run" / "checkpoints" / damaged / "optimizer.bin", "missing")
    with pytest.raises(NotFinishedError, match="after update 7 of 15"):
        train_in(stopped, at(7, terminate))
    assert sorted(path.name for path in (stopped / "run" / "checkpoints").iterdir()) == ["step-000006", "step-000007"]


def test_a_run_whose_best_model_is_damaged_is_not_continued_towards_an_end_without_a_result(stopped: Path) -> None:
    """The best is the oldest here, so nothing before it is left; nothing is deleted."""
    hurt_file(stopped / "run" / "checkpoints" / "step-000006" / "model.safetensors", "bit flipped")
    with pytest.raises(MissingError, match=r"(?s)step-000009: its best model, in step-000006.*--overwrite"):
        train_in(stopped)
    assert len(list((stopped / "run" / "checkpoints").glob("step-*"))) == 3


def test_a_damaged_best_model_is_trained_again_from_the_checkpoint_before_it(
    stopped: Path, undisturbed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """With room for all checkpoints: 2, 4, 6 (the best), 8 and 9."""
    shutil.rmtree(stopped / "run")
    text = (stopped / "config.yaml").read_text(encoding="utf-8")
    (stopped / "config.yaml").write_text(text.replace("keep: 2", "keep: 9"), encoding="utf-8")
    with pytest.raises(NotFinishedError, match="after update 9 of 15"):
        train_in(stopped, at(9, terminate))
    hurt_file(stopped / "run" / "checkpoints" / "step-000006" / "model.safetensors", "cut in half")
    assert differences(undisturbed, outcome(train_in(stopped))) == ["checkpoints"]  # more of them are kept
    assert "its best model, in step-000006, cannot be used: model.safetensors has" in caplog.text
    assert json.loads((stopped / "run" / "run.json").read_text())["resumed_from"] == 4


def test_a_best_model_that_gets_damaged_during_the_run_is_named_at_its_end(stopped: Path) -> None:
    def damage_best() -> None:
        for path in (stopped / "run" / "checkpoints").glob("step-*"):
            if path.name != "step-000014":
                hurt_file(path / "model.safetensors", "bit flipped")

    with pytest.raises(MissingError, match=r"The best model, in .*step-0000\d\d, cannot be used: model"):
        train_in(stopped, at(15, damage_best))


def test_a_disk_without_room_for_one_checkpoint_is_found_before_training(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (stopped / "run" / "history.jsonl").read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, free=10**5))
    with pytest.raises(RunFailedError, match=r"has 0\.1 MB left, and one checkpoint takes 0\.\d MB or more\. Free"):
        train_in(stopped)
    assert (stopped / "run" / "history.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "manifest",
    [[], {"files": []}, {"files": {}}, {"files": {"progress.json": {}}}, {"files": {"progress.json": {"bytes": 1}}}],
)
def test_a_manifest_with_another_form_is_damage(tmp_path: Path, manifest: Any) -> None:
    (tmp_path / "progress.json").write_text("{}", encoding="utf-8")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert "manifest.json" in (find_damage(tmp_path) or "")


def test_a_full_disk_ends_the_run_with_its_name_and_the_run_goes_on_once_there_is_room(
    stopped: Path, undisturbed: dict[str, Any]
) -> None:
    """A limit of file sizes takes the full disk's place: writing beyond it fails in the same way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(RunFailedError, match=r"the disk is full .*Free some space and run the same command again"):
            train_in(stopped, at(11, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(unreadable_files(stopped / "run")) == []
    assert newest(stopped).name == "step-000010"
    assert json.loads((stopped / "run" / "run.json").read_text())["status"] == "failed"
    assert differences(undisturbed, outcome(train_in(stopped))) == []
    assert leftovers(stopped / "run") == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "run/x"), "run/x: the disk is full"),
        (OSError(errno.EROFS, "Read-only file system", "run/x"), "run/x: not writable"),
        (SafetensorError("Error while serializing: No space left on device (os error 28)"), "run: the disk is full"),
    ],
)
def test_errors_of_the_disk_are_explained(error: Exception, says: str) -> None:
    with pytest.raises(RunFailedError, match=says), disk_errors_explained(Path("run")):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), disk_errors_explained(Path("run")):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "run/x")


def test_what_killed_runs_left_half_written_is_cleared_and_foreign_files_stay(stopped: Path) -> None:
    run = stopped / "run"
    (run / "checkpoints" / ".writing-step-000011").mkdir()
    (run / "checkpoints" / ".writing-step-000011" / "model.safetensors").write_bytes(b"half")
    (run / "checkpoints" / ".deleting-step-000002").mkdir()
    (run / ".run.json.123.tmp").write_text("{", encoding="utf-8")
    (run / ".probe-123").write_text("x", encoding="utf-8")
    (run / ".notes").write_text("mine", encoding="utf-8")
    train_in(stopped)
    assert leftovers(run) == [".notes"]


def test_a_lock_and_a_record_of_a_run_that_is_gone_do_not_stop_the_next(
    stopped: Path, undisturbed: dict[str, Any]
) -> None:
    (stopped / "run" / "run.lock").write_text("4194304\n", encoding="utf-8")
    RunDir(stopped / "run").write_record(RunRecord(status="running"))
    assert differences(undisturbed, outcome(train_in(stopped))) == []


def test_file_times_and_the_place_of_the_run_do_not_matter(stopped: Path, undisturbed: dict[str, Any]) -> None:
    for days, path in enumerate(sorted((stopped / "run").rglob("*"))):
        os.utime(path, (1e9 - days * 86400, 1e9 - days * 86400))  # the newest checkpoint looks oldest
    (stopped / "run").rename(stopped / "moved")
    assert differences(undisturbed, outcome(train_in(stopped, output_dir="moved"))) == []


def test_a_history_that_lost_lines_is_refused_by_name(stopped: Path) -> None:
    hurt_file(stopped / "run" / "history.jsonl", "cut in half")
    with pytest.raises(MissingError, match=r"history\.jsonl has \d+ bytes"):
        train_in(stopped)
