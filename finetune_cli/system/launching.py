"""Several processes for one run: start them, end them together, and tell which of them this process is."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, ExitCode
from finetune_cli.system import xla
from finetune_cli.system.cpus import threads_per_process
from finetune_cli.system.devices import require_a_device_for_each
from finetune_cli.system.signals import STOP_SIGNALS, stop_error

if TYPE_CHECKING:
    from accelerate import PartialState

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
GROUP_TIMEOUT_SECONDS = 1800.0  # the default of TrainingArguments; NCCL itself gives up after 600
GRACE_SECONDS = 10.0  # for the other processes to end by themselves once one has failed
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def process_index() -> int:
    """This process's number among all, as torchrun, accelerate or `launch` set it; 0 for one that was started alone."""
    return int(os.environ.get("RANK", 0))


def launched_processes() -> int:
    """How many processes the launcher started in all; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main_process() -> bool:
    return process_index() == 0


def local_processes() -> int:
    """How many processes of the group run on this machine, as far as the launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or int(os.environ.get("LOCAL_RANK") or 0) + 1)


def join_group(*, timeout_seconds: float = GROUP_TIMEOUT_SECONDS) -> PartialState:
    """Join the process group that the launcher asked for (without a launcher, a group of one), and return its state.

    On a machine without GPU, Accelerate forms the group only when it is told to use the CPU. Otherwise each process
    would train alone, as process 0. timeout_seconds: how long a process waits for the others before it gives up.
    Raises ConfigError when a process would have no GPU of its own, or when the group is not as large as the launcher
    said.
    """
    import torch
    from accelerate import PartialState

    launched = launched_processes()
    if launched > 1:
        require_a_device_for_each(local_processes())
    if xla.in_use():
        xla.start()
    _name_tpu()
    on_cpu = launched > 1 and not torch.accelerator.is_available()
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # read by the Accelerator and by Trainer later on
    # A group of one, or one that exists, takes no timeout.
    options = {"timeout": timedelta(seconds=timeout_seconds)} if launched > 1 or "LOCAL_RANK" in os.environ else {}
    state = PartialState(cpu=on_cpu, **options)
    if state.num_processes != launched:
        raise ConfigError(
            f"{launched} processes were launched, but their group has {state.num_processes}. "
            f"Start with: finetune train CONFIG --num-processes {launched}"
        )
    _require_supported_sharding(state)
    return state


def _name_tpu() -> None:
    """Have Accelerate take the device of torch_tpu, which it does not know."""
    import torch

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None  # torch 2.6 raises
    if device is not None and device.type == "tpu":
        os.environ.setdefault(xla.DEVICE, "tpu:0")


def _require_supported_sharding(state: PartialState) -> None:
    """Refuse sharding on CPUs, which Accelerate silently leaves out, and FSDP 1, which is not supported here.

    Every process loads all weights before they are sharded. When the main process alone loads them, as Accelerate can
    do, the weights of the others have no memory yet. Accelerate matches the parameters of an optimizer by their address
    in memory, so half of the model would not be trained.
    """
    from accelerate.utils import DistributedType, parse_flag_from_env

    for name in ("FSDP", "DEEPSPEED"):
        if parse_flag_from_env(f"ACCELERATE_USE_{name}") and state.distributed_type == DistributedType.MULTI_CPU:
            raise ConfigError(
                f"The launcher asks for {name}, which Accelerate does not do on CPUs. Use --multi_gpu instead."
            )
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    if parse_flag_from_env("ACCELERATE_USE_FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise ConfigError(
            "FSDP version 1 is not supported. Set fsdp_version: 2 in the file that accelerate launch is given, as in "
            "configs/accelerate/fsdp.yaml."
        )


