"""On a CUDA device, really: python -m pytest -m gpu tests/gpu. The same steps as scripts/gpu_check.sh, and a few more.

FINETUNE_GPU_TESTS_ON_CPU=1 runs what has a meaning on a CPU there, to try the tests themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune_cli.runs.run_dir import RunDir
from scripts.gpu import graph_steps, steps
from scripts.gpu.small import trained, write_config
from tests.training.small_runs import Run, make_rows

ON_CUDA = torch.cuda.is_available()
LOOPS = ("trainer", "accelerate")
LOOSE = 5e-2  # relative; fp16 and bf16 have three digits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (ON_CUDA or os.environ.get("FINETUNE_GPU_TESTS_ON_CPU")), reason="needs a CUDA device; see CONTRIBUTING.md"
    ),
]
on_cuda_alone = pytest.mark.skipif(not ON_CUDA, reason="means nothing on a CPU")


@pytest.mark.parametrize(
    "step",
    [
        steps.precisions,
        steps.predictions,
        steps.resume,
        steps.packing,
        steps.out_of_memory,
        graph_steps.graphs,
        graph_steps.graphs_refused,
        graph_steps.families,
    ],
)
def test_a_step_of_the_gpu_check_holds(step: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    """Both loops agree in each precision; predict equals evaluate; killed and resumed bit for bit; packed as padded;
    with too little memory half the rows at once; with CUDA graphs the same bits as without, for a model that cannot be
    recorded and for many families, too."""
    try:
        assert step(tmp_path)
    except steps.Skipped as err:
        pytest.skip(str(err))


@on_cuda_alone
def test_an_update_waits_for_the_device_nowhere_but_where_old_readings_are_fetched(tmp_path: Path) -> None:
    found = graph_steps.synchronisations(tmp_path)
    elsewhere = {
        name: [place for place in places if "training/readings.py" not in place] for name, places in found.items()
    }
    assert elsewhere == {"padded": [], "packed": []}


@on_cuda_alone
def test_fp16_recovers_from_overflows_and_both_loops_leave_out_the_same_updates(tmp_path: Path) -> None:
    """A loss of 4096 times its size makes gradients infinite until the scale has been halved often enough."""

    def enlarge(parts: Any) -> None:
        losses = parts.objective.losses
        parts.objective.losses = lambda logits, labels: losses(logits, labels) * 4096

    settings: dict[str, Any] = {"precision": "fp16", "num_epochs": 6, "tamper": enlarge}
    first, second = (Run(loop, tmp_path / loop, make_rows(40), **settings).train() for loop in LOOPS)
    is_finite = np.isfinite(first.updates()[:, 1])
    assert not is_finite.all(), "nothing overflowed: the test shows nothing"
    assert is_finite[-5:].all()
    assert np.array_equal(is_finite, np.isfinite(second.updates()[:, 1]))
    ours, theirs = (run.updates()[is_finite] for run in (first, second))
    assert np.allclose(ours, theirs, rtol=LOOSE)
    before = first.untrained_weights()
    moved = [
        name for name, value in first.model.state_dict().items() if not torch.equal(value.cpu(), before[name].cpu())
    ]
    assert any("query.weight" in name for name in moved)


@pytest.mark.parametrize("loop", LOOPS)
def test_one_process_takes_one_gpu_of_several(loop: str, tmp_path: Path) -> None:
    if ON_CUDA and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    trained(tmp_path, loop=loop)
    [device] = RunDir(tmp_path / "run").read_record().devices
    assert device.startswith("cuda:0" if ON_CUDA else "cpu")
    assert ON_CUDA is False or torch.cuda.max_memory_allocated(1) == 0


@on_cuda_alone
def test_fp32_that_is_asked_for_uses_no_tf32_and_cudnn_attention_is_off(tmp_path: Path) -> None:
    trained(tmp_path, precision="fp32")
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.cudnn_sdp_enabled()


@on_cuda_alone
def test_a_checkpoint_of_the_gpu_continues_on_the_cpu(tmp_path: Path) -> None:
    config = write_config(tmp_path, max_steps=6)
    steps.finished(steps.started(["-m", "finetune_cli", "train", str(config), "-q"]))
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000003"
    command = ["-m", "finetune_cli", "train", str(config), "-q", "--resume", str(checkpoint)]
    steps.finished(steps.started(command, CUDA_VISIBLE_DEVICES=""))
    assert RunDir(tmp_path / "run").read_record().devices == ["cpu"]
