"""Hooks, the action, cron and systemd: the commands that these tools would run are run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.unit.documents import blocks, read, section

Run = Callable[..., subprocess.CompletedProcess[str]]
SCORES = {
    "split": "validation",
    "n": 8,
    "metrics": {"f1": {"value": 0.5, "low": 0.25, "high": 0.75}, "auroc": {"value": None, "low": None, "high": None}},
    "gates": [{"gate": "f1>=0.9", "passed": False, "found": 0.5, "baseline": None, "note": ""}],
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for the PATH, in which tests put a finetune."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def install_real(programs: Path) -> None:
    write_program(programs / "finetune", f'exec "{sys.executable}" -m finetune_cli "$@"')


def install_fake(programs: Path, *, train: int = 0, evaluate: int = 0) -> Path:
    """A finetune that writes its arguments down, prints scores and ends as told; returns what it writes to."""
    (programs / "scores.json").write_text(json.dumps(SCORES), encoding="utf-8")
    calls = programs / "calls.txt"
    write_program(
        programs / "finetune",
        f'printf "%s\\n" "$*" >>"{calls}"\n'
        f'case $1 in train) exit {train} ;; *) cat "{programs}/scores.json"; exit {evaluate} ;; esac',
    )
    return calls


def write_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def run(programs: Path, tmp_path: Path) -> Run:
    def start(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            command, env={**own, **variables}, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return start


def test_the_hook_shows_mistakes_of_run_configs_and_passes_over_other_files(
    run: Run, programs: Path, tmp_path: Path
) -> None:
    (hook,) = yaml.safe_load(read(".pre-commit-hooks.yaml"))
    assert (hook["id"], hook["types"]) == ("finetune-validate", ["yaml"])
    install_real(programs)
    files = {
        "good.yaml": "task: mrpc\nmodel: {name_or_path: m}\n",
        "bad.yaml": "task: mrpc\nmodel: {name_or_path: m}\nseed: x\n",
        "worse.yaml": "base: good.yaml\ntraining: {lerning_rate: 1}\n",
        "workflow.yaml": "on: push\njobs: {a: {runs-on: b}}\n",
        "broken.yaml": "a: [\n",
        "latin.yaml": "a: caf\xe9\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    done = run([*shlex.split(hook["entry"]), *files])
    assert done.returncode == 2
    assert re.findall(r"^\S+:\d+:\d+", done.stderr, re.MULTILINE) == ["bad.yaml:3:7", "worse.yaml:2:12"]
    assert run([*shlex.split(hook["entry"]), "good.yaml", "workflow.yaml", "broken.yaml"]).returncode == 0


def action_step(inputs: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The script of the action's last step and its variables, as GitHub would fill them in."""
    action = yaml.safe_load(read("action.yml"))
    defaults = {name: str(spec["default"]) for name, spec in action["inputs"].items()}
    assert set(inputs) <= set(defaults)
    step = action["runs"]["steps"][-1]

    def filled(text: str) -> str:
        return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: {**defaults, **inputs}[found[1]], text)

    assert "${{" not in step["run"]  # an input inside a script would be a command
    return step["run"], {name: filled(value) for name, value in step["env"].items()}


def run_action(run: Run, tmp_path: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], str, str]:
    """The step's process, the summary and the outputs."""
    script, variables = action_step({name.replace("_", "-"): value for name, value in inputs.items()})
    summary, output = tmp_path / "summary.md", tmp_path / "output"
    done = run(
        ["bash", "-e", "-c", script], **variables, GITHUB_ACTION_PATH=str(ROOT), GITHUB_STEP_SUMMARY=str(summary),
        GITHUB_OUTPUT=str(output),
    )  # fmt: skip
    return done, *(path.read_text(encoding="utf-8") if path.exists() else "" for path in (summary, output))