def launch(arguments: Sequence[str], num_processes: int, *, stdout: int | None = None) -> int:
    """Run `python -m finetune_cli ARGUMENTS` in `num_processes` processes of this machine, and return one exit code.

    0 when all succeed, else the code of the first that failed (1 when it was killed). Stop signals are passed on to
    all, and decide the code when a process ends by them. When one process fails, the others have GRACE_SECONDS to end,
    then they are killed. No process outlives this one. stdout: as for subprocess; by default that of this process.
    """
    group = {
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": threads_per_process(num_processes),
    }
    environments = [{**group, "RANK": str(index), "LOCAL_RANK": str(index)} for index in range(num_processes)]
    children, code, signals = _run_all(arguments, environments, stdout=stdout, grace_seconds=GRACE_SECONDS)
    if signals:
        stopped = stop_error(signals[0], "").exit_code
        ended_by_it = any(child.returncode in (stopped, -signals[0]) for child in children)
        if ended_by_it or len(children) < num_processes:
            return stopped
    return code


def launch_workers(arguments: Sequence[str], workers: int) -> int:
    """Run `python -m finetune_cli ARGUMENTS` in so many processes that know nothing of each other; see `launch`.

    Each gets one of the CUDA devices that this process may use, in turn. One that fails leaves the others alone. What
    they print on stdout is left out. Raises ConfigError on a TPU, whose chips one process takes all.
    """
    xla.require_one_process(workers)
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(number) for number in range(workers)] if given is None else given.split(",")
    threads = {"OMP_NUM_THREADS": threads_per_process(workers)}
    environments = [{**threads, "CUDA_VISIBLE_DEVICES": devices[index % len(devices)]} for index in range(workers)]
    _, code, signals = _run_all(arguments, environments, stdout=subprocess.DEVNULL, grace_seconds=float("inf"))
    return stop_error(signals[0], "").exit_code if signals else code


def _run_all(
    arguments: Sequence[str], environments: Sequence[Mapping[str, str]], *, stdout: int | None, grace_seconds: float
) -> tuple[list[subprocess.Popen[bytes]], int, list[int]]:
    """Run the command once in each environment, added to our own, until all have ended.

    Returns the processes (fewer than environments when a signal came first), the exit code of the first that failed,
    and the stop signals that came.
    """
    children: list[subprocess.Popen[bytes]] = []
    with _forwarding_signals(children) as signals:
        for environment in environments:
            if signals:
                break
            # In a new session Ctrl-C reaches a child once, from us, and not a second time from the terminal.
            children.append(
                subprocess.Popen(
                    [sys.executable, "-m", "finetune_cli", *arguments],
                    env={**os.environ, **environment},
                    stdout=stdout,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            )
        return children, _wait_for_all(children, grace_seconds), signals


def _wait_for_all(children: Sequence[subprocess.Popen[bytes]], grace_seconds: float) -> int:
    """The exit code of the first that failed, after which the others have so many seconds; 0 when all succeed."""
    code, deadline = ExitCode.DONE.value, float("inf")
    while True:
        running = [child for child in children if child.poll() is None]
        failed = next((index for index, child in enumerate(children) if child.returncode), None)
        if failed is not None and code == ExitCode.DONE:
            code, deadline = _exit_code(children[failed], failed), time.monotonic() + grace_seconds
        if not running:
            return code
        if time.monotonic() > deadline:
            for child in running:
                child.kill()
        time.sleep(POLL_SECONDS)


def _exit_code(child: subprocess.Popen[bytes], index: int) -> int:
    """A child's exit code. A child that was killed by a signal counts as a failed run and is logged."""
    if child.returncode >= 0:
        return child.returncode
    name = signal.Signals(-child.returncode).name
    hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
    logger.error("Process %d was killed by %s%s", index, name, hint)
    return ExitCode.RUN_FAILED


@contextmanager
def _forwarding_signals(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Inside the block, pass stop signals on to the children. Yields the list of the signals so far.

    After the block, further signals are ignored when there was one: they must not change the exit code.
    """
    forwarded: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        forwarded.append(number)
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    previous: dict[signal.Signals, Any] = {number: signal.signal(number, forward) for number in STOP_SIGNALS}
    try:
        yield forwarded
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if forwarded else handler)


def _die_with_parent() -> None:
    """In the child: ask Linux to kill it when the launching process dies, for whatever reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
