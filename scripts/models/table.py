"""docs/models.md: what each family of models can do, found out by doing it.

    .venv/bin/python scripts/models/table.py --results runs/models.jsonl      # all families, about five seconds each
    .venv/bin/python scripts/models/table.py --results runs/models.jsonl --only bert,gpt2 --again

Results are kept as they come: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
import time
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

INTRODUCTION = """\
# Models

These are the families of text classifiers that were tried with transformers {transformers}. Others are not forbidden:
what a model needs is a class for text classification in transformers and a tokenizer with a fast version.

The table is made by a script, `scripts/models/table.py`. For each family a tiny model with random weights is written to
disk as it would be on the Hub, with a tokenizer of its kind, and put through the real commands. That shows that the
numbers are right, not how well a large model of the family learns.

| column | what was done |
| --- | --- |
| loops | trained by both loops: each loss, each gradient norm and the final weights agree |
| answers | `predict` on rows alone and together, and plain transformers on one unpadded row at a time |
| pair | the same with two texts a row |
| LoRA | adapters trained and merged: the saved model scores as the one in training did |
| bf16 | the same with `model.dtype: bf16`, in both loops; the difference is that of rounding the adapters |
| freeze | `model.freeze: embeddings` and `1`: these weights stay, the others move |
| packing | `training.packing`: the curve without it, dropout off |
| checkpointing | `training.gradient_checkpointing`: the curve without it |
| resume | gone on with from the checkpoint of the first update: the final weights, bit for bit |

`yes` alone: no difference at all. A number: the largest difference, of probabilities for answers and pair, of losses,
norms and weights elsewhere. `refused`: the setting is refused before any work, in a sentence that says why. An empty
cell was not tried.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON Lines, one object a family")
    parser.add_argument("--only", default="", help="families, with commas between them")
    parser.add_argument("--again", action="store_true", help="run what has a result already")
    parser.add_argument("--write", type=Path, help="write the page, such as docs/models.md")
    options = parser.parse_args()
    known = read_results(options.results)
    if not options.write:
        run(options.results, [name for name in options.only.split(",") if name], set() if options.again else set(known))
    else:
        options.write.write_text(page(known), encoding="utf-8")


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {record["family"]: record for record in map(json.loads, lines)}


def run(results: Path, only: list[str], done: set[str]) -> None:
    import transformers

    from scripts.models.checks import verdicts
    from scripts.models.families import FAMILIES

    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("finetune_cli").setLevel(logging.ERROR)
    for name in only or list(FAMILIES):
        if name in done:
            continue
        start = time.monotonic()
        place = Path(tempfile.mkdtemp(prefix="model-table-"))
        try:
            found = verdicts(name, place / name)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        record = {"family": name, "checks": {check: asdict(verdict) for check, verdict in found.items()}}
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{name}: {', '.join(f'{check} {verdict}' for check, verdict in found.items())}", flush=True)
        for check, verdict in found.items():
            if verdict.reason:
                print(f"    {check}: {verdict.reason}", flush=True)
        print(f"    {time.monotonic() - start:.1f} s", flush=True)


def page(results: dict[str, dict[str, Any]]) -> str:
    from scripts.models.checks import CHECKS, Verdict
    from scripts.models.families import FAMILIES

    lines = [INTRODUCTION.format(transformers=version("transformers"))]
    lines.append(f"\n| family | tokenizer | {' | '.join(CHECKS)} |\n|{' --- |' * (len(CHECKS) + 2)}\n")
    for name in sorted(results):
        cells = []
        for check in CHECKS:
            found = results[name]["checks"].get(check)
            cells.append("" if found is None else str(Verdict(**found)))
        lines.append(f"| {name} | {FAMILIES[name].tokenizer} | {' | '.join(cells)} |\n")
    wrong = [name for name in results if any(one["holds"] is False for one in results[name]["checks"].values())]
    lines.append(f"\n{len(results)} families; {len(wrong)} with something wrong in a column.\n")
    return "".join(lines) + NOTES


NOTES = """
## What is said about a model

- **Padding.** Rows are padded with the tokenizer's padding token, on the tokenizer's side, and the model's
  configuration follows where its head looks for that token (Qwen, Pythia). A tokenizer without one pads with its end
  token (GPT-2, Llama); this is said once.
- **Company.** A model that is not one of BERT's near relations is asked three rows alone and together when it is
  loaded. Where padding leaks in (FNet, ConvBERT), only rows of one length run together: right, and slower. A model
  whose answers differ all the same is refused.
- **Refused**, each in a sentence: CANINE, Perceiver and ByT5 (bytes or characters), ESM and TAPAS, because their
  tokenizers have no fast version; LayoutLMv2, which needs detectron2; Reformer, which trains on rows of one length
  alone; MRA, whose attention gives zeros without a CUDA kernel of its own; and any other model that cannot be run or
  trained on a short text, or does not read all of it.
- **BigBird** attends fully from the start; of itself it would change over at the first short batch.
- **The longest row** is what the model's own table of positions holds, the tokenizer's limit if that is smaller, and
  without either what the configuration says.
- **Weights.** Safetensors first. `.bin` files are read with torch's loader for tensors alone, which runs no code; a
  file that holds more is refused.
- **A head that is there** (finbert, NLI models) is kept when its classes have the names of yours, in whatever order;
  with other names a new one is drawn; without names (LABEL_0) it is kept in its order. One line says which.
- **An adapter** (LoRA, as peft saves it) is merged into the base model that it names, once, in the cache, and used as
  the whole model that it then is.
- **SentencePiece** models (`spm.model`, `spiece.model`, `tokenizer.model`, `sentencepiece.bpe.model`) are converted;
  the run's own `model/` always has a `tokenizer.json`.
- **Packing** needs attention that goes through transformers' interface, and layers that mix tokens nowhere else.
  Families with rotary positions can (Llama, Qwen, Gemma, ModernBERT, nomic-embed), and those with positions in their
  embeddings. DeBERTa, T5 and MPNet cannot: they add a number for each pair of places inside the layers. Gemma 2 and
  gpt-oss cannot, because their attention does not go that way.
- **Sharding** (FSDP) is refused for a model of which only rows of one length run together, and for BART and T5 with
  texts that contain their end token: one process would need more passes than another, and all would wait.
- **Code** that comes with a model is not run, unless `model.trust_remote_code: true` says so.
"""


if __name__ == "__main__":
    main()
