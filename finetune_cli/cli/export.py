"""`finetune export`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from finetune_cli.cli import options
from finetune_cli.cli.start import check_data_file, command, shown_when_failed
from finetune_cli.display.logs import silence_model_loading
from finetune_cli.display.terminal import Output
from finetune_cli.system.lean_imports import lean_imports
from finetune_cli.system.signals import end_if_stopped

EXAMPLES = """\
finetune export runs/mrpc exported/mrpc --format onnx
finetune export runs/mrpc exported/mrpc-int8 --format onnx --dtype int8
finetune export runs/mrpc exported/mrpc-half --format openvino --dtype fp16 --max-drop 0.02
finetune predict exported/mrpc new.csv"""

Place = Annotated[Path, options.argument("OUT", "The directory to write; it must not exist.")]
Format = Annotated[
    Literal["onnx", "openvino", "safetensors"],
    options.output_option("--format onnx|openvino|safetensors", "What is to load it.", show_default=False),
]
Dtype = Annotated[
    Literal["fp32", "fp16", "int8"],
    options.output_option("--dtype fp32|fp16|int8", "The numbers that the weights are stored in."),
]
MaxDrops = Annotated[
    list[str],
    options.output_list(
        "--max-drop [NAME=]NUMBER",
        "How much worse each score may be in fp16 and int8, 0.01 by default; f1=0.02 for one score. Repeatable.",
    ),
]
Split = Annotated[str, options.input_option("--split NAME", "The split to prove it on.")]
Data = Annotated[
    Path | None, options.input_option("--data FILE", "Prove it on this labelled file in place of a split.")
]


@command()
def export(
    out: Output,
    *,
    target: options.Target,
    output: Place,
    file_format: Format,
    dtype: Dtype = "fp32",
    max_drops: MaxDrops,
    split: Split = "validation",
    data: Data = None,
    overrides: options.Overrides,
    offline: options.Offline = False,
) -> None:
    """Write a trained model for another runtime, with proof that it answers the same.

    fp32: each logit within 1e-4 of the model's. fp16 and int8: no score of the run is worse by more than --max-drop,
    with the whole interval of the difference. Not proven: exit code 4, and nothing is written.
    """
    from finetune_cli.runs.exports.request import check_export, parse_allowed
    from finetune_cli.runs.target import is_local

    parse_allowed(max_drops)
    check_data_file(data)
    if is_local(target):
        check_export(target, output, file_format, dtype, overrides=overrides, data=data)
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
                file_format=file_format,
                dtype=dtype,
                max_drops=max_drops,
                split=split,
                data=data,
                overrides=overrides,
                offline=offline,
            )
        )
