"""Trains configs one after the other on XLA, and writes what torch_xla counted: python -m tests.xla.session OUT CONFIG

For each: graphs compiled up to each evaluation (one that a cache on disk had counts, too), and the operations that
XLA does not know and left to the CPU.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from finetune_cli import load_config, train
from finetune_cli.records.training import EvalRecord, TrainingEvent


def graphs_so_far() -> int:
    from torch_xla.debug import metrics

    compiled = metrics.metric_data("CompileTime")
    return (compiled[0] if compiled else 0) + (metrics.counter_value("PersistentCacheHit") or 0)


def trained(config: str) -> dict[str, Any]:
    from torch_xla.debug import metrics

    metrics.clear_all()
    graphs: list[int] = []

    def count(event: TrainingEvent) -> None:
        if isinstance(event, EvalRecord):
            graphs.append(graphs_so_far())

    train(load_config(config), offline=True, listen=count)
    names = [name for name in metrics.counter_names() if name.startswith("aten::")]
    return {"graphs": graphs, "left_to_cpu": {name: metrics.counter_value(name) for name in names}}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps([trained(config) for config in sys.argv[2:]]))
