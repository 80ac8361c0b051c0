"""Process groups: a GPU for each process, how long they wait for one another, and leaving."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate
import pytest
import torch

from finetune_cli.cli.processes import train_each_on_several, train_on_several
from finetune_cli.commands import train as module
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, ExitCode, GateFailedError
from finetune_cli.runs.sharding import require_supported_launch
from finetune_cli.system import cpus
from finetune_cli.system.devices import require_a_device_for_each, visible_gpus
from finetune_cli.system.group import leaving_group
from finetune_cli.system.launching import GROUP_TIMEOUT_SECONDS, join_group, launch_workers, local_processes

Write = Callable[..., Path]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """gpus(count): torch sees so many GPUs, and the environment says nothing of processes."""
    for name in ("CUDA_VISIBLE_DEVICES", "ACCELERATE_USE_CPU", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(("count", "processes"), [(0, 8), (1, 1), (2, 2), (4, 3)])
def test_as_many_processes_as_gpus_and_any_number_on_cpus(
    gpus: Callable[[int], None], count: int, processes: int
) -> None:
    gpus(count)
    require_a_device_for_each(processes)


def test_more_processes_than_gpus_are_refused_with_numbers_and_what_to_type(
    gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    with pytest.raises(ConfigError) as caught:
        require_a_device_for_each(4)
    assert caught.value.exit_code == ExitCode.CONFIG
    assert str(caught.value) == (
        "4 processes need 4 GPUs, and 2 are visible here (CUDA_VISIBLE_DEVICES=0,3). Start --num-processes 2, or train "
        "on the CPUs: ACCELERATE_USE_CPU=true."
    )
    gpus(1)
    with pytest.raises(ConfigError, match=r"1 is visible here.* Start one process: no --num-processes"):
        require_a_device_for_each(2)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert visible_gpus() == 0
    require_a_device_for_each(2)


@pytest.mark.parametrize("several", [train_on_several, train_each_on_several])
def test_they_are_refused_before_rows_are_prepared(
    gpus: Callable[[int], None], tmp_path: Path, write_config: Write, several: Callable[..., Any]
) -> None:
    gpus(1)
    config = load_config(write_config(tmp_path), ["training.seeds=[1, 2]"])
    options = {"overwrite": False, "final": False, "switches": ()} if several is train_each_on_several else {}
    with pytest.raises(ConfigError, match="2 processes need 2 GPUs"):
        several(config, 2, offline=True, **options)
    assert not (tmp_path / "run").exists()


def test_a_launched_process_refuses_before_the_group_forms(
    gpus: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(2)
    monkeypatch.setattr(accelerate, "PartialState", lambda **_: pytest.fail("the group was formed"))
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="3 processes need 3 GPUs"):
        join_group()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert local_processes() == 4
    with pytest.raises(ConfigError, match="4 processes need 4 GPUs"):
        join_group()


def test_the_group_gets_the_timeout(monkeypatch: pytest.MonkeyPatch, gpus: Callable[[int], None]) -> None:
    gpus(0)
    asked: list[dict[str, Any]] = []

    class State:
        num_processes, distributed_type = 2, None

        def __init__(self, **options: Any) -> None:
            asked.append(options)

    monkeypatch.setattr(accelerate, "PartialState", State)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")  # join_group sets it: put back afterwards
    join_group()
    join_group(timeout_seconds=60)
    assert [options["timeout"] for options in asked] == [timedelta(seconds=1800), timedelta(seconds=60)]


class _Enough(Exception):
    """The test has seen what it wanted."""


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
@pytest.mark.parametrize(("settings", "seconds"), [([], GROUP_TIMEOUT_SECONDS), (["training.ddp_timeout=60"], 60)])
def test_the_timeout_of_the_config_reaches_the_group(
    tmp_path: Path,
    write_config: Write,
    monkeypatch: pytest.MonkeyPatch,
    loop: str,
    settings: list[str],
    seconds: float,
) -> None:
    asked: list[float] = []

    def join(*, timeout_seconds: float) -> None:
        asked.append(timeout_seconds)
        raise _Enough

    monkeypatch.setattr(module, "join_group", join)
    with pytest.raises(_Enough):
        module.train(load_config(write_config(tmp_path), [*settings, f"training.loop={loop}"]))
    assert asked == [seconds]


WAITING = """
import sys, time
from datetime import timedelta
from accelerate import PartialState
import torch
from finetune_cli.system.group import leaving_group, wait_for_main_process
with leaving_group():
    state = PartialState(cpu=True, timeout=timedelta(seconds=2))
    for _ in range(2):
        if state.is_main_process:
            time.sleep(3)
        wait_for_main_process(state)
    state.wait_for_everyone()
assert not torch.distributed.is_initialized()
"""


def test_the_others_wait_longer_than_the_timeout_while_the_main_process_works(tmp_path: Path) -> None:
    """In a barrier the second process gives up after 2 seconds."""
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", str(script)]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_group_is_left_after_a_gate_and_stays_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: left.append("left"))
    with pytest.raises(GateFailedError), leaving_group():
        raise GateFailedError("a gate", report=None)
    assert left == ["left"]
    with pytest.raises(ValueError, match="in one process"), leaving_group():
        raise ValueError("in one process")
    assert left == ["left"]


@pytest.mark.parametrize(
    ("settings", "variables", "message"),
    [
        (["training.loop=accelerate"], {"ACCELERATE_USE_DEEPSPEED": "true"}, "Use training.loop: trainer"),
        ([], {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "ZeRO stage 3"),
        (["training.trainer_args.deepspeed={zero_optimization: {stage: 3}}"], {}, "ZeRO stage 3"),
        (["training.trainer_args.deepspeed=no-such-file.json"], {}, "no-such-file.json cannot be read"),
    ],
)
def test_deepspeed_that_would_train_another_model_or_hang_is_refused(
    tmp_path: Path,
    write_config: Write,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message) as caught:
        require_supported_launch(load_config(write_config(tmp_path), settings))
    if "cannot be read" not in message:
        assert "configs/accelerate/fsdp.yaml" in str(caught.value)


@pytest.mark.parametrize("stage", ["1", "2"])
def test_deepspeed_of_another_stage_is_for_the_trainer_loop(
    tmp_path: Path, write_config: Write, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    config = load_config(write_config(tmp_path), [])
    require_supported_launch(config)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", stage)
    require_supported_launch(config)


def test_workers_share_the_cpus_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the machine, nor all of the container's for each, to which the variable was set at the start."""
    for name in cpus.THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(cpus, "_set_here", set())
    monkeypatch.setattr(cpus, "cpus_of_affinity", lambda: 16)
    monkeypatch.setattr(cpus, "available_cpus", lambda: 4)
    cpus.limit_threads()
    environments: list[dict[str, str]] = []

    def start(command: list[str], *, env: dict[str, str], **options: Any) -> Any:
        environments.append(env)
        return SimpleNamespace(returncode=0, poll=lambda: 0)

    monkeypatch.setattr(subprocess, "Popen", start)
    assert launch_workers(["sweep"], 2) == 0
    assert [env["OMP_NUM_THREADS"] for env in environments] == ["2", "2"]
