"""Results on stdout, everything else on stderr; a live bar on a terminal, plain lines anywhere else."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.cli_runs import Trained, command_environment

RunCli = Callable[..., subprocess.CompletedProcess[str]]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

# All that training may say on stderr; a line of a library would fit none of these.
TRAINING_LINES = (
    r"(Prepared|Reused) \d+ tokenised rows: .*",
    r"New classification head \(2 outputs\) on .*",
    r"Loop trainer on (2 x )?cpu, \S+ \(.*\)",
    r"update \d+/6  epoch \d\.\d\d  loss \d\.\d{4}  lr \S+  (\d+|-) rows/s(  \d+:\d\d left)?",
    r"TF-IDF baseline: 48 rows in \d+\.\d s",
    r"Report: .*/eval/validation/report.html",
    r"update [36]  epoch (0\.5|1)  validation  loss \d\.\d{3}  accuracy \d\.\d{3}  f1 \d\.\d{3}(  \* best)?",
)


def unexpected(lines: list[str], patterns: tuple[str, ...]) -> list[str]:
    return [line for line in lines if not any(re.fullmatch(pattern, line) for pattern in patterns)]


def test_training_says_what_it_does_line_by_line_without_noise(trained: Trained):
    assert unexpected(trained.stderr.splitlines(), TRAINING_LINES) == []
    assert "\r" not in trained.stderr
    assert "\x1b" not in trained.stderr
    assert "update 6/6 " in trained.stderr
    assert "update 3  epoch 0.5" in trained.stderr.partition("  * best")[0]


def test_the_closing_table_has_scores_places_and_what_to_type_next(trained: Trained):
    assert re.search(r"^  accuracy \d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\] n=12 +\d\.\d{3}$", trained.stdout, re.MULTILINE)
    assert f"model      {trained.run}/model\n" in trained.stdout
    assert f'  finetune evaluate {trained.run}\n  finetune predict {trained.run} --text "..."\n' in trained.stdout
    assert "\x1b" not in trained.stdout


def test_json_is_the_only_thing_on_stdout(trained: Trained, run_cli: RunCli):
    environment = {"FINETUNE_CACHE": str(trained.cache)}
    again = run_cli(["train", trained.config, "--json"], env=environment)
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert (report["already_finished"], report["steps"], report["run_dir"]) == (True, 6, str(trained.run))
    scored = json.loads(run_cli(["evaluate", trained.run, "--json"], env=environment).stdout)
    assert scored["metrics"]["accuracy"] == report["evaluations"][0]["metrics"]["accuracy"]
    prepared = json.loads(run_cli(["prepare", trained.config, "--json", "--show", "1"], env=environment).stdout)
    assert (prepared["reused"], prepared["splits"]["train"]["rows"], len(prepared["examples"])) == (True, 48, 1)


def test_quiet_leaves_the_result_alone(trained: Trained, run_cli: RunCli):
    done = run_cli(["prepare", trained.config, "-q"], env={"FINETUNE_CACHE": str(trained.cache)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "train         48 " in done.stdout


def test_a_failed_gate_prints_the_scores_and_returns_4(trained: Trained, run_cli: RunCli):
    done = run_cli(["evaluate", trained.run, "--gate", "accuracy>1"], env={"FINETUNE_CACHE": str(trained.cache)})
    assert done.returncode == 4
    assert "n=12" in done.stdout
    assert r"true \ predicted" in done.stdout
    assert "gate accuracy>1: FAILED, found " in done.stdout
    assert "error: Gate failed on validation (12 rows):\n  accuracy>1: found " in done.stderr


def test_predictions_come_out_in_the_order_of_the_rows_that_go_in(trained: Trained, run_cli: RunCli):
    rows = [{"sentence": "the film was good " * (7 - n), "id": f"row-{n}"} for n in range(7)]
    done = run_cli(["predict", trained.run, "-"], stdin="".join(json.dumps(row) + "\n" for row in rows))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [row["id"] for row in rows]
    assert done.stderr == ""


def test_a_text_is_labelled_by_name(trained: Trained, run_cli: RunCli):
    done = run_cli(["predict", trained.run, "--text", "a good film", "--text", "a bad film", "--probabilities"])
    first, second = map(json.loads, done.stdout.splitlines())
    assert first.keys() == {"id", "prediction", "probabilities"}
    assert {first["prediction"], second["prediction"]} <= {"negative", "positive"}
    assert sum(first["probabilities"].values()) == pytest.approx(1)


def test_a_skipped_row_is_a_warning_and_the_rest_goes_on(trained: Trained, run_cli: RunCli):
    rows = '{"sentence": "good"}\n{"sentence": 5\n{"sentence": "bad"}\n'
    done = run_cli(["predict", trained.run, "-", "--on-bad-row", "skip"], stdin=rows)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr
    assert done.stderr.startswith("warning: ")


def test_validate_tells_problems_as_data(tmp_path: Path, run_cli: RunCli):
    (tmp_path / "bad.yaml").write_text(
        "task: mrpc\nlerning_rate: 1\nseed: x\nmodel: {name_or_path: m}\n", encoding="utf-8"
    )
    done = run_cli(["validate", "bad.yaml", "--json"])
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["valid"], answer["config"]) == (2, False, None)
    assert [(problem["key"], problem["line"]) for problem in answer["problems"]] == [("lerning_rate", 2), ("seed", 3)]
    assert "bad.yaml:2:1  lerning_rate" in done.stderr


def new_run(trained: Trained, directory: Path) -> list[str]:
    """The arguments of a training run of its own, its data prepared already."""
    return ["train", str(trained.config), "--output-dir", str(directory / "run")]


def test_a_terminal_gets_a_live_bar_with_evaluations_above_it(
    trained: Trained, run_on_terminal: Callable[..., tuple[int, str]], tmp_path: Path
):
    code, received = run_on_terminal(new_run(trained, tmp_path), FINETUNE_CACHE=str(trained.cache))
    assert code == 0, received
    plain = CONTROL.sub("", received)
    assert re.search(r"━ 6/6 loss 0\.\d{4}  lr \d\.\de-0\d +\d+ rows/s  0:00 left", plain)
    assert re.search(r"\rupdate 3  epoch 0.5  validation  loss .*  \* best\r\n", plain)
    assert COLOUR.search(received)
    assert "it/s" not in received  # the libraries' own bars
    assert received.count("\x1b[?25l") == received.count("\x1b[?25h") == 1  # the cursor is back


def test_no_color_keeps_the_bar_and_drops_the_colours(
    trained: Trained, run_on_terminal: Callable[..., tuple[int, str]], tmp_path: Path
):
    code, received = run_on_terminal(new_run(trained, tmp_path), FINETUNE_CACHE=str(trained.cache), NO_COLOR="1")
    assert code == 0, received
    assert "6/6 loss" in received
    assert [style for style in COLOUR.findall(received) if re.search(r"[34]\d", style)] == []


@pytest.mark.parametrize(("more", "red"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_an_error_is_red_on_a_terminal_only(
    more: dict[str, str], red: bool, run_on_terminal: Callable[..., tuple[int, str]]
):
    code, received = run_on_terminal(["validate", "no.yaml"], **more)
    assert code == 2
    assert received.startswith("\x1b[31merror:\x1b[0m no.yaml" if red else "error: no.yaml")


def test_a_log_that_nobody_reads_does_not_stop_the_training(trained: Trained, tmp_path: Path):
    """`finetune train c.yaml 2>&1 | head -1`, and a terminal that was closed: the run goes on to its end."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "finetune_cli", *new_run(trained, tmp_path)],
        env=command_environment(trained.cache),
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, "n=12" in done.stdout) == (0, True)


def test_two_processes_print_as_one_does(trained: Trained, run_cli: RunCli, tmp_path: Path):
    arguments = [*new_run(trained, tmp_path), "--num-processes", "2"]
    done = run_cli(arguments, env={"FINETUNE_CACHE": str(trained.cache)})
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert sum(" tokenised rows: " in line for line in lines) == 1  # the parent prepares them in silence
    assert unexpected(lines, TRAINING_LINES) == []
    assert "Loop trainer on 2 x cpu" in "\n".join(lines)
    assert done.stdout.count("n=12") == 2  # accuracy and f1, once each
