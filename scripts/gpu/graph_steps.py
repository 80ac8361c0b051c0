"""Steps of the GPU check about how an update gets to the device: where it waits, and CUDA graphs.

See scripts.gpu.steps.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from finetune_cli.records.training import StepRecord, TrainingEvent
from finetune_cli.training.cuda_graphs import CudaRecorder, Work
from scripts.gpu.small import FP32, LOOPS, largest_difference, on_a_gpu, same_weights, trained

FAMILIES = (
    *("bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "modernbert", "mpnet", "xlnet", "nomic_bert"),
    *("qwen2", "qwen3", "llama", "gpt2", "t5", "bart", "gemma2", "mixtral"),
)


@on_a_gpu()
def synchronisations(directory: Path) -> dict[str, Any]:
    """Where an update waits for the device, by line; the copy of an old reading is the only one that is meant."""
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


@on_a_gpu()
def graphs(directory: Path) -> dict[str, Any]:
    """Updates replayed as CUDA graphs and launched kernel by kernel: the same curve and weights, bit for bit.

    A constant learning rate that float32 holds: a graph has the rate in float32, the host in float64.
    """
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


@on_a_gpu()
def graphs_refused(directory: Path) -> dict[str, Any]:
    """A model that asks the device during its forward pass goes on without graphs, dropout and all, and says so."""
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


@on_a_gpu()
def families(directory: Path) -> dict[str, Any]:
    """Tiny models of many families: which are replayed, and how far their curves are from those without graphs."""
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
