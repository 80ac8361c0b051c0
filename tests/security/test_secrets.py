"""A token in the environment, a password in an address: in no file and on no stream."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError

TOKEN = "hf_" + "PlantedTokenThatNobodyMaySee" + "Abcdefgh"
ADDRESS = "https://someone:s3cretPassword@example.org/rows"
Run = Callable[..., subprocess.CompletedProcess[str]]


def files_with(secret: str, folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        pytest.param([], 0, marks=pytest.mark.slow),
        (["-s", "training.learning_rate=1e30", "-s", "training.max_grad_norm=null"], 1),
    ],
    ids=["a run that ends well", "a run that fails"],
)
def test_the_hub_token_is_in_no_file_and_on_no_stream(
    tmp_path: Path, run_cli: Run, write_config: Callable[..., Path], options: list[str], code: int
) -> None:
    config = write_config(tmp_path, training={"loop": "trainer"})
    environment = {"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN}
    done = run_cli(["train", config, "--debug", "--verbose", *options], env=environment)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "run" / "run.log").exists()
    assert TOKEN not in done.stdout + done.stderr
    assert files_with(TOKEN, tmp_path) == []


@pytest.mark.parametrize("secret", [TOKEN, ADDRESS])
@pytest.mark.parametrize("key", ["data.path", "model.name_or_path", "output_dir", "hub.repo_id"])
def test_a_secret_in_a_config_is_refused_and_not_repeated(
    tmp_path: Path, write_config: Callable[..., Path], key: str, secret: str
) -> None:
    file = write_config(tmp_path)
    with pytest.raises(ConfigError, match="looks like a token or a password") as refused:
        load_config(file, [f"{key}={secret}"])
    shown = str(refused.value)
    assert TOKEN not in shown
    assert "s3cretPassword" not in shown


def test_a_refused_secret_leaves_no_file(tmp_path: Path, run_cli: Run, write_config: Callable[..., Path]) -> None:
    config = write_config(tmp_path)
    done = run_cli(["train", config, "-s", f"data.path={ADDRESS}", "--debug"])
    assert done.returncode == 2
    assert "s3cretPassword" not in done.stdout + done.stderr
    assert files_with("s3cretPassword", tmp_path) == []


def test_a_secret_part_of_the_place_of_the_rows_is_in_no_file_and_on_no_stream(
    tmp_path: Path, run_cli: Run, write_config: Callable[..., Path], make_dataset: Callable[..., Path]
) -> None:
    """Findings, reports, cards and the cache name the rows' place with the reference in it."""
    rows = make_dataset(tmp_path / "s3cretPlace")
    validation = rows / "validation.jsonl"
    validation.write_text((rows / "train.jsonl").read_text())  # every row of validation is a finding
    config = write_config(tmp_path, data={"path": f"{tmp_path}/${{MY_SECRET}}"}, training={"max_steps": 1})
    environment = {"MY_SECRET": "s3cretPlace", "FINETUNE_CACHE": str(tmp_path / "cache")}
    done = run_cli(["train", config], env=environment)
    assert done.returncode == 0, done.stderr
    assert "${MY_SECRET}/validation.jsonl: " in done.stderr
    (rows / "train.jsonl").write_text('{"sentence": "a", "label": 1}\n{oops\n')
    refused = run_cli(["prepare", config], env=environment)
    assert (refused.returncode, "${MY_SECRET}/train.jsonl, line 2: " in refused.stderr) == (3, True)
    validation.unlink()
    nothing = run_cli(["prepare", config], env=environment)
    assert (nothing.returncode, "${MY_SECRET} has no validation split" in nothing.stderr) == (3, True)
    for said in (done, refused, nothing):
        assert "s3cretPlace" not in said.stdout + said.stderr
    assert files_with("s3cretPlace", tmp_path) == []
