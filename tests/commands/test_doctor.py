"""finetune doctor: on this machine as it is, and with each thing broken in turn."""

from __future__ import annotations

import json
import pwd
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from packaging.requirements import Requirement

from finetune_cli.commands import doctor as module
from finetune_cli.commands.doctor import doctor
from finetune_cli.errors import ExitCode
from finetune_cli.records.doctor import Device, Torch
from finetune_cli.runs import process_check as trial
from finetune_cli.runs.hub import hub_status
from finetune_cli.runs.process_check import largest_difference, try_processes
from tests.commands.hub_server import READ_TOKEN, Hub, serving
from tests.commands.run_files import Answer

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]
CPU = Device("cpu", None, None, "fp32", "as the test says", {"training": "math", "scoring": "flash"}, "auto: off")
ON_CPU = Torch("2.13.0", "CPU", "cpu", 1, (CPU,))


def install(directory: Path, name: str, code: str) -> dict[str, str]:
    """The variable with which a package of this code is found before all others."""
    (directory / name).mkdir(parents=True)
    (directory / name / "__init__.py").write_text(code)
    return {"PYTHONPATH": f"{directory}:{ROOT}"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """quick(torch=ON_CPU, gpus=0): doctor in this process, told what the device probe and the driver would say."""

    def stub(torch: Torch = ON_CPU, gpus: int = 0) -> None:
        monkeypatch.setattr(module, "probe_torch", lambda **_: torch)
        monkeypatch.setattr(module, "nvidia_driver", lambda: ("580.1" if gpus else None, gpus))

    stub()
    return stub


def test_this_machine_is_fit_and_the_report_can_be_pasted(run_cli: Run) -> None:
    token = "hf_" + "PlantedTokenOfTheDoctorTest" + "Abcdefgh"
    done = run_cli(["doctor", "--offline"], env={"HF_TOKEN": token})
    assert done.returncode == ExitCode.DONE, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "Fit: this machine can train."
    block = lines[lines.index("```") : len(lines) - lines[::-1].index("```")]
    assert any("torch 2." in line and "transformers 5." in line for line in block)
    assert token not in done.stdout + done.stderr
    assert "a token is set" in done.stdout
    assert "/" not in "".join(line for line in block if "kernel" not in line).replace("c++", "")


def test_json_has_the_facts_and_nothing_else_is_on_stdout(run_cli: Run, tmp_path: Path) -> None:
    done = run_cli(["doctor", "--offline", "--json"])
    report = json.loads(done.stdout)
    assert report["fit"] is True
    assert report["hub"]["state"] == "offline"
    assert report["torch"]["devices"][0]["precision"] in ("fp32", "bf16")
    assert set(report["torch"]["devices"][0]["attention"]) == {"training", "scoring"}
    assert {place["name"] for place in report["places"]} == {"runs", "prepared data", "models"}
    assert all(place["free_bytes"] > 0 for place in report["places"])
    assert sorted(path.name for path in tmp_path.iterdir()) == []  # it wrote nothing that stays


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        ({"FINETUNE_CACHE": "/dev/null/cache"}, "export FINETUNE_CACHE="),
        ({"HOME": "/dev/null", "FINETUNE_CACHE": ""}, "export HF_HOME="),
    ],
)
def test_a_place_that_cannot_be_written_is_named_with_what_to_type(
    run_cli: Run, variables: dict[str, str], remedy: str
) -> None:
    done = run_cli(["doctor", "--offline"], env=variables)
    assert done.returncode == ExitCode.MISSING
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith("Not fit: /dev/null/")
    assert "cannot be written: Not a directory" in verdict
    assert remedy in verdict


def test_a_torch_that_cannot_be_imported_is_a_line_and_no_traceback(run_cli: Run, tmp_path: Path) -> None:
    variables = install(tmp_path / "broken", "torch", "raise ImportError('libcudart.so.13: cannot open')")
    done = run_cli(["doctor", "--offline"], env=variables)
    assert done.returncode == ExitCode.MISSING
    assert "torch cannot be used: ImportError: libcudart.so.13: cannot open" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr
    assert "no torch that works, driver" in done.stdout
    assert "threads" not in done.stdout


