"""What the tests of the command line share: an environment to run it in, and what is known of a trained run."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Trained:
    """A finished run: its config file, its directory, the cache it used, and what `finetune train` had printed."""

    config: Path
    run: Path
    cache: Path
    stdout: str
    stderr: str


def command_environment(cache: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(cache),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONPATH": str(ROOT),
        "FINETUNE_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        **more,
    }
