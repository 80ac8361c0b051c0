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
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.predict import predict
from finetune_cli.records.training import StepRecord, TrainingEvent
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.training.cuda_graphs import CudaRecorder, Work
from finetune_cli.training.device_probe import probe
from scripts.gpu.small import ON_GPU, curve, finished, largest_difference, same_weights, started, trained, write_config

FP32, REDUCED = 1e-3, 5e-2  # relative differences: kernels add in another order; bf16 has three digits
LOOPS = ("trainer", "accelerate")
FAMILIES = (
    *("bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "modernbert", "mpnet", "xlnet", "nomic_bert"),
    *("qwen2", "qwen3", "llama", "gpt2", "t5", "bart", "gemma2", "mixtral"),
)


class Skipped(Exception):
    """A step that this machine has nothing for."""


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
    difference = largest_difference(directory / "padded", directory / "packed")
    assert difference <= FP32, f"they differ by {difference}"
    return {"difference": difference}


def synchronisations(directory: Path) -> dict[str, Any]:
    """Where an update waits for the device, by line; the copy of an old reading is the only one that is meant."""
    if not ON_GPU:
        raise Skipped("needs a GPU")
    facts = {}
    for name, options in {"padded": {}, "packed": {"packing": True}}.items():
        places: Counter[str] = Counter()

        def watch(event: TrainingEvent) -> None:
            if isinstance(event, StepRecord):  # once all is warm, and before scoring and saving, which may wait
                torch.cuda.set_sync_debug_mode("warn" if 4 <= event.step < 16 else "default")

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cadence = {"max_steps": 24, "evaluate_every": 24, "save_every": 24, "cuda_graphs": False}
            trained(directory / name, listen=watch, loop="accelerate", **cadence, **options)
        torch.cuda.set_sync_debug_mode("default")
        for warning in caught:
            if "synchronizing CUDA" in str(warning.message):
                places[f"{'/'.join(Path(warning.filename).parts[-3:])}:{warning.lineno}"] += 1
        facts[name] = dict(places)
    return facts


def graphs(directory: Path) -> dict[str, Any]:
    """Updates replayed as CUDA graphs and launched kernel by kernel: the same curve and weights, bit for bit.

    A constant learning rate that float32 holds: a graph has the rate in float32, the host in float64.
    """
    if not ON_GPU:
        raise Skipped("needs a GPU")
    facts: dict[str, Any] = {}
    common = {"dropout": 0.1, "max_steps": 30, "learning_rate": 2.0**-10, "lr_scheduler": "constant"}
    for precision in ("fp32", "bf16"):
        for micro_batch_size in ("auto", 6):
            settings = {**common, "precision": precision, "micro_batch_size": micro_batch_size}
            places = {
                (loop, replayed): directory / f"{precision}-{micro_batch_size}-{loop}-{replayed}"
                for loop in LOOPS
                for replayed in (True, False)
            }
            with counted_replays() as count:
                for (loop, replayed), place in places.items():
                    trained(place, loop=loop, cuda_graphs=replayed, **settings)
            first, *others = places.values()
            facts[f"{precision}, micro-batches {micro_batch_size}"] = {
                "replays": count["replays"],
                "graphs": count["graphs"],
                "differences": [largest_difference(first, other) for other in others],
                "same_weights": [same_weights(first, other) for other in others],
            }
    for name, fact in facts.items():
        assert fact["replays"] >= 2 * 29, f"{name}: {fact['replays']} of 58 updates were replayed"
        assert max(fact["differences"]) <= FP32, f"{name}: {fact}"
    return facts


def graphs_refused(directory: Path) -> dict[str, Any]:
    """A model that asks the device during its forward pass goes on without graphs, dropout and all, and says so."""
    if not ON_GPU:
        raise Skipped("needs a GPU")
    from transformers.models.bert.modeling_bert import BertPooler

    pool = BertPooler.forward

    def asking(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        float(hidden.sum())
        return pool(self, hidden)

    BertPooler.forward = asking
    for loop in LOOPS:
        for replayed in (True, False):
            trained(
                directory / f"{loop}-{replayed}", loop=loop, cuda_graphs=replayed, dropout=0.1, learning_rate=2.0**-10
            )
    first, *others = (directory / f"{loop}-{replayed}" for loop in LOOPS for replayed in (True, False))
    log = (first / "run" / "run.log").read_text(encoding="utf-8")
    [said] = [line for line in log.splitlines() if "CUDA graphs" in line]
    facts = {"said": said, "differences": [largest_difference(first, other) for other in others]}
    assert max(facts["differences"]) <= FP32, facts
    return facts


def families(directory: Path) -> dict[str, Any]:
    """Tiny models of many families: which are replayed, and how far their curves are from those without graphs."""
    if not ON_GPU:
        raise Skipped("needs a GPU")
    facts: dict[str, Any] = {}
    for name in FAMILIES:
        settings = {"max_steps": 8, "precision": "fp32", "learning_rate": 2.0**-10, "model": name}
        try:
            for replayed in (True, False):
                with counted_replays() as count:
                    trained(directory / f"{name}-{replayed}", cuda_graphs=replayed, **settings)
                facts.setdefault(name, []).append(count["replays"])
            difference = largest_difference(directory / f"{name}-True", directory / f"{name}-False")
            facts[name] = [facts[name][0], difference]
            log = (directory / f"{name}-True" / "run" / "run.log").read_text(encoding="utf-8")
            facts[name] += [line.rpartition("kernel: ")[2] for line in log.splitlines() if "CUDA graphs" in line]
        except Exception as err:
            facts[name] = f"{type(err).__name__}: {str(err)[:200]}"
    wrong = [name for name, fact in facts.items() if isinstance(fact, str) or fact[1] > FP32]
    assert not wrong, f"{wrong}: {facts}"
    return facts


@contextmanager
def counted_replays() -> Iterator[Counter[str]]:
    """Counts the graphs that are recorded in the block, and how often one is replayed."""
    count: Counter[str] = Counter()
    record = CudaRecorder.record

    def counting(self: CudaRecorder, work: Work) -> Work:
        launch = record(self, work)
        count["graphs"] += 1

        def again() -> None:
            count["replays"] += 1
            launch()

        return again

    CudaRecorder.record = counting  # type: ignore[method-assign]
    try:
        yield count
    finally:
        CudaRecorder.record = record  # type: ignore[method-assign]


def compiled(directory: Path) -> dict[str, Any]:
    """`compile: true`: seconds to the first update, and graphs compiled, in all and after the first update."""
    if not ON_GPU:
        raise Skipped("half a minute on a CPU, and no gain there")
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
    difference = largest_difference(directory / "alone", directory / "group")
    assert difference <= FP32, f"the curves differ by {difference}"
    return {"difference": difference}


def sharded(directory: Path) -> dict[str, Any]:
    """FSDP 2 with one process, by configs/accelerate/fsdp.yaml."""
    if not ON_GPU:
        raise Skipped("Accelerate does not shard on CPUs")
    trained(directory / "alone")
    config = write_config(directory / "fsdp")
    command = ["-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/fsdp.yaml"]
    command += ["--num_processes", "1", "-m", "finetune_cli", "train", str(config), "-q"]
    finished(started(command))
    difference = largest_difference(directory / "alone", directory / "fsdp")
    assert difference <= REDUCED, f"the curves differ by {difference}"
    return {"difference": difference}


def two_on_one_device(directory: Path) -> dict[str, Any]:
    """Two processes over gloo, both on the one device: the curve of one process."""
    trained(directory / "alone")
    config = write_config(directory / "two")
    shared = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577"}
    shared |= {} if ON_GPU else {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    processes = [started(["-m", "scripts.gpu.over_gloo", str(config)], RANK=str(rank), **shared) for rank in range(2)]
    finished(*processes)
    difference = largest_difference(directory / "alone", directory / "two")
    assert difference <= FP32, f"the curves differ by {difference}"
    return {"difference": difference}


def out_of_memory(directory: Path) -> dict[str, Any]:
    """With memory for fewer rows at once, training goes on with half of them, and with the same curve."""
    if not ON_GPU:
        raise Skipped("needs a GPU")
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
    difference = largest_difference(directory / "rows-16", directory / "little")
    assert difference <= FP32, f"the curves differ by {difference}"
    return {"peaks": peaks, "micro_batch_size": rows, "difference": difference}


STEPS: dict[str, Callable[[Path], dict[str, Any]]] = {
    step.__name__: step
    for step in (
        devices,
        precisions,
        predictions,
        resume,
        packing,
        synchronisations,
        graphs,
        graphs_refused,
        families,
        compiled,
        one_process_group,
        sharded,
        two_on_one_device,
        out_of_memory,
    )
}


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