def test_a_torch_that_does_not_answer_in_time_is_not_called_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with 25 processes for each CPU the imports alone took three minutes."""
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    [fault] = doctor(offline=True).faults
    assert fault.problem == "torch cannot be judged: it did not answer within 180 s."
    assert "uptime" in fault.remedy


def test_a_torch_xla_that_is_asked_for_and_has_no_device_is_a_fault_until_it_is_turned_off(
    tmp_path: Path, quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = install(tmp_path / "xla", "torch_xla", "def device():\n    raise RuntimeError('no TPU found')\n")
    monkeypatch.setenv("PYTHONPATH", variables["PYTHONPATH"])
    monkeypatch.syspath_prepend(tmp_path / "xla")
    for name in (
        "USE_TORCH_XLA",
        "ACCELERATE_TORCH_DEVICE",
        "ACCELERATE_USE_CPU",
    ):  # what a training in this process may have settled
        monkeypatch.delenv(name, raising=False)
    assert doctor(offline=True).fit, "it is installed, and not used"
    monkeypatch.setenv("PJRT_DEVICE", "TPU")
    [fault] = doctor(offline=True).faults
    assert str(fault) == (
        "torch_xla is to be used (PJRT_DEVICE=TPU) and finds no device (RuntimeError: no TPU found). "
        "Type: unset PJRT_DEVICE, or export USE_TORCH_XLA=0 to train without it"
    )
    monkeypatch.setenv("USE_TORCH_XLA", "0")
    assert doctor(offline=True).fit


def test_too_little_room_is_a_fault_and_little_room_a_hint(
    quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 * 10**7))
    report = doctor(offline=True)
    assert {str(fault).split(") ")[1] for fault in report.faults} == {
        "has only 50 MB free. Change to a directory of yours, or use --output-dir",
        "has only 50 MB free. Type: export FINETUNE_CACHE=/a/directory/of/yours",
        "has only 50 MB free. Type: export HF_HOME=/a/directory/of/yours",
    }
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    report = doctor(offline=True)
    assert report.fit
    assert len(report.hints) == 3


def test_a_missing_extra_is_listed_with_what_to_install(
    quick: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., Answer],
) -> None:
    monkeypatch.setattr(module, "OPTIONAL", {"no-such-tracker": "tracking: [no-such-tracker]"})
    answer = command(["doctor", "--offline"])
    assert answer.code == ExitCode.DONE
    assert "not installed; for tracking: [no-such-tracker]: pip install no-such-tracker" in answer.stdout


def test_every_extra_of_the_package_is_listed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for_users = {line for extra, lines in extras.items() if extra not in ("docs", "test", "dev") for line in lines}
    names = {Requirement(line).name for line in for_users} - {"finetune-cli"}
    assert names <= module.OPTIONAL.keys()


def test_a_requirement_that_is_missing_or_too_old_is_a_fault(
    tmp_path: Path, quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "half_installed-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: half-installed\nVersion: 1.0\nRequires-Dist: no-such-package>=3\n"
        "Requires-Dist: pyyaml>=99\nRequires-Dist: typer>=0.1\n"
        "Provides-Extra: more\nRequires-Dist: another-one>=2; extra == 'more'\n"
        "Requires-Dist: numpy>=99; extra == 'more'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "half-installed")
    monkeypatch.setattr(module, "OPTIONAL", {"numpy": "model.tables", "another-one": "model.more"})
    report = doctor(offline=True)
    missing, old = report.faults
    assert str(missing) == "no-such-package is not installed. Type: pip install 'no-such-package>=3'"
    assert old.problem.startswith("pyyaml 6.")
    assert old.remedy == "Type: pip install 'pyyaml>=99'"
    [extra] = report.hints
    assert extra.problem.startswith("For model.tables: numpy 2.")
    assert extra.remedy == "Type: pip install 'numpy>=99'"
    assert module.what_for()["another-one"] == "model.more: pip install 'another-one>=2'"


def test_a_gpu_that_torch_does_not_see_is_a_fault_unless_it_was_hidden(
    quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    quick(gpus=2)
    [fault] = doctor(offline=True).faults
    assert "The driver sees 2 GPUs, and torch 2.13.0 (built for CPU) sees none" in fault.problem
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor(offline=True).fit


def test_more_threads_than_cpus_are_a_hint(quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    quick(Torch("2.13.0", "CPU", "cpu", 64, (CPU,)))
    report = doctor(offline=True)
    allowed = report.cpu.usable
    assert f"Type: export OMP_NUM_THREADS={allowed}" in [hint.remedy for hint in report.hints]
    assert report.fit


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        huggingface_hub.close_session()
        yield server
    huggingface_hub.close_session()


def test_the_hub_is_asked_once_and_says_whether_it_accepts_the_token(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, quick: Callable[..., None]
) -> None:
    assert hub_status(offline=False).login == "no token: only public models and data"
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    accepted = hub_status(offline=False)
    assert (accepted.state, accepted.login) == ("reachable", "the token is accepted")
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN + "x")
    report = doctor()
    assert [str(fault) for fault in report.faults] == [
        "The Hub refuses the token. Type: hf auth login, or unset HF_TOKEN"
    ]
    assert READ_TOKEN not in json.dumps(report.to_json())
    questions = [line for line in hub.asked if "agent-harnesses" not in line]  # huggingface_hub's own
    assert questions == ["GET /", "GET /api/whoami-v2", "GET /api/whoami-v2"]
    before = len(hub.asked)
    assert hub_status(offline=True).state == "offline"
    assert len(hub.asked) == before


def test_a_hub_that_does_not_answer_is_a_hint(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, quick: Callable[..., None]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    report = doctor()
    assert report.hub.state == "not reachable"
    assert report.fit
    assert "add --offline" in report.hints[-1].remedy


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(run_cli: Run) -> None:
    done = run_cli(["doctor", "--offline", "--processes", "2", "--json"], timeout=300)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == ExitCode.DONE, report["verdict"]
    assert report["trial"]["processes"] == 2
    assert report["trial"]["difference"] < 1e-4


def test_a_home_that_is_not_known_is_a_fault_with_what_to_type(
    quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "FINETUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    assert [str(fault) for fault in doctor(offline=True).faults] == [
        "~/.cache/finetune (prepared data) cannot be written: HOME is not set. "
        "Type: export FINETUNE_CACHE=/a/directory/of/yours",
        "~/.cache/huggingface/hub (models) cannot be written: HOME is not set. "
        "Type: export HF_HOME=/a/directory/of/yours",
    ]


def test_a_trial_that_fails_says_why(quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "CONFIG", trial.CONFIG.replace("task: sst2", "task: sst3"))
    report = doctor(processes=2, offline=True)
    assert not report.fit
    assert "Training on 1 process failed" in report.verdict
    assert "config.yaml: 1 mistake" in report.verdict
    assert report.verdict.endswith(". Mend this first: it is not about several processes")
    assert ".." not in report.verdict


def test_another_curve_is_a_fault(quick: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    curves = {1: [0.7, 1.0, 0.6, 0.9], 2: [0.7, 1.0, 0.6, 1.8]}
    monkeypatch.setattr(trial, "_curve", lambda config, directory, count: curves[count])
    result = try_processes(2)
    assert result.difference == 0.5
    monkeypatch.setattr(module, "try_processes", lambda processes: result)
    assert "The curve of 2 processes is not that of one" in doctor(processes=2, offline=True).verdict


def test_differences_are_relative_and_a_missing_update_counts() -> None:
    assert largest_difference([1.0, 2.0], [1.0, 2.0]) == 0
    assert largest_difference([1.0, 2.0], [1.0, 2.002]) == pytest.approx(1e-3, rel=1e-2)
    assert largest_difference([1.0], [1.0, 2.0]) == float("inf")
    assert largest_difference([float("nan")], [float("nan")]) == float("inf")
