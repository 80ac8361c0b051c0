"""Several processes for one run: starting them, ending them together, and knowing which one this is."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, ExitCode
from finetune_cli.system.signals import STOP_SIGNALS, stop_error

if TYPE_CHECKING:
    from accelerate import PartialState

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05
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


def join_group() -> PartialState:
    """Form the process group that the launcher asked for (a group of one without a launcher), and say who is in it.

    Without a GPU, Accelerate joins launched processes only when told to use the CPU; otherwise each would train alone
    as process 0. Raises ConfigError when the group is not as large as the launcher said.
    """
    import torch
    from accelerate import PartialState

    launched = launched_processes()
    on_cpu = launched > 1 and not torch.accelerator.is_available()
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # read by the Accelerator and by Trainer later on
    state = PartialState(cpu=on_cpu)
    if state.num_processes != launched:
        raise ConfigError(
            f"{launched} processes were launched, but their group has {state.num_processes}. "
            f"Start with: finetune train CONFIG --num-processes {launched}"
        )
    _require_supported_sharding(state)
    return state


def _require_supported_sharding(state: PartialState) -> None:
    """Refuse what Accelerate would leave out in silence (no sharding on CPUs), and what is not supported here.

    Every process loads the whole weights before they are sharded: loaded on the main process alone, the others' have no
    memory, by whose address Accelerate finds an optimizer's parameters again; half of the model would not be trained.
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
    """Run `python -m finetune_cli ARGUMENTS` in that many processes of this machine; the exit code of the whole.

    0 when all end well, else the code of the first that failed (1 when it was killed). Stop signals are passed on to
    all, and decide the code when a process ends by them; when one process fails, the others get a moment to end by
    themselves, then are killed. None outlives this process. stdout: as for subprocess; by default this process's own.
    """
    command = [sys.executable, "-m", "finetune_cli", *arguments]
    shared = {
        **os.environ,
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    shared.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_processes)))
    children: list[subprocess.Popen[bytes]] = []
    with _forwarding_signals(children) as forwarded:
        for index in range(num_processes):
            if forwarded:
                break
            environment = {**shared, "RANK": str(index), "LOCAL_RANK": str(index)}
            # A session of its own: Ctrl-C reaches a child once, through us, and not a second time from the terminal.
            children.append(
                subprocess.Popen(
                    command, env=environment, stdout=stdout, start_new_session=True, preexec_fn=_die_with_parent
                )
            )
        code = _wait_for_all(children)
    if forwarded:
        stopped = stop_error(forwarded[0], "").exit_code
        ended_by_it = any(child.returncode in (stopped, -forwarded[0]) for child in children)
        if ended_by_it or len(children) < num_processes:
            return stopped
    return code


def launch_workers(arguments: Sequence[str], workers: int) -> int:
    """Run `python -m finetune_cli ARGUMENTS` in so many processes that know nothing of each other; see `launch`.

    Each gets one of the CUDA devices that this process may use, in turn. One that fails leaves the others alone. What
    they print on stdout is left out.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(number) for number in range(workers)] if given is None else given.split(",")
    command = [sys.executable, "-m", "finetune_cli", *arguments]
    children: list[subprocess.Popen[bytes]] = []
    with _forwarding_signals(children) as forwarded:
        for index in range(workers):
            if forwarded:
                break
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": devices[index % len(devices)]}
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
            children.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            )
        code = _wait_for_all(children, grace_seconds=float("inf"))
    return stop_error(forwarded[0], "").exit_code if forwarded else code


def _wait_for_all(children: Sequence[subprocess.Popen[bytes]], *, grace_seconds: float = GRACE_SECONDS) -> int:
    first_failure: int | None = None
    deadline = float("inf")
    while running := [child for child in children if child.poll() is None]:
        failed = [child for child in children if child.returncode]
        if failed and first_failure is None:
            first_failure = _exit_code(failed[0], children.index(failed[0]))
            deadline = time.monotonic() + grace_seconds
        if time.monotonic() > deadline:
            for child in running:
                child.kill()
        time.sleep(POLL_SECONDS)
    if first_failure is not None:
        return first_failure
    return next((_exit_code(child, index) for index, child in enumerate(children) if child.returncode), ExitCode.DONE)


def _exit_code(child: subprocess.Popen[bytes], index: int) -> int:
    """A child's exit code; a child that a signal killed counts as a failed run, and is named."""
    if child.returncode >= 0:
        return child.returncode
    name = signal.Signals(-child.returncode).name
    hint = " (the system may have run out of memory)" if name == "SIGKILL" else ""
    logger.error("Process %d was killed by %s%s", index, name, hint)
    return ExitCode.RUN_FAILED


@contextmanager
def _forwarding_signals(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Pass the stop signals on to the children inside the block; yields the list of those that came.

    Once one has come, further ones are ignored after the block: they must not change the exit code.
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
    """In the child: be killed when the launching process dies, however it dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
