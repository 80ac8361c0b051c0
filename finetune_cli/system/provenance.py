"""Facts about the process for run.json: versions, machine, git commit, peak memory."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "safetensors")


def describe_process() -> dict[str, Any]:
    """The command, versions, platform and the commit of the working directory, for run.json."""
    return {
        "command": shlex.join(["finetune", *sys.argv[1:]]),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"finetune-cli": package_version("finetune-cli"), "python": platform.python_version()}
        | {name: package_version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "git_commit": output_of("git", "rev-parse", "HEAD", seconds=5).strip() or None,
    }


def peak_memory_bytes() -> int:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB on Linux


def package_version(package: str) -> str | None:
    """The version of an installed package; None when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def output_of(*command: str, seconds: float) -> str:
    """What a program writes to stdout; nothing when it is not there, fails, or takes longer."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=seconds, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
