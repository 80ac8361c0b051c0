"""`finetune predict`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

from finetune_cli.cli import options
from finetune_cli.cli.start import before_computing, check_target, command
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ConfigError
from finetune_cli.system.lean_imports import lean_imports
from finetune_cli.system.places import in_home

EXAMPLES = """\
finetune predict runs/sst2 --text "I am super delighted."
finetune predict runs/mrpc --text "It rains." --text-pair "It is raining."
finetune predict runs/sst2 reviews.csv -o labelled.csv --keep-columns
cat reviews.jsonl | finetune predict runs/sst2 - --probabilities"""


FileFormat = Literal["jsonl", "csv", "tsv", "parquet"]

Input = Annotated[
    str | None,
    options.argument(
        "[INPUT|-]",
        "A file of rows, a .txt with a text on each line, a directory with a .txt for each text, or - for standard "
        "input.",
    ),
]
Texts = Annotated[
    list[str], options.input_list("--text TEXT", "Label this text. Repeatable.", callback=options.all_as_text)
]
TextPairs = Annotated[
    list[str],
    options.input_list(
        "--text-pair TEXT", "The second text of a pair, one for each --text.", callback=options.all_as_text
    ),
]
InputFormat = Annotated[
    Literal["jsonl", "csv", "tsv", "lines", "text"] | None,
    options.input_option(
        "--input-format jsonl|csv|tsv|lines|text",
        "What standard input is; by default seen in its first line: JSON Lines, a table whose header has the text "
        "column, else a text on each line (lines). text: all of it, or of a .txt, is one text.",
    ),
]
OnBadRow = Annotated[
    Literal["error", "skip", "null"],
    options.input_option(
        "--on-bad-row error|skip|null", "A row that cannot be used: stop there, leave it out, or answer null."
    ),
]


def _file_or_stdout(output: Path | None) -> Path | None:
    """`-o -` is standard output, as `-` is standard input."""
    return None if output == Path("-") else options.in_home_or_none(output)


OutputFile = Annotated[
    Path | None,
    options.output_option(
        "--output -o FILE",
        "Write here, not to standard output. A file that is there is replaced, when all rows are answered.",
        callback=_file_or_stdout,
    ),
]
Format = Annotated[
    FileFormat | None,
    options.output_option(
        "--format jsonl|csv|tsv|parquet", "By default as the file name ends; jsonl without an ending."
    ),
]
Probabilities = Annotated[
    bool,
    options.output_option(
        "--probabilities",
        "Add the probability of each class; of more than 100, those of the ten likeliest, unless `all` follows.",
    ),
]
KeepColumns = Annotated[
    bool,
    options.output_option(
        "--keep-columns", "Keep the columns of the input; one named like the answer's becomes NAME_input."
    ),
]
MinConfidence = Annotated[
    float | None,
    options.output_option("--min-confidence P", "Answer null where the probability of the answer is lower."),
]


@command(with_json=False)
def predict(
    out: Output,
    *,
    target: options.Target,
    source: Input = None,
    texts: Texts,
    text_pairs: TextPairs,
    input_format: InputFormat = None,
    on_bad_row: OnBadRow = "error",
    overrides: options.Overrides,
    output_dir: options.OutputDir = None,
    offline: options.Offline = False,
    output: OutputFile = None,
    file_format: Format = None,
    probabilities: Probabilities = False,
    all_probabilities: options.AllProbabilities = False,
    keep_columns: KeepColumns = False,
    min_confidence: MinConfidence = None,
) -> None:
    """Label a file, standard input or --text, in the order the rows come in.

    The id of a row is the column that data.id names, else a column id, else idx, else the row's number from 0: the
    same as in evaluate. Of a directory it is the path of the text's file. An empty cell is a bad row where data.id
    names its column, and passed over elsewhere.
    """
    check_target(target, overrides, output_dir)
    rows = rows_to_label(source, texts, text_pairs, output, named=input_format is not None)
    from finetune_cli.predictions.files import choose_format, require_writable, write_predictions

    written_as = choose_format(output, file_format)
    if output is not None:
        require_writable(output)
    with lean_imports():
        from finetune_cli.commands.predict import WINDOW_ROWS
        from finetune_cli.commands.predict import predict as run_predict

    before_computing()
    answers = run_predict(
        target,
        rows,
        overrides=overrides,
        output_dir=output_dir,
        probabilities=probabilities,
        all_probabilities=all_probabilities,
        keep_columns=keep_columns,
        on_bad_row=on_bad_row,
        input_format=input_format,
        min_confidence=min_confidence,
        window_rows=1 if source == "-" and sys.stdin.isatty() else WINDOW_ROWS,  # answer what is typed
        offline=offline,
        report_bad_row=out.warn,
    )
    with out.byte_stream() as stdout, closing(answers):
        write_predictions(answers, output, file_format=written_as, with_errors=on_bad_row == "null", stdout=stdout)


def rows_to_label(
    source: str | None, texts: list[str], pairs: list[str], output: Path | None, *, named: bool = False
) -> Any:
    """A path, the byte stream of standard input, or tuples of texts. Refuses an output that would replace the input.

    named: the format of the input was named, so that a file's name need not say it.
    """
    sources = [*([source] if source else []), *(["--text"] if texts else [])]
    if len(sources) != 1:
        found = " and ".join(sources) or "nothing"
        raise ConfigError(f"Nothing to label: expected one of a file, - for standard input, and --text; found {found}.")
    if pairs and len(pairs) != len(texts):
        raise ConfigError(f"--text-pair: expected one for each --text ({len(texts)}), found {len(pairs)}.")
    if texts:
        if named:
            raise ConfigError("--input-format is about standard input and files, and --text needs none. Leave it out.")
        return list(zip(texts, pairs, strict=True)) if pairs else [(text,) for text in texts]
    if source == "-":
        if sys.stdin is None:
            raise ConfigError("standard input is closed, so there are no rows to label. Pipe some in, or name a file.")
        return sys.stdin.buffer
    from finetune_cli.predictions.input import require_data_file

    path = in_home(str(source))
    if not (named and path.is_file()):
        require_data_file(path, plain_text=True)
    if output is not None and output.exists() and output.samefile(path):
        raise ConfigError(f"-o {output} is the file that is labelled: its rows would be lost. Name another file.")
    return path
