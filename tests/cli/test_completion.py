"""What TAB offers: in a real bash, and by the protocol of the three shells; light, because somebody waits for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from finetune_cli.cli import app
from finetune_cli.tasks import METRICS
from tests.conftest import ROOT

HEAVY = ("numpy", "pandas", "pyarrow", "pydantic", "rich", "tokenizers", "torch", "transformers", "yaml")
KEYS_NEED = ["pydantic"]  # the fields of the config are its classes
PROGRAM = """
import atexit, json, sys
heavy = {heavy!r}
atexit.register(lambda: print(json.dumps([name for name in heavy if name in sys.modules]), file=sys.stderr))
from finetune_cli.cli.app import main
sys.argv = ["finetune"]
sys.exit(main())
"""


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **more}


def answer(folder: Path, **variables: str) -> tuple[str, list[str]]:
    """What the program prints when a shell asks it, and which heavy modules it has loaded for that."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY)],
        env=environment(**variables), cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout, json.loads(done.stderr)


def variables_of(shell: str, words: Sequence[str]) -> dict[str, str]:
    """How a shell asks what could follow `finetune WORDS`."""
    if shell == "bash":
        asked = {"COMP_WORDS": "\n".join(["finetune", *words]), "COMP_CWORD": str(len(words))}
    else:
        asked = {"_TYPER_COMPLETE_ARGS": " ".join(["finetune", *words]), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return {"_FINETUNE_COMPLETE": f"complete_{shell}", **asked}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two configs, a folder, a finished run with a split of its own, and one of two seeds."""
    for name in ("mine.yaml", "other.yml", "rows.csv"):
        (tmp_path / name).touch()
    (tmp_path / "configs").mkdir()
    for run in ("runs/sst2", "runs/two/seed-1", "runs/two/seed-2"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "runs/sst2/eval/test_news").mkdir(parents=True)
    (tmp_path / "runs/sst2/eval/test_news/metrics.json").write_text("{}", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pred"], ["predict"]),
        (["train", "mine.yaml", "--ov"], ["--overwrite"]),
        (["train", "m"], ["mine.yaml"]),
        (["train", "c"], ["configs/"]),
        (["train", "b"], ["builtin:quickstart", "builtin:smoke"]),
        (["evaluate", "runs/"], ["runs/sst2", "runs/two/seed-1", "runs/two/seed-2", "runs/two/", "runs/sst2/"]),
        (["compare", "runs/t"], ["runs/two/seed-1", "runs/two/seed-2"]),
        (["evaluate", "runs/sst2", "--split", "t"], ["test", "train", "test_news"]),
        (["evaluate", "runs/sst2", "--for", "f1_m"], ["f1_macro", "f1_micro"]),
        (["evaluate", "runs/sst2", "--gate", "h"], ["hamming_loss<="]),
        (["evaluate", "runs/sst2", "--max-drop", "mat"], ["matthews="]),
        (["compare", "a", "b", "--fail-if-worse", "mse"], ["mse"]),
        (["init", "--task", "ms"], []),
        (["init", "--task", "mr"], ["mrpc"]),
        (["train", "mine.yaml", "-s", "model.lora.r"], ["model.lora.r=8"]),
        (["train", "mine.yaml", "-s", "training.l"], [
            "training.loop=", "training.learning_curve=", "training.learning_rate=", "training.lr_scheduler=",
            "training.label_smoothing=",
        ]),
        (["train", "mine.yaml", "--set", "training.pac"], ["training.packing=true", "training.packing=false"]),
    ],
)  # fmt: skip
def test_offers_what_fits(
    words: list[str],
    expected: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["finetune"])
    for name, value in variables_of("bash", words).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(expected)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_whole_words(shell: str, place: Path) -> None:
    words = ["train", "mine.yaml", "-s", "training.loop=a"]
    output, heavy = answer(place, **variables_of(shell, words))
    assert "training.loop=accelerate" in output
    assert "training.loop=trainer" not in output
    assert heavy == KEYS_NEED


@pytest.mark.parametrize(
    ("shell", "words", "expected", "said"),
    [
        ("zsh", ["ev"], "evaluate", "Score a split or a file"),
        ("fish", ["train", "mine.yaml", "--ov"], "--overwrite", "Delete"),
        ("bash", ["evaluate", "runs/s"], "runs/sst2", ""),
        ("zsh", ["evaluate", "runs/sst2", "--split", "test_"], "test_news", ""),
        ("fish", ["evaluate", "runs/sst2", "--for", "pea"], "pearson", ""),
    ],
)
def test_an_answer_loads_nothing_that_takes_longer_than_itself(
    shell: str, words: list[str], expected: str, said: str, place: Path
) -> None:
    output, heavy = answer(place, **variables_of(shell, words))
    assert expected in output
    assert said in output
    assert heavy == []


def test_every_metric_is_offered_as_the_best(place: Path) -> None:
    words = ["train", "mine.yaml", "-s", "evaluation.metric_for_best="]
    output, heavy = answer(place, **variables_of("fish", words))
    assert heavy == KEYS_NEED
    assert output.split() == [f"evaluation.metric_for_best={name}" for name in METRICS]


@pytest.fixture
def with_program(place: Path) -> dict[str, str]:
    """The environment of a shell that finds `finetune`."""
    program = place / "bin" / "finetune"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m finetune_cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    variables = environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", HOME=str(place))
    return {**variables, "PATH": f"{program.parent}:{variables['PATH']}"}


def in_shell(shell: Sequence[str], commands: str, place: Path, variables: dict[str, str]) -> list[str]:
    """The words that the commands print, once the shell has read what `--show-completion` prints for it."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    script = subprocess.run(
        ["finetune", "--show-completion", shell[0]], env=variables, capture_output=True, text=True, check=True
    ).stdout
    done = subprocess.run(
        [*shell, "-c", f"{script}\n{commands}"], env=variables, cwd=place, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash_breaks_words_at_equal_signs_and_colons(place: Path, with_program: dict[str, str]) -> None:
    def complete(words: Sequence[str]) -> list[str]:
        listed = " ".join(f"'{word}'" for word in words)
        asks = f"COMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _finetune_completion finetune\n"
        return in_shell(["bash", "--norc"], f'{asks}printf "%s\\n" "${{COMPREPLY[@]}}"', place, with_program)

    assert complete(["finetune", "train", "mine.yaml", "-s", "training.loop", "=", "acc"]) == ["accelerate"]
    assert complete(["finetune", "train", "mine.yaml", "-s", "training.loop", "="]) == ["trainer", "accelerate"]
    assert complete(["finetune", "train", "builtin", ":", "q"]) == ["quickstart"]
    assert complete(["finetune", "train", "mine.yaml", "-s", "seed", "=", "1", "--ov"]) == ["--overwrite"]
    assert complete(["finetune", "va"]) == ["validate"]


def test_fish_asks_for_itself(place: Path, with_program: dict[str, str]) -> None:
    def complete(line: str) -> list[str]:
        return in_shell(["fish", "--no-config"], f"complete -C {line!r}", place, with_program)

    assert complete("finetune va")[0] == "validate"
    assert complete("finetune train mine.yaml -s training.loop=a") == ["training.loop=accelerate"]
