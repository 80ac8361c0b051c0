"""The best model goes to the Hub: huggingface_hub's own client against a small server on loopback."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from finetune_cli.commands.train import train
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, GateFailedError, MissingError, RunFailedError
from finetune_cli.runs.run_dir import RunDir
from tests.commands.hub_server import READ_TOKEN, WRITE_TOKEN, Hub, serving
from tests.commands.run_files import Answer, Trained

REPO = "user/result"

# huggingface_hub hands httpx2 the open file of an LFS upload in a way that httpx2 is going to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def finished(tmp_path: Path, learned: Callable[..., Trained]) -> Callable[..., RunConfig]:
    """finished(*overrides) -> the config of a finished run in a directory of its own, hub.repo_id added."""
    trained = learned("sst2")
    run = tmp_path / "run"
    shutil.copytree(trained.run.path, run)

    def config(*overrides: str) -> RunConfig:
        return load_config(trained.file, [f"output_dir={run}", f"hub.repo_id={REPO}", *overrides])

    return config


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def record_of(config: RunConfig) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(RunDir(config.output_dir).record.read_text())
    return record


@pytest.mark.parametrize("way", ["lfs", "all in the commit", "xet client"])
def test_a_finished_run_is_uploaded_when_that_is_asked_later(
    finished: Callable[..., RunConfig], hub: Hub, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """With Xet the client works through another code; the server then takes all files in the commit."""
    hub.upload_mode = None if way == "lfs" else "regular"
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", way != "xet client")
    config = finished()
    before = record_of(config)
    report = train(config)
    assert report.already_finished
    assert hub.repos[REPO].files == files_of(RunDir(config.output_dir).model)
    assert {"model.safetensors", "config.json", "README.md", "tokenizer.json"} <= hub.repos[REPO].files.keys()
    assert hub.repos[REPO].private
    assert report.uploaded_to == f"{hub.url}/{REPO}/commit/{hub.repos[REPO].head}"
    record = record_of(config)
    assert record.pop("hub") == {"repo_id": REPO, "private": True, "commit_url": report.uploaded_to}
    assert record == before


def test_what_is_uploaded_is_uploaded_once_but_for_push(finished: Callable[..., RunConfig], hub: Hub) -> None:
    config = finished("hub.private=false")
    first = train(config)
    assert not hub.repos[REPO].private
    hub.asked.clear()
    assert train(config).uploaded_to == first.uploaded_to
    assert train(config, offline=True).uploaded_to == first.uploaded_to
    assert hub.asked == []
    again = train(config, push=True)
    assert len(hub.repos[REPO].commits) == 2
    assert again.uploaded_to != first.uploaded_to
    assert train(finished("hub.repo_id=user/other")).uploaded_to.startswith(f"{hub.url}/user/other/")


def test_a_failed_upload_loses_nothing_and_is_repeated_without_training(
    finished: Callable[..., RunConfig], hub: Hub
) -> None:
    config = finished()
    run = RunDir(config.output_dir)
    model = files_of(run.model)
    hub.failures["/commit/main"] = 500
    with pytest.raises(RunFailedError, match=r"upload to user/result failed: .*500.* same\s+command tries") as failed:
        train(config)
    assert str(run.model) in str(failed.value)
    record = record_of(config)
    assert (record["status"], record["exit_code"]) == ("finished", 1)
    assert "500" in record["hub"]["error"]
    assert "commit_url" not in record["hub"]
    assert "Traceback" in run.log.read_text()
    assert files_of(run.model) == model

    hub.failures.clear()
    report = train(config)
    assert report.already_finished
    assert hub.repos[REPO].files == model
    assert record_of(config)["exit_code"] == 0
    assert "error" not in record_of(config)["hub"]


@pytest.mark.parametrize(
    ("token", "overrides", "error", "message"),
    [
        (READ_TOKEN, [], MissingError, "this token may not write to user/result. Run `hf auth login`"),
        (WRITE_TOKEN, ["hub.repo_id=others/model"], MissingError, "may not write to others/model"),
        (WRITE_TOKEN, ["hub.repo_id=others/public"], MissingError, "may not write to others/public"),
        ("hf_" + "x" * 30, [], MissingError, "the Hub does not accept the token. Run `hf auth login`"),
        ("", [], MissingError, "there is no token for the Hub. Run `hf auth login`"),
        (WRITE_TOKEN, ["hub.repo_id=user/public"], ConfigError, "user/public is there already, and public"),
    ],
)
def test_an_upload_that_the_hub_would_refuse_is_refused_before_training(
    tmp_path: Path,
    write_config: Callable[..., Path],
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    overrides: list[str],
    error: type[Exception],
    message: str,
) -> None:
    """A public repository of somebody else can be seen with any token: that it is there proves nothing."""
    hub.add("others/public", {})
    hub.add("user/public", {})
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(error, match=message) as refused:
        train(load_config(write_config(tmp_path), [f"hub.repo_id={REPO}", *overrides]))
    assert not token or token not in str(refused.value)
    assert not (tmp_path / "run" / "history.jsonl").exists()
    assert not (tmp_path / "finetune-cache").exists()  # not even the rows were prepared
    assert not any("commit" in one for one in hub.asked)


def test_a_token_that_cannot_be_read_is_said_before_training(
    tmp_path: Path, write_config: Callable[..., Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path))  # cannot be read by root either
    with pytest.raises(MissingError, match=r"the token for the Hub cannot be read .*Set HF_TOKEN"):
        train(load_config(write_config(tmp_path), [f"hub.repo_id={REPO}"]))


def test_a_hub_that_cannot_be_asked_is_said_before_training(
    tmp_path: Path, write_config: Callable[..., Path], hub: Hub
) -> None:
    config = load_config(write_config(tmp_path), [f"hub.repo_id={REPO}"])
    hub.failures["/auth-check/write"] = 503
    with pytest.raises(MissingError, match="did not say whether this token may write") as asked:
        train(config)
    assert "503" in str(asked.value)
    assert "-s hub=null" in str(asked.value)
    with pytest.raises(ConfigError, match="offline mode is on"):
        train(config, offline=True)


def test_a_private_repository_stays_private(
    finished: Callable[..., RunConfig], hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add(REPO, {}, private=True)
    with caplog.at_level(logging.WARNING, logger="finetune_cli"):
        train(finished("hub.private=false"))
    assert hub.repos[REPO].private
    assert "is there already, and private. It stays so." in caplog.text


def test_a_model_that_fails_a_gate_is_not_uploaded(
    tmp_path: Path, write_config: Callable[..., Path], hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(write_config(tmp_path), [f"hub.repo_id={REPO}", "evaluation.gates=['loss<=0.000001']"])
    for _ in range(2):
        with pytest.raises(GateFailedError):
            train(config)
    assert hub.repos[REPO].commits == []
    assert caplog.text.count("nothing is uploaded to user/result") == 2
    assert record_of(config)["exit_code"] == 4


def test_a_new_training_over_an_uploaded_run_asks_first_and_uploads_anew(
    tmp_path: Path, write_config: Callable[..., Path], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_config(tmp_path), [f"hub.repo_id={REPO}"])
    train(config)
    with monkeypatch.context() as patch:
        patch.setenv("HF_TOKEN", READ_TOKEN)
        with pytest.raises(MissingError):
            train(config, overwrite=True)
    assert (tmp_path / "run" / "model").is_dir()
    train(config, overwrite=True)
    assert len(hub.repos[REPO].commits) == 2


def test_push_needs_a_place(tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer]) -> None:
    config = write_config(tmp_path)
    answer = command(["train", config, "--push"])
    assert answer.code == 2
    assert "Add -s hub.repo_id=user/name" in answer.stderr
    answer = command(["train", config, "--push", "--dry-run", "-s", f"hub.repo_id={REPO}"])
    assert answer.code == 2
    assert "Leave out --push" in answer.stderr


def test_several_seeds_are_refused(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"a repository holds one.*/seed-1/config.yaml -s hub.repo_id="):
        load_config(write_config(tmp_path), [f"hub.repo_id={REPO}", "training.seeds=[1, 2]"])


@pytest.mark.parametrize("name", ["model", "a/b/c", "user/", "/x", "user/na me", "user/a--b", "user/a..b", "user/x-"])
def test_a_name_that_the_hub_does_not_take_is_a_mistake_in_the_config(
    tmp_path: Path, write_config: Callable[..., Path], name: str
) -> None:
    with pytest.raises(ConfigError, match="is not of the form user/name"):
        load_config(write_config(tmp_path, hub={"repo_id": name}))


def environment(hub: Hub) -> dict[str, str]:
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": WRITE_TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }


def test_a_model_of_the_hub_is_fetched_trained_and_handed_back_without_a_trace_of_the_token(
    tmp_path: Path, write_config: Callable[..., Path], tiny_bert: Path, run_cli: Callable[..., Any]
) -> None:
    """The command itself, online: all that it knows of the model comes from the server."""
    with serving() as hub:
        hub.add("someone/tiny-bert", files_of(tiny_bert))
        config = write_config(
            tmp_path,
            model={"name_or_path": "someone/tiny-bert"},
            hub={"repo_id": REPO},
            training={"loop": "accelerate"},
        )
        done: subprocess.CompletedProcess[str] = run_cli(
            ["train", config, "--push", "--json", "--verbose"], env=environment(hub)
        )
    assert done.returncode == 0, done.stderr
    url = json.loads(done.stdout)["uploaded_to"]
    assert url == f"{hub.url}/{REPO}/commit/{hub.repos[REPO].head}"
    assert hub.repos[REPO].files == files_of(tmp_path / "run" / "model")
    assert "base_model: someone/tiny-bert" in hub.repos[REPO].files["README.md"].decode()
    assert any("/someone/tiny-bert/resolve/" in one for one in hub.asked)
    everything = files_of(tmp_path)
    assert "run/run.log" in everything
    assert [name for name, content in everything.items() if WRITE_TOKEN.encode() in content] == []
    assert WRITE_TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_of_several_processes_one_uploads(
    tmp_path: Path, write_config: Callable[..., Path], run_cli: Callable[..., Any]
) -> None:
    with serving() as hub:
        config = write_config(tmp_path, hub={"repo_id": REPO}, tracking=["tensorboard"])
        done = run_cli(["train", config, "--num-processes", "2"], env=environment(hub))
        assert done.returncode == 0, done.stderr
        assert len(hub.repos[REPO].commits) == 1
        assert hub.repos[REPO].files == files_of(tmp_path / "run" / "model")
        assert f"uploaded   {hub.url}/{REPO}/commit/" in done.stdout
        assert len(list((tmp_path / "run" / "tracking" / "tensorboard").iterdir())) == 1

        (tmp_path / "other").mkdir()
        hub.failures["/commit/main"] = 500
        failing = write_config(tmp_path / "other", hub={"repo_id": REPO})
        done = run_cli(["train", failing, "--num-processes", "2"], env=environment(hub))
        assert done.returncode == 1
        assert "The same command tries the upload again" in done.stderr
        assert json.loads((tmp_path / "other" / "run" / "run.json").read_text())["status"] == "finished"
