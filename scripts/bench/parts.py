"""What bench.py measures inside one process; each part prints one line of JSON.

    python scripts/bench/parts.py matmul | parameters | tokens | pipeline | predict | tokenizer | prepare  [options]

bench.py calls this; it is of use alone to look at one part.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

MATMUL_SIDES = (1024, 1536, 2048, 3072)  # CPUs reach their best somewhere here
MATMUL_SIDES_CUDA = (4096, 8192, 12288)
MATMUL_SECONDS = 1.0  # for each size
WARM_UP_ROWS = 32
TOKENIZER_ROWS = 2048
TEXT_COLUMNS = ("sentence1", "sentence2", "sentence")


def matmul(options: argparse.Namespace) -> dict[str, Any]:
    """The best median speed of torch.mm over several sizes of square matrices, in the dtype that training takes."""
    import torch

    from finetune_cli.training.precision import AUTOCAST_DTYPES, choose_precision

    cuda = torch.cuda.is_available()
    dtype = AUTOCAST_DTYPES[choose_precision("auto", "cuda" if cuda else "cpu")[0]] or torch.float32
    by_size = {}
    for side in MATMUL_SIDES_CUDA if cuda else MATMUL_SIDES:
        a, b = (torch.randn(side, side, device="cuda" if cuda else "cpu").to(dtype) for _ in range(2))
        result = torch.empty_like(a)
        calls = 20 if cuda else 1  # a GPU is asked for several products before the clock is read

        def multiply(a: Any = a, b: Any = b, result: Any = result, calls: int = calls) -> None:
            for _ in range(calls):
                torch.mm(a, b, out=result)
            if cuda:
                torch.cuda.synchronize()

        multiply()
        seconds = repeat_for(MATMUL_SECONDS, multiply)
        by_size[side] = 2 * side**3 * calls / statistics.median(seconds) / 1e9
    return {"gflops": max(by_size.values()), "by_size": by_size, "dtype": str(dtype)}


def repeat_for(seconds: float, action: Callable[[], None]) -> list[float]:
    """The time of each call, for at least so many seconds and three calls."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        times.append(timed(action))
    return times


def timed(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Parameters of the classifier outside its embeddings: those that take part in matrix products for each token."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(options.model))
    counted = {name: weight.numel() for name, weight in model.named_parameters()}
    return {"parameters": sum(number for name, number in counted.items() if "embeddings." not in name)}


def texts_of(file: Path) -> list[tuple[str, ...]]:
    """The one or two texts of each row."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [tuple(row[column] for column in TEXT_COLUMNS if column in row) for row in rows]


def encode(tokenizer: Any, texts: list[tuple[str, ...]]) -> list[list[int]]:
    columns = [list(column) for column in zip(*texts, strict=True)]
    ids: list[list[int]] = tokenizer(*columns, truncation=True)["input_ids"]
    return ids


def tokens(options: argparse.Namespace) -> dict[str, Any]:
    """Real tokens of a file: special tokens are counted, padding is not."""
    from transformers import AutoTokenizer

    encoded = encode(AutoTokenizer.from_pretrained(options.model), texts_of(options.data))
    return {"tokens": sum(map(len, encoded)), "rows": len(encoded)}


def pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of pipeline("text-classification") for all rows: as it comes (""), then with each batch size.

    Rows are read and answers written as a user's script would; loading the model is not counted. On a GPU in bf16 and,
    because each row alone takes long, not as it comes.
    """
    import torch
    from transformers import pipeline as make_pipeline

    cuda = torch.cuda.is_available()
    placing: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16} if cuda else {}
    classify = make_pipeline("text-classification", model=str(options.model), **placing)
    inputs = [dict(zip(("text", "text_pair"), texts, strict=False)) for texts in texts_of(options.data)]

    def label(**batching: int) -> None:
        with options.output.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(answer) + "\n" for answer in classify(inputs, **batching))

    if options.batch_sizes != [0]:  # 0: the whole script is measured from outside
        classify(inputs[:WARM_UP_ROWS])
    seconds = {} if cuda else {"": timed(label)}
    for size in filter(None, options.batch_sizes):
        seconds[str(size)] = timed(lambda: label(batch_size=size))  # noqa: B023
    return {"seconds": seconds, "rows": len(inputs)}


def predict(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of finetune's predict for all rows but the first few: the time for those few, with loading, is taken off.

    The answers are written, and the process is set up, as by the command.
    """
    from finetune_cli import predict as label
    from finetune_cli.system.allocator import keep_freed_memory

    keep_freed_memory()
    few = options.output.with_suffix(".few.jsonl")
    lines = options.data.read_text(encoding="utf-8").splitlines(keepends=True)
    few.write_text("".join(lines[:WARM_UP_ROWS]), encoding="utf-8")

    def answer(file: Path) -> None:
        with options.output.open("w", encoding="utf-8") as output:
            output.writelines(json.dumps(row) + "\n" for row in label(options.model, file))

    answer(few)
    least = min(timed(lambda: answer(few)) for _ in range(2))
    return {"seconds": timed(lambda: answer(options.data)) - least, "rows": len(lines) - WARM_UP_ROWS}


def tokenizer(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the bare Rust tokenizer for the texts of the files, in batches, and nothing done with the result."""
    from transformers import AutoTokenizer

    backend = AutoTokenizer.from_pretrained(options.model).backend_tokenizer
    backend.no_padding()
    texts = list(chain.from_iterable(texts_of(file) for file in options.files))
    inputs: list[Any] = [text if len(text) > 1 else text[0] for text in texts]
    backend.encode_batch(inputs[:TOKENIZER_ROWS])

    def encode_all() -> None:
        for start in range(0, len(inputs), TOKENIZER_ROWS):
            backend.encode_batch(inputs[start : start + TOKENIZER_ROWS])

    return {"seconds": timed(encode_all), "rows": len(inputs)}


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of finetune's prepare, whose imports are done before: a few rows are prepared first, and not counted."""
    from finetune_cli import load_config
    from finetune_cli import prepare as make

    make(load_config(options.data, ["data.limit=8"]))
    prepared: list[Any] = []
    seconds = timed(lambda: prepared.append(make(load_config(options.data))))
    if prepared[0].report.reused:
        raise RuntimeError("the rows were prepared before")
    return {"seconds": seconds, "rows": sum(split.num_rows for split in prepared[0].splits.values())}


PARTS = {part.__name__: part for part in (matmul, parameters, tokens, pipeline, predict, tokenizer, prepare)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--model", type=Path, help="the model's directory; for predict also a run directory")
    parser.add_argument("--data", type=Path, help="a file of rows (prepare: a config)")
    parser.add_argument("--files", type=Path, nargs="*", default=[], help="tokenizer: files of rows")
    parser.add_argument("--output", type=Path, help="where predictions go")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[], help="pipeline: sizes to try besides none")
    options = parser.parse_args()
    sys.stdout.write(json.dumps(PARTS[options.part](options) | {"threads": os.environ.get("OMP_NUM_THREADS")}) + "\n")


if __name__ == "__main__":
    main()
