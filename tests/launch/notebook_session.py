"""What a notebook would do, in one Python process: train, stop, go on and evaluate, each with 1, 2 or 3 processes.

Run as `python notebook_session.py CONFIG`; the tests read what it leaves beside the config; ENDED is written last.
Forked processes start with everything imported, so all of this costs one start of torch. Whatever needs several
processes comes first: once this process itself has joined a group, notebook_launcher refuses to fork.
"""

import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from accelerate import notebook_launcher

from finetune_cli import evaluate, load_config, train
from finetune_cli.records.training import StepRecord
from tests.launch.launch_runs import ENDED, STOP_AFTER

LOOPS = ("trainer", "accelerate")


def train_until_stopped(config: Any) -> None:
    """Train with a listener that sends one process a scheduler's signal; it travels with the next update's loss."""

    def stop(event: Any) -> None:
        if isinstance(event, StepRecord) and event.step == STOP_AFTER - 1 and os.environ.get("RANK") == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    train(config, listen=stop)


def launch(function: Any, *arguments: Any, processes: int) -> str | None:
    """Run in so many forked processes; what the launcher raised, as text."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    try:
        notebook_launcher(function, arguments, num_processes=processes, use_port=port)
    except Exception as err:
        return f"{type(err).__name__}: {err}"
    return None


def main() -> None:
    file = Path(sys.argv[1])

    def config(name: str, loop: str) -> Any:
        return load_config(file, [f"output_dir={file.parent / name}", f"training.loop={loop}"])

    def keep_scores(name: str) -> None:
        shutil.copytree(file.parent / "trainer-2" / "eval" / "validation", file.parent / name)

    began, ended = time.monotonic(), {}
    for loop in LOOPS:
        ended[f"{loop}-2"] = launch(train, config(f"{loop}-2", loop), processes=2)
        ended[f"{loop}-stopped"] = launch(train_until_stopped, config(f"{loop}-stopped", loop), processes=2)
    for processes in (2, 3):
        ended[f"scores-{processes}"] = launch(evaluate, file.parent / "trainer-2", processes=processes)
        keep_scores(f"scores-{processes}")
    for loop in LOOPS:
        ended[f"{loop}-1"] = launch(train, config(f"{loop}-1", loop), processes=1)
        ended[f"{loop}-continued"] = launch(train, config(f"{loop}-stopped", loop), processes=1)
    ended["scores-1"] = launch(evaluate, file.parent / "trainer-2", processes=1)
    keep_scores("scores-1")
    ended["seconds"] = time.monotonic() - began
    (file.parent / ENDED).write_text(json.dumps(ended), encoding="utf-8")


if __name__ == "__main__":
    main()
