"""finetune doctor: what training would find on this machine, and what is wrong with it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune_cli.config.fields import TRACKERS
from finetune_cli.errors import ConfigError, first_line
from finetune_cli.records.doctor import Advice, Cpu, Device, DoctorReport, Hub, Place, Torch, Trial
from finetune_cli.runs.hub import hub_status
from finetune_cli.runs.process_check import run_python, try_processes
from finetune_cli.system import xla
from finetune_cli.system.machine import (
    describe_cpu,
    extras_of,
    how_to_install,
    installed,
    look_at,
    misfit,
    nvidia_driver,
    requirement_faults,
)
from finetune_cli.system.places import cache_dir
from finetune_cli.system.plain_imports import reason_for_plain_imports

PACKAGE = "finetune-cli"
NEEDED = (PACKAGE, "torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "huggingface_hub")
# Optional package -> the setting that needs it.
OPTIONAL = {
    "peft": "model.lora",
    "bitsandbytes": "model.dtype: nf4",
    "optuna": "finetune sweep",
    "onnx": "finetune export --format onnx",
    "onnxruntime": "finetune export --format onnx",
    "openvino": "finetune export --format openvino",
    **{package: f"tracking: [{name}]" for name, package in TRACKERS.items()},
    "torch_xla": "TPUs, beside torch of the same minor version",
}
# What to type where a directory cannot be used.
OTHER_PLACE = {
    "runs": "Change to a directory of yours, or use --output-dir",
    "prepared data": "Type: export FINETUNE_CACHE=/a/directory/of/yours",
    "models": "Type: export HF_HOME=/a/directory/of/yours",
}
PROBE_SECONDS = 180
NO_ANSWER = f"it did not answer within {PROBE_SECONDS} s"
MIN_FREE_BYTES = 3 * 10**8  # MiniLM, its optimizer and one checkpoint
ENOUGH_FREE_BYTES = 4 * 10**9  # BERT base with three checkpoints: weights and two moments each
XLA_PROBE = "import torch_xla; print(torch_xla.device())"


def doctor(*, processes: int = 1, offline: bool = False) -> DoctorReport:
    """Look at versions, devices, CPUs, disks and the Hub; with `processes` train two updates on so many.

    Nothing is written but into temporary directories. The report's `faults` say what is wrong, its `hints` what could
    be better; each says what to type.
    """
    driver, gpus = nvidia_driver()
    xla_faults = _xla_faults()
    torch, cpu = probe_torch(**({xla.DEVICE: "cpu"} if xla_faults else {})), describe_cpu()
    places = tuple(look_at(name, path) for name, path in _directories())
    hub = hub_status(offline=offline)
    trial = try_processes(processes) if processes > 1 and torch.error is None else None
    reason = reason_for_plain_imports()
    return DoctorReport(
        versions=installed(NEEDED) | {"python": platform.python_version()},
        optional=installed(OPTIONAL),
        platform=platform.platform(),
        driver=driver,
        imports=f"plain ({reason})" if reason else "lean",
        torch=torch,
        cpu=cpu,
        places=places,
        hub=hub,
        trial=trial,
        faults=(
            *requirement_faults(PACKAGE),
            *_torch_faults(torch, gpus),
            *xla_faults,
            *_faults(places, hub, trial),
        ),
        hints=tuple(_hints(torch, cpu, places, hub)),
    )


def what_for() -> dict[str, str]:
    """Optional package -> the setting that needs it, and what to type for it."""
    extras = extras_of(PACKAGE)
    return {
        name: f"{setting}: {how_to_install(extras[name]) if name in extras else f'pip install {name}'}"
        for name, setting in OPTIONAL.items()
    }


def probe_torch(**variables: str) -> Torch:
    """What torch says, in a process of its own: a driver that crashes takes no report with it."""
    try:
        done = run_python("-m", "finetune_cli.training.device_probe", timeout=PROBE_SECONDS, **variables)
    except subprocess.TimeoutExpired:
        return Torch(error=NO_ANSWER)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return Torch(error=lines[-1] if lines else f"its process ended with code {done.returncode}")
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Torch(**{**facts, "devices": tuple(Device(**device) for device in facts["devices"])})


def _directories() -> list[tuple[str, Path]]:
    from huggingface_hub import constants

    try:
        prepared = cache_dir()
    except ConfigError:
        prepared = Path("~/.cache/finetune")
    return [("runs", Path()), ("prepared data", prepared), ("models", Path(constants.HF_HUB_CACHE))]


def _torch_faults(torch: Torch, gpus: int) -> list[Advice]:
    if torch.error == NO_ANSWER:
        remedy = "Type: uptime, and nvidia-smi: the machine is too busy, or the driver hangs. Then try again"
        return [Advice(f"torch cannot be judged: {torch.error}.", remedy)]
    if torch.error is not None:
        return [
            Advice(f"torch cannot be used: {torch.error.rstrip('.')}.", "Type: pip install --force-reinstall torch")
        ]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus and torch.chosen == "cpu" and hidden is None:
        problem = f"The driver sees {gpus} GPUs, and torch {torch.version} (built for {torch.build}) sees none."
        return [Advice(problem, "Install the build of torch for your driver: https://pytorch.org/get-started/locally")]
    return []


def _xla_faults() -> list[Advice]:
    """A torch_xla that is to be used, and finds no device."""
    reason = xla.reason_for_xla()
    if reason is None:
        return []
    try:
        done = run_python("-c", XLA_PROBE, timeout=PROBE_SECONDS)
        problem = "" if done.returncode == 0 else first_line(RuntimeError(done.stderr.strip().splitlines()[-1]))
    except subprocess.TimeoutExpired:
        problem = f"no answer within {PROBE_SECONDS} s"
    except IndexError:
        problem = f"its process ended with code {done.returncode}"
    remedy = f"Type: unset {xla.RUNTIME}, or export {xla.SWITCH}=0 to train without it"
    return [Advice(f"torch_xla is to be used ({reason}) and finds no device ({problem}).", remedy)] if problem else []


def _faults(places: tuple[Place, ...], hub: Hub, trial: Trial | None) -> Iterator[Advice]:
    for place in places:
        problem = f"cannot be written: {place.problem}" if place.problem else ""
        if not problem and place.free_bytes is not None and place.free_bytes < MIN_FREE_BYTES:
            problem = f"has only {place.free_bytes / 1e6:.0f} MB free"
        if problem:
            yield Advice(f"{place.path} ({place.name}) {problem}.", OTHER_PLACE[place.name])
    if hub.login == "the token is refused":
        yield Advice("The Hub refuses the token.", "Type: hf auth login, or unset HF_TOKEN")
    if trial is not None and trial.error is not None:
        remedy = "Train on one process, and report this output"
        if trial.one_fails:
            remedy = "Mend this first: it is not about several processes"
        yield Advice(f"{trial.error[0].upper()}{trial.error[1:]}".rstrip(".") + ".", remedy)


def _hints(torch: Torch, cpu: Cpu, places: tuple[Place, ...], hub: Hub) -> Iterator[Advice]:
    allowed = max(1, int(min(cpu.usable, cpu.limit or cpu.usable)))
    if torch.threads > allowed:  # they wait for each other's turn, and are many times slower than one for each CPU
        problem = f"torch uses {torch.threads} threads, and this process may use {allowed} CPUs."
        yield Advice(problem, f"Type: export OMP_NUM_THREADS={allowed}")
    for place in places:
        if place.free_bytes is not None and MIN_FREE_BYTES <= place.free_bytes < ENOUGH_FREE_BYTES:
            problem = f"{place.path} ({place.name}) has {place.free_bytes / 1e9:.1f} GB free."
            yield Advice(problem, "A BERT base and its checkpoints take about 4 GB: free some space")
    if hub.state == "not reachable":
        problem = f"{hub.endpoint} cannot be reached ({hub.reason})."
        yield Advice(problem, "What is on this machine still works: add --offline")
    for name, needed in extras_of(PACKAGE).items():  # optional packages: only some settings need them
        if name in OPTIONAL and (wrong := misfit(needed)):
            yield Advice(f"For {OPTIONAL[name]}: {wrong.problem}", wrong.remedy)
