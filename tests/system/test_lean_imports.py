"""A command's process imports little besides the model's code, and everything is still there for whoever asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from tests.commands.run_files import LOOPS, read_jsonl

LEFT_OUT = ["datasets", "pandas", "peft", "pyarrow", "scipy.stats", "sklearn", "sympy", "torch._dynamo.eval_frame"]
LEFT_OUT += ["torch.distributed.fsdp", "torch.distributed.tensor._api"]
COMMAND = """
import json, sys
from finetune_cli.cli.app import main
code = main()
print(json.dumps([name for name in json.loads(sys.stdin.read()) if sys.modules.get(name)]), file=sys.stderr)
sys.exit(code)
"""


def python(code: str, *args: str | Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        input=stdin,
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def loaded_by(*args: str | Path, cache: Path) -> list[str]:
    """Which of LEFT_OUT a command has imported at its end."""
    done = python(COMMAND, *args, stdin=json.dumps(LEFT_OUT), FINETUNE_CACHE=str(cache))
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stderr.splitlines()[-1])
    return names


@pytest.mark.parametrize("loop", LOOPS)
def test_a_training_imports_no_tables_compiler_or_process_groups_and_is_the_same(
    tmp_path: Path, write_config: Callable[..., Path], cache_dir: Path, loop: str
) -> None:
    """The whole run, scoring included; beside it the same run in this process, which has imported all of that."""
    # The baseline of the words is scikit-learn's, which is imported when the model is trained and scored.
    file = write_config(tmp_path, training={"loop": loop}, evaluation={"baseline": False})
    lean, ordinary = tmp_path / "lean", tmp_path / "ordinary"
    assert loaded_by("train", file, "--output-dir", lean, "-q", cache=cache_dir) == []
    train(load_config(file, [f"output_dir={ordinary}"]))
    ours, theirs = (
        [{**line, "seconds": 0} for line in read_jsonl(directory / "history.jsonl")] for directory in (lean, ordinary)
    )
    assert ours == theirs
    weights, expected = (load_file(directory / "model" / "model.safetensors") for directory in (lean, ordinary))
    assert weights.keys() == expected.keys()
    assert all(weights[name].equal(expected[name]) for name in weights)
    rows = tmp_path / "data" / "validation.jsonl"
    assert loaded_by("evaluate", lean, "-q", cache=cache_dir) == []
    assert loaded_by("predict", lean, rows, "-q", cache=cache_dir) == []


@pytest.mark.parametrize(
    ("settings", "imported"),
    [
        (["model.lora={r: 2, target_modules: all-linear}"], "peft"),
        (["model.lora={r: 2}", "training.loop=accelerate"], "peft"),
        (["training.trainer_args={adam_beta2: 0.98}"], "datasets"),
    ],
)
def test_what_a_setting_needs_is_imported(
    tmp_path: Path, write_config: Callable[..., Path], cache_dir: Path, settings: list[str], imported: str
) -> None:
    options = [word for setting in [*settings, "training.max_steps=1"] for word in ("-s", setting)]
    assert imported in loaded_by("train", write_config(tmp_path), "-q", *options, cache=cache_dir)


def test_what_was_left_out_is_there_afterwards() -> None:
    """Ordinary imports, and torch.compile: here with a backend that needs no compiler of C++."""
    done = python(
        "from finetune_cli.system.lean_imports import lean_imports\n"
        "with lean_imports():\n"
        "    import finetune_cli.commands.train\n"
        "import datasets, scipy.stats, torch\n"
        "from torch.distributed.tensor import Shard, DTensor\n"  # Shard is what the stand-in does not have
        "import torch.fx.experimental.symbolic_shapes as shapes\n"
        "assert torch.distributed.is_available() and shapes.ShapeEnv and DTensor.from_local\n"
        "graphs = []\n"
        "def backend(graph, inputs):\n"
        "    graphs.append(graph)\n"
        "    return graph\n"
        "double = torch.compile(lambda values: values * 2 + 1, backend=backend)\n"
        "assert double(torch.arange(3)).tolist() == [1, 3, 5] and len(graphs) == 1\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("start", "variables"),
    [("import torch\n", {}), ("", {"LOCAL_RANK": "0"}), ("", {"FINETUNE_PLAIN_IMPORTS": "1"})],
    ids=["torch imported before", "a launcher", "the switch"],
)
def test_plain_imports_leave_nothing_out(start: str, variables: dict[str, str]) -> None:
    done = python(
        start + "import gc\n"
        "from finetune_cli.system.lean_imports import lean_imports\n"
        "with lean_imports():\n"
        "    assert not gc.isenabled()\n"
        "    import finetune_cli.commands.train, transformers\n"
        "import sys, torch\n"
        "assert gc.isenabled()\n"
        "assert sys.modules['torch.distributed.tensor'].DTensor.from_local and torch.distributed.is_available()\n"
        "assert sys.modules['torch._dynamo'].OptimizedModule\n"
        "from transformers.utils import is_datasets_available, is_torch_distributed_available\n"
        "assert is_torch_distributed_available() and is_datasets_available()\n",
        **variables,
    )
    assert done.returncode == 0, done.stderr


def test_transformers_knows_the_same_names_after_one_look_at_its_files() -> None:
    """And lets none of them go missing: each model's module and class by its name."""
    names = (
        "import transformers, transformers.models as models\n"
        "print(sorted(map(str, dir(transformers))), sorted(map(str, dir(models))))\n"
        "print(transformers.BertConfig, models.bert.BertConfig, transformers.AutoTokenizer)\n"
    )
    lean = (
        "from finetune_cli.system.lean_imports import lean_imports\n"
        "with lean_imports():\n    import transformers.models\n"
    )
    after_one_look, expected = python(lean + names), python(names)
    assert (after_one_look.returncode, expected.returncode) == (0, 0), after_one_look.stderr
    assert after_one_look.stdout == expected.stdout
