"""`finetune export`."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from finetune_cli.cli import options
from finetune_cli.cli.start import check_data_file, shown_when_failed, start
from finetune_cli.display.logs import silence_model_loading
from finetune_cli.system.lean_imports import lean_imports
from finetune_cli.system.signals import end_if_stopped

EXAMPLES = """\
finetune export runs/mrpc exported/mrpc --format onnx
finetune export runs/mrpc exported/mrpc-int8 --format onnx --dtype int8
finetune export runs/mrpc exported/mrpc-half --format openvino --dtype fp16 --max-drop 0.02
finetune predict exported/mrpc new.csv"""


class ExportFormat(StrEnum):
    """The runtime that is to load the model."""

    onnx = "onnx"
    openvino = "openvino"
    safetensors = "safetensors"


class Dtype(StrEnum):
    """How the weights are stored."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


Place = Annotated[Path, options.argument("OUT", "The directory to write; it must not exist.")]

ChosenFormat = Annotated[
    ExportFormat,
    options.output_option("--format", "What is to load it.", metavar="onnx|openvino|safetensors", show_default=False),
]

ChosenDtype = Annotated[
    Dtype, options.output_option("--dtype", "The numbers that the weights are stored in.", metavar="fp32|fp16|int8")
]

Allowed = Annotated[
    list[str],
    options.output_list(
        "--max-drop",
        "How much worse each score may be in fp16 and int8, 0.01 by default; f1=0.02 for one score. Repeatable.",
        metavar="[NAME=]NUMBER",
    ),
]

Split = Annotated[str, options.input_option("--split", "The split to prove it on.", metavar="NAME")]

Data = Annotated[
    Path | None,
    options.input_option("--data", "Prove it on this labelled file in place of a split.", metavar="FILE"),
]


def export(
    ctx: typer.Context,
    *,
    target: options.Target,
    output: Place,
    file_format: ChosenFormat,
    dtype: ChosenDtype = Dtype.fp32,
    max_drops: Allowed,
    split: Split = "validation",
    data: Data = None,
    overrides: options.Overrides,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write a trained model for another runtime, with proof that it answers the same.

    fp32: each logit within 1e-4 of the model's. fp16 and int8: no score of the run is worse by more than --max-drop,
    with the whole interval of the difference. Not proven: exit code 4, and nothing is written.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    from finetune_cli.runs.exports.request import check_export, parse_allowed
    from finetune_cli.runs.target import is_local

    parse_allowed(max_drops)
    check_data_file(data)
    if is_local(target):
        check_export(target, output, file_format.value, dtype.value, overrides=overrides, data=data)
    with lean_imports():
        from finetune_cli.commands.export import export as run_export
    from finetune_cli.display.tables.export import export_result

    end_if_stopped()
    silence_model_loading()
    show = partial(export_result, out)
    with shown_when_failed(show):
        show(
            run_export(
                target,
                output,
                file_format=file_format.value,
                dtype=dtype.value,
                max_drops=max_drops,
                split=split,
                data=data,
                overrides=overrides,
                offline=offline,
            )
        )
