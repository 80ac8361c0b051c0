"""The steps of the GPU check. Each takes an empty directory, returns what it saw, and raises AssertionError if wrong.

    python -m scripts.gpu.steps NAME DIRECTORY        one step, its facts as JSON in the last line

On a machine without GPU each does the same on the CPU, where that has a meaning.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.predict import predict
from finetune_cli.records.training import StepRecord, TrainingEvent
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.training.device_probe import probe
from scripts.gpu import graph_steps
from scripts.gpu.check import ORDER
from scripts.gpu.small import (
    FP32,
    LOOPS,
    ON_GPU,
    REDUCED,
    Skipped,
    Step,
    alike,
    curve,
    finished,
    largest_difference,
    on_a_gpu,
    same_weights,
    started,
    trained,
    write_config,
)


def devices(directory: Path) -> dict[str, Any]:
    """Versions, devices, and the attention kernels that torch chooses."""
    return asdict(probe())


def precisions(directory: Path) -> dict[str, Any]:
    """Both loops in fp32, bf16 and fp16 agree; fp16 recovers from overflows."""
    facts: dict[str, Any] = {}
    for precision in ("fp32", "bf16", *(["fp16"] if ON_GPU else [])):
        for loop in LOOPS:
            trained(directory / f"{precision}-{loop}", precision=precision, loop=loop)
        first, second = (directory / f"{precision}-{loop}" for loop in LOOPS)
        difference = largest_difference(first, second)
        skipped = RunDir(first / "run").read_record().skipped_updates
        facts[precision] = {"difference": difference, "skipped_updates": skipped, "last_loss": curve(first)[-1][0]}
        assert difference <= (FP32 if precision == "fp32" else REDUCED), (
            f"{precision}: the loops differ by {difference}"
        )
        assert skipped is not None, "run.json does not count skipped updates"
        assert skipped < 6, f"{precision}: {skipped} of 12 updates were skipped"
        assert facts[precision]["last_loss"] is not None
    return facts


def predictions(directory: Path) -> dict[str, Any]:
    """`predict` on the validation rows gives the answers that `evaluate` wrote."""
    trained(directory, max_steps=24)
    run = directory / "run"
    evaluate(run, offline=True)
    lines = (run / "eval" / "validation" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    expected = {line["id"]: line["prediction"] for line in map(json.loads, lines)}
    file = Path(__file__).resolve().parents[2] / "finetune_cli/samples/sst2-mini/validation.jsonl"
    answers = {row["id"]: row["prediction"] for row in predict(run, file, offline=True)}
    different = [number for number in expected if answers.get(number) != expected[number]]
    assert answers.keys() == expected.keys(), "other rows"
    assert different == [], f"rows {different[:5]} have another answer"
    return {"rows": len(expected)}


def resume(directory: Path) -> dict[str, Any]:
    """Killed and continued, with dropout: the weights of the run that nobody killed, bit for bit."""
    facts = {}
    for loop in LOOPS:
        whole, killed = directory / f"{loop}-whole", directory / f"{loop}-killed"
        trained(whole, loop=loop, dropout=0.1)
        command = ["-m", "finetune_cli", "train", str(write_config(killed, loop=loop, dropout=0.1)), "-q"]
        process = started(command)
        checkpoint = killed / "run" / "checkpoints" / "step-000003"
        deadline = time.monotonic() + 90
        while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        stopped_after = len(curve(killed))
        finished(started(command))
        assert same_weights(whole, killed), f"{loop}: other weights after a kill after update {stopped_after}"
        facts[loop] = {"killed_after_update": stopped_after, "difference": largest_difference(whole, killed)}
    return facts


def packing(directory: Path) -> dict[str, Any]:
    """Packed rows and padded ones have one curve."""
    trained(directory / "padded")
    trained(directory / "packed", packing=True)
    return alike(directory / "padded", directory / "packed", FP32)


@on_a_gpu("half a minute on a CPU, and no gain there")
def compiled(directory: Path) -> dict[str, Any]:
    """`compile: true`: seconds to the first update, and graphs compiled, in all and after the first update."""
    import torch._dynamo.utils as dynamo

    began, graphs, first = time.monotonic(), [0], [0.0]

    def watch(event: TrainingEvent) -> None:
        if isinstance(event, StepRecord) and event.step == 1:
            first[0], graphs[0] = time.monotonic() - began, dynamo.counters["stats"]["unique_graphs"]

    trained(directory, listen=watch, compile=True)
    total = dynamo.counters["stats"]["unique_graphs"]
    return {"seconds_to_first_update": first[0], "graphs": total, "after_the_first_update": total - graphs[0]}


def one_process_group(directory: Path) -> dict[str, Any]:
    """`torchrun --nproc_per_node 1` forms a real group (NCCL on a GPU) and trains the same curve."""
    trained(directory / "alone")
    config = write_config(directory / "group")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1", "-m", "finetune_cli"]
    finished(started([*command, "train", str(config), "-q"]))
    return alike(directory / "alone", directory / "group", FP32)


@on_a_gpu("Accelerate does not shard on CPUs")
def sharded(directory: Path) -> dict[str, Any]:
    """FSDP 2 with one process, by configs/accelerate/fsdp.yaml."""
    trained(directory / "alone")
    config = write_config(directory / "fsdp")
    command = ["-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/fsdp.yaml"]
    command += ["--num_processes", "1", "-m", "finetune_cli", "train", str(config), "-q"]
    finished(started(command))
    return alike(directory / "alone", directory / "fsdp", REDUCED)


def two_on_one_device(directory: Path) -> dict[str, Any]:
    """Two processes over gloo, both on the one device: the curve of one process."""
    trained(directory / "alone")
    config = write_config(directory / "two")
    shared = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577"}
    shared |= {} if ON_GPU else {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    processes = [started(["-m", "scripts.gpu.over_gloo", str(config)], RANK=str(rank), **shared) for rank in range(2)]
    finished(*processes)
    return alike(directory / "alone", directory / "two", FP32)


@on_a_gpu()
def out_of_memory(directory: Path) -> dict[str, Any]:
    """With memory for fewer rows at once, training goes on with half of them, and with the same curve."""
    peaks = {}
    for rows in (16, 8):
        torch.cuda.reset_peak_memory_stats()
        trained(directory / f"rows-{rows}", micro_batch_size=rows, cuda_graphs=False)
        peaks[rows] = torch.cuda.max_memory_reserved()
        torch.cuda.empty_cache()
    if peaks[16] <= peaks[8]:
        raise Skipped("8 rows take as much memory as 16 on this device")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((peaks[8] + peaks[16]) / 2 / total)
    try:
        trained(directory / "little", cuda_graphs=False)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    rows = RunDir(directory / "little" / "run").read_record().micro_batch_size
    return {"peaks": peaks, "micro_batch_size": rows, **alike(directory / "rows-16", directory / "little", FP32)}


STEPS: dict[str, Step] = {name: getattr(graph_steps, name, None) or globals()[name] for name in ORDER}


def run(name: str, directory: Path) -> dict[str, Any]:
    """{"state": "passed", "failed" or "skipped", "seconds", and "facts" or "reason"}."""
    began = time.monotonic()
    try:
        facts = STEPS[name](directory)
        result: dict[str, Any] = {"state": "passed", "facts": facts}
    except Skipped as err:
        result = {"state": "skipped", "reason": str(err)}
    except Exception as err:
        traceback.print_exc()
        result = {"state": "failed", "reason": f"{type(err).__name__}: {err}"}
    return {**result, "seconds": round(time.monotonic() - began, 1)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(sys.argv[1], Path(sys.argv[2]))) + "\n")
