"""FSDP through `accelerate launch --config_file`: refused on CPUs, and equal to one process where it runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.launch.conftest import Session
from tests.launch.launch_runs import HERE, ROOT, Ended, free_port, record, require_same_curve, start

ACCELERATE_CONFIG = ROOT / "configs" / "accelerate" / "fsdp.yaml"


FAILING_SAVE = """\
import os
if os.environ.get("RANK") == "1":
    import accelerate.accelerator
    def fail(*args, **options):
        raise ValueError("planted fault")
    accelerate.accelerator.save_fsdp_optimizer = fail
"""


def launch(
    session: Session,
    run: Path,
    script: list[str | Path],
    *options: str | Path,
    fsdp_version: int = 2,
    **environment: str,
) -> Ended:
    config = run.parent / "accelerate.yaml"
    text = ACCELERATE_CONFIG.read_text(encoding="utf-8")
    config.write_text(text.replace("fsdp_version: 2", f"fsdp_version: {fsdp_version}"), encoding="utf-8")
    flags = ["-m", "accelerate.commands.launch", "--config_file", config, "--main_process_port", free_port()]
    command = [*flags, *script, "train", session.config, "--output-dir", run, *options]
    return start(command, cwd=run.parent, cache=session.cache, **environment).finish()


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_a_sharded_model_trains_saves_resumes_and_loads_like_a_whole_one(
    session: Session, tmp_path: Path, loop: str
) -> None:
    from transformers import AutoModelForSequenceClassification

    run = tmp_path / "run"
    script: list[str | Path] = [HERE / "fsdp_on_cpu.py"]
    ended = launch(session, run, script, "-s", f"training.loop={loop}")
    assert ended.code == 0, ended.output
    require_same_curve(run, session.folder / f"{loop}-1")
    checkpoint = run / "checkpoints" / "step-000003"
    assert (checkpoint / "pytorch_model_fsdp_0").is_dir()  # it was sharded indeed
    assert AutoModelForSequenceClassification.from_pretrained(run / "model").config.id2label

    shutil.rmtree(run / "model")
    ended = launch(session, run, script, "-s", f"training.loop={loop}", "--resume", checkpoint)
    assert ended.code == 0, ended.output
    assert record(run)["resumed_from"] == 3
    require_same_curve(run, session.folder / f"{loop}-1")


@pytest.mark.slow
def test_a_sharded_checkpoint_that_fails_in_one_process_ends_the_run(session: Session, tmp_path: Path) -> None:
    """The other process waits in the middle of an exchange then; `launch` gives up on a group that hangs."""
    (tmp_path / "sitecustomize.py").write_text(FAILING_SAVE, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ended = launch(session, tmp_path / "run", [HERE / "fsdp_on_cpu.py"], PYTHONPATH=path)
    assert ended.code != 0
    assert ended.orphans == []
    assert "planted fault" in ended.output
    assert list((tmp_path / "run" / "checkpoints").glob("step-*")) == []


@pytest.mark.slow
def test_fsdp_on_cpus_is_refused_because_accelerate_would_leave_it_out(session: Session, tmp_path: Path) -> None:
    ended = launch(session, tmp_path / "run", ["-m", "finetune_cli"])
    assert ended.code != 0
    assert "asks for FSDP, which Accelerate does not do on CPUs" in ended.output


@pytest.mark.slow
def test_fsdp_version_1_is_refused(session: Session, tmp_path: Path) -> None:
    ended = launch(session, tmp_path / "run", [HERE / "fsdp_on_cpu.py"], fsdp_version=1)
    assert ended.code != 0
    assert "Set fsdp_version: 2" in ended.output
