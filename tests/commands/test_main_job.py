"""The main job by the real command: train, evaluate, predict, and the model used by a stranger without this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.commands.prepare import prepare
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from tests.commands.run_files import LOOPS, Trained, history, read_jsonl, same_weights, saved_scores

# A process of somebody else: isolated from this checkout, and refused this package even where it is installed.
STRANGER = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "finetune_cli":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
try:
    import finetune_cli
except ModuleNotFoundError:
    pass
else:
    sys.exit("finetune_cli can be imported")

from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

single, pair, rows = json.load(sys.stdin)
model = AutoModelForSequenceClassification.from_pretrained(single)
AutoTokenizer.from_pretrained(single)
answers = pipeline("text-classification", single, device="cpu")(rows)
of_pair = pipeline("text-classification", pair, device="cpu")({"text": "a good film", "text_pair": "the good film"})
print(json.dumps({"id2label": model.config.id2label, "answers": answers, "pair": of_pair}))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_train_evaluate_and_predict_by_command(
    tmp_path: Path,
    write_config: Callable[..., Path],
    run_cli: Callable[..., subprocess.CompletedProcess[str]],
    loop: str,
) -> None:
    config = write_config(tmp_path, training={"loop": loop, "num_epochs": 4})
    trained = run_cli(["train", config, "--json"])
    assert trained.returncode == 0, trained.stderr
    report = json.loads(trained.stdout)
    run = tmp_path / "run"
    assert report["run_dir"] == str(run)
    assert report["steps"] == 24
    assert report["evaluations"] == [saved_scores(run)]

    evaluated = run_cli(["evaluate", run, "--json"])
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads(evaluated.stdout) == report["evaluations"][0]

    answered = run_cli(["predict", run, "-"], stdin="a good film\nthis was a bad meal\n")
    assert answered.returncode == 0, answered.stderr
    rows = [json.loads(line) for line in answered.stdout.splitlines()]
    assert [row.keys() for row in rows] == [{"id", "prediction"}] * 2
    assert [row["id"] for row in rows] == [0, 1]
    assert {row["prediction"] for row in rows} <= {"negative", "positive"}


def test_the_model_works_where_this_package_is_not_installed(learned: Callable[..., Trained]) -> None:
    """AutoModelForSequenceClassification and pipeline, with label names and the probabilities that evaluate wrote."""
    single, pair = learned("sst2"), learned("mrpc", "accelerate")
    texts = [row["sentence"] for row in read_jsonl(Path(single.config.data.path) / "validation.jsonl")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER],
        input=json.dumps([str(single.run.model), str(pair.run.model), texts]),
        env={**{name: os.environ[name] for name in ("PATH",)}, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=single.run.path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["id2label"] == {"0": "negative", "1": "positive"}
    assert found["pair"]["label"] in ("not_equivalent", "equivalent")
    ours = read_jsonl(single.run.evaluation("validation") / "predictions.jsonl")
    assert [answer["label"] for answer in found["answers"]] == [row["prediction"] for row in ours]
    for answer, row in zip(found["answers"], ours, strict=True):
        assert answer["score"] == pytest.approx(row["probabilities"][row["prediction"]], abs=1e-5)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_learns_saves_and_reloads(learned: Callable[..., Trained], loop: str) -> None:
    """48 rows of which one word tells the answer: 120 updates reach a loss below 0.05 in training."""
    trained = learned("sst2", loop)
    assert history(trained.run.path, "train")[-1]["loss"] < 0.05
    assert saved_scores(trained.run.path)["metrics"]["accuracy"]["value"] > 0.9


def test_both_loops_write_one_run(learned: Callable[..., Trained]) -> None:
    """The same history and the same weights, to the bit on one CPU, through the whole command."""
    first, second = learned("sst2", "trainer").run.path, learned("sst2", "accelerate").run.path
    assert history(first, "train") == history(second, "train")
    assert history(first, "eval") == history(second, "eval")
    assert same_weights(first, second)


def test_real_mrpc_has_the_published_rows_and_labels(
    tmp_path: Path, write_config: Callable[..., Path], glue_dir: Path
) -> None:
    config = load_config(write_config(tmp_path, task="mrpc", data={"path": str(glue_dir / "mrpc")}))
    splits = prepare(config).report.splits
    assert {name: split.labels for name, split in splits.items()} == {
        "train": {"not_equivalent": 1194, "equivalent": 2474},
        "validation": {"not_equivalent": 129, "equivalent": 279},
        "test": {"not_equivalent": 578, "equivalent": 1147},
    }


@pytest.mark.slow
def test_real_mrpc_trains_alike_in_both_loops(
    tmp_path: Path, write_config: Callable[..., Path], glue_dir: Path, minilm: str
) -> None:
    """20 updates of a pretrained model with dropout: each loss, norm and rate within 1e-5."""
    updates = []
    for loop in LOOPS:
        directory = tmp_path / loop
        directory.mkdir()
        sections = {"task": "mrpc", "data": {"path": str(glue_dir / "mrpc")}, "model": {"name_or_path": minilm}}
        training = {"loop": loop, "max_steps": 20, "precision": "fp32", "learning_rate": 5e-5}
        train(load_config(write_config(directory, **sections, training=training), ["data.limit=160"]))
        lines = history(directory / "run", "train")
        updates.append([line[name] for line in lines for name in ("loss", "grad_norm", "learning_rate")])
    assert len(updates[0]) == 60
    assert updates[1] == pytest.approx(updates[0], rel=1e-5)