def test_the_action_trains_scores_and_writes_a_summary(run: Run, programs: Path, tmp_path: Path) -> None:
    calls = install_fake(programs, evaluate=4)
    done, summary, output = run_action(
        run, tmp_path, config="c.yaml", set="seed=1\ntraining.num_epochs=1\n", gates="f1>=0.9\n", baseline="runs/main",
        max_drop="f1=0.01",
    )  # fmt: skip
    assert done.returncode == 4
    assert calls.read_text(encoding="utf-8").splitlines() == [
        "train c.yaml --set seed=1 --set training.num_epochs=1",
        "evaluate c.yaml --json --set seed=1 --set training.num_epochs=1 --split validation --gate f1>=0.9 "
        "--baseline runs/main --max-drop f1=0.01 --junit finetune-gates.xml",
    ]
    assert "| f1 | 0.500 | 0.250 to 0.750 |" in summary
    assert "| auroc | undefined |  |" in summary
    assert "| `f1>=0.9` | 0.5000 | **failed** |" in summary
    assert output.splitlines() == ["result=finetune-result.json", "exit-code=4"]


@pytest.mark.parametrize("code", [1, 2, 3, 75])
def test_the_action_ends_as_a_failed_training_did(code: int, run: Run, programs: Path, tmp_path: Path) -> None:
    calls = install_fake(programs, train=code)
    done, summary, output = run_action(run, tmp_path, config="c.yaml")
    assert (done.returncode, summary, output) == (code, "", f"exit-code={code}\n")
    assert calls.read_text(encoding="utf-8") == "train c.yaml\n"


def test_a_gate_of_the_config_that_failed_in_training_stays_failed(run: Run, programs: Path, tmp_path: Path) -> None:
    install_fake(programs, train=4)
    done, summary, _ = run_action(run, tmp_path, config="c.yaml")
    assert done.returncode == 4
    assert summary


def test_the_action_scores_a_run_without_training(run: Run, programs: Path, tmp_path: Path) -> None:
    calls = install_fake(programs)
    done, *_ = run_action(run, tmp_path, target="runs/a", data="rows of mine.csv", junit="")
    assert done.returncode == 0
    assert calls.read_text(encoding="utf-8") == "evaluate runs/a --json --data rows of mine.csv\n"
    done, *_ = run_action(run, tmp_path)
    assert done.returncode == 2


@pytest.mark.slow
def test_the_action_with_a_real_run(run: Run, programs: Path, tmp_path: Path) -> None:
    install_real(programs)
    done, summary, _ = run_action(
        run, tmp_path, config="builtin:smoke", set="training.max_steps=2\nevaluation.every=2", gates="accuracy>=0.999"
    )
    assert done.returncode == 4, done.stderr
    assert "**failed**" in summary
    assert 'failures="1"' in (tmp_path / "finetune-gates.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("code", "mail"),
    [(0, ""), (75, ""), (4, "nightly: a gate failed"), (1, "nightly: failed with 1"), (3, "nightly: failed with 3")],
)
def test_the_cron_line_writes_only_when_somebody_has_to_act(code: int, mail: str, run: Run, programs: Path) -> None:
    (line,) = blocks(section(read("docs/teams.md"), "## At night: cron"), "crontab")
    command = line.text.split(maxsplit=5)[5]
    assert "%" not in command  # cron reads it as the end of the line
    install_fake(programs, train=code)
    command = command.replace("/srv/texts", str(programs)).replace(".venv/bin/finetune", "finetune")
    done = run(["sh", "-c", command])
    assert done.stdout.startswith(mail)
    assert bool(done.stdout) == bool(mail)


def unit() -> str:
    (block,) = blocks(section(read("docs/teams.md"), "## Over reboots: systemd"), "ini")
    return block.text


@pytest.mark.parametrize(("status", "said"), [("0", ""), ("4", "a gate failed"), ("75", "")])
def test_the_unit_says_in_the_journal_that_a_gate_failed(status: str, said: str, run: Run) -> None:
    command = re.findall(r"^ExecStopPost=(.*)$", unit(), re.MULTILINE)[0]
    assert run(shlex.split(command), EXIT_STATUS=status).stdout.startswith(said)


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    text = unit().replace("/srv/texts/.venv/bin/finetune", sys.executable).replace("/srv/texts", str(tmp_path))
    path = tmp_path / "finetune-texts.service"
    path.write_text(text, encoding="utf-8")
    done: Any = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if path.name in line]) == (0, [])
