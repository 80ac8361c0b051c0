"""scripts/slurm_multinode.sh against stand-ins for Slurm's three commands; accelerate and the training are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.conftest import Session
from tests.launch.launch_runs import ROOT, free_port, record, require_same_curve, updates, wait_for

SCRIPT = ROOT / "scripts" / "slurm_multinode.sh"
STAND_INS = {
    # One node: its only task in a process of its own, whose number `scancel` finds.
    "srun": '#!/bin/bash\necho $$ >"$SLURM_TEST/task"\nSLURM_NODEID=0 exec "${@:2}"\n',
    "scancel": '#!/bin/bash\n[[ $1 = --signal=TERM ]] && kill -TERM "$(<"$SLURM_TEST/task")"\n',
    "scontrol": '#!/bin/bash\nif [[ $1 = show ]]; then echo 127.0.0.1; else echo "$@" >"$SLURM_TEST/scontrol"; fi\n',
}


@pytest.fixture
def slurm(tmp_path: Path, session: Session) -> dict[str, str]:
    """The environment of a batch script whose job has one node with two "GPUs"."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in STAND_INS.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    return {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "FINETUNE_CACHE": str(session.cache),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "SLURM_TEST": str(tmp_path),
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "node0",
        "SLURM_JOB_ID": str(int(free_port()) - 20000),  # the script takes the port 20000 + job id
    }


def submit(session: Session, run: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = ["bash", str(SCRIPT), str(session.config), "--output-dir", str(run), "-q"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", cwd=run.parent
    )


@pytest.mark.slow
def test_a_notice_from_slurm_makes_a_checkpoint_and_queues_the_job_again(
    session: Session, tmp_path: Path, slurm: dict[str, str]
) -> None:
    run = tmp_path / "run"
    first = submit(session, run, slurm)
    wait_for(lambda: updates(run))
    first.send_signal(signal.SIGUSR1)
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 75, output
    assert (tmp_path / "scontrol").read_text().split() == ["requeue", slurm["SLURM_JOB_ID"]]
    assert record(run)["exit_code"] == 75

    (tmp_path / "scontrol").unlink()
    second = submit(session, run, slurm)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert not (tmp_path / "scontrol").exists()
    require_same_curve(run, session.folder / "trainer-1")


def test_the_slurm_script_is_valid_bash_and_asks_for_a_config() -> None:
    assert subprocess.run(["bash", "-n", SCRIPT], check=False).returncode == 0
    done = subprocess.run(["bash", SCRIPT], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch")
