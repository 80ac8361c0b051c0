"""What a failed command says and returns."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.cli import app, processes, start
from finetune_cli.config import load
from finetune_cli.errors import DataError

RunCli = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?\nSee: finetune --help"),
        (["train"], "Missing argument 'CONFIG'.\nSee: finetune train --help"),
        (["train", "c.yaml", "--resum", "never"], "No such option: --resum. Did you mean --resume?"),
        (["train", "c.yaml", "--num-processes", "0"], "'--num-processes': Input should be greater than or equal to 1"),
        (["train", "c.yaml", "-s", "seed", "7"], "Got unexpected extra argument(s) (7). Did you mean -s seed=7?"),
        (["train", "c.yaml", "seed=7"], "Did you mean -s seed=7?\nSee: finetune train --help"),
        (["prepare", "c.yaml", "--show", "many"], "'--show'"),
        (["predict", "run", "rows.csv", "--on-bad-row", "ignore"], "'--on-bad-row'"),
        (["predict", "run", "rows.csv", "--format", "xml"], "'--format'"),
        (
            ["export", "run", "out", "--format", "fp16"],
            "'safetensors'. Did you mean --dtype fp16?\nSee: finetune export",
        ),
        (["export", "run", "out", "--format", "onnx", "--dtype", "openvino"], "Did you mean --format openvino?"),
        (["export", "run", "out", "--format", "gguf"], "'openvino', 'safetensors'.\nSee: finetune export --help"),
        (["validate", "a.yaml", "b.yaml"], "b.yaml"),
        (["predict", "run"], "expected one of a file, - for standard input, and --text; found nothing"),
        (["predict", "run", "rows.csv", "--text", "x"], "found rows.csv and --text"),
        (["predict", "run", "--text", "x", "--text-pair", "y", "--text-pair", "z"], "one for each --text (1), found 2"),
        (["evaluate", "runs/mrpc", "--output-dir", "elsewhere"], "--output-dir goes with a config"),
        (["train", "no.yaml"], "no.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_is_said_on_stderr_and_returns_2(arguments: list[str], said: str, run_cli: RunCli):
    done = run_cli(arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_error_shows_its_traceback_and_returns_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("of our own making")

    monkeypatch.setattr(load, "load_config", fail)
    monkeypatch.setattr(sys, "argv", ["finetune", "validate", "c.yaml"])
    assert app.main() == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "ZeroDivisionError: of our own making\nerror: this is a bug in finetune" in said


@pytest.mark.parametrize(("flags", "shown"), [([], False), (["--debug"], True)], ids=["plain", "debug"])
def test_a_known_error_shows_its_traceback_only_when_asked(
    flags: list[str], shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> None:
        raise DataError("train.csv has no rows.")

    monkeypatch.setattr(load, "load_config", fail)
    monkeypatch.setattr(sys, "argv", ["finetune", "validate", "c.yaml", *flags])
    assert app.main() == DataError.exit_code == 3
    said = capsys.readouterr().err
    assert said.endswith("error: train.csv has no rows.\n")
    assert ("Traceback" in said) == shown


def test_ctrl_c_returns_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(load, "load_config", interrupt)
    monkeypatch.setattr(sys, "argv", ["finetune", "validate", "c.yaml"])
    assert app.main() == 130
    assert capsys.readouterr().err == "error: Interrupted.\n"


@pytest.mark.parametrize("arguments", [["--help"], ["validate", "config.yaml", "--json"]], ids=" ".join)
def test_a_reader_that_has_gone_ends_the_command_in_silence(
    arguments: list[str], write_config: Callable[..., Path], tmp_path: Path
):
    write_config(tmp_path, model={"name_or_path": "bert-base-uncased"})
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "finetune_cli", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + 13, "")


def test_only_the_main_process_of_a_group_speaks(run_cli: RunCli):
    done = run_cli(["train", "no.yaml"], env={"RANK": "1", "WORLD_SIZE": "2"})
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_a_command_for_one_process_leaves_the_others_idle(run_cli: RunCli):
    done = run_cli(["validate", "no.yaml"], env={"RANK": "1", "WORLD_SIZE": "2"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_processes_are_not_started_from_a_launched_process(
    run_cli: RunCli, write_config: Callable[..., Path], tmp_path: Path
):
    config = write_config(tmp_path, model={"name_or_path": "bert-base-uncased"})
    done = run_cli(["train", config, "--num-processes", "2"], env={"RANK": "0", "WORLD_SIZE": "2"})
    assert done.returncode == 2
    assert "leave it out under accelerate launch" in done.stderr


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["train", "c", "--num-processes", "2", "-q"], ["train", "c", "-q"]),
        (["train", "--num-processes=2", "c"], ["train", "c"]),
        (["train", "c"], ["train", "c"]),
    ],
)
def test_the_started_processes_get_the_same_arguments_without_the_count(given: list[str], left: list[str]):
    assert processes.without_option(given, "--num-processes") == left


def test_an_output_directory_stays_a_text_whatever_its_name(write_config: Callable[..., Path], tmp_path: Path):
    config = write_config(tmp_path, model={"name_or_path": "bert-base-uncased"})
    for name in ("2024", "no", "a: b", 'say "hi" # now', "überall"):
        assert str(start.read_config(config, start.with_output_dir([], name)).output_dir) == name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "run", "a.csv", "-o=~/labelled.csv"], "Write -o ~/labelled.csv or --output=~/labelled.csv."),
        (["init", "a.csv", "-o=my config.yaml"], "Write -o 'my config.yaml' or --output='my config.yaml'."),
        (["train", "c.yaml", "-s=training.batch_size=4"], "Write -s training.batch_size=4 or --set=training.batch"),
    ],
)
def test_an_equal_sign_after_a_short_option_is_named_as_the_cause(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.argv", ["finetune", *words])
    assert app.main() == 2
    said = capsys.readouterr().err
    assert "a short option takes no =" in said
    assert message in said


def test_a_config_without_a_search_is_refused_before_anything_heavy_is_imported(
    write_config: Callable[..., Path], tmp_path: Path, run_cli: RunCli
) -> None:
    done = run_cli(["sweep", write_config(tmp_path)], env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 2
    assert "The config has no section sweep" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert imported.isdisjoint({"torch", "transformers", "optuna", "numpy"})
