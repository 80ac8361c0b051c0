"""What a sweep says when it is done: tests for the family, the page, the search in a file of its own, time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from finetune_cli.commands.compare import compare
from finetune_cli.commands.sweep import sweep
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, GateFailedError
from finetune_cli.evaluation.power import holm
from finetune_cli.records.sweep import SweepReport
from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import SEARCH, Answer


def test_the_best_is_tested_against_runner_up_and_defaults_as_one_family(swept: tuple[Path, SweepReport]) -> None:
    _, report = swept
    run = RunDir(report.run_dir)
    others = {one.number for one in report.trials} - {report.best}
    ranked = sorted(others, key=lambda number: (-report.trial(number).score.value, number))
    assert [one.number for one in report.comparisons] == list(dict.fromkeys([ranked[0], *({0} & others)]))
    found = [one.comparison for one in report.comparisons]
    assert [one.p_adjusted for one in found] == holm([one.p_value for one in found])
    for one in report.comparisons:
        places = [str(run.member("trial", number).path) for number in (report.best, one.number)]
        (alone,) = compare(places, metrics=["accuracy"]).comparisons
        assert (alone.difference, alone.p_value) == (one.comparison.difference, one.comparison.p_value)


def test_the_sweep_has_a_page_and_says_what_can_go(
    tmp_path: Path, swept: tuple[Path, SweepReport], command: Callable[..., Answer]
) -> None:
    file, report = swept
    page = RunDir(report.run_dir).report.read_text(encoding="utf-8")
    assert page.count("<circle") >= 9  # three trials in the history and over each of two settings
    assert "<script" not in page
    shutil.copytree(report.run_dir, tmp_path / "run", symlinks=True)
    answer = command(["sweep", file, "--output-dir", tmp_path / "run"])
    assert answer.code == 0, answer.stderr
    assert f"report     {tmp_path / 'run' / 'report.html'}" in answer.stdout
    assert f"the checkpoints can go: rm -r {tmp_path / 'run'}/*/checkpoints" in answer.stdout
    for folder in (tmp_path / "run").glob("*/checkpoints"):
        shutil.rmtree(folder)
    assert command(["sweep", file, "--output-dir", tmp_path / "run"]).stdout == answer.stdout


def test_gates_are_about_the_best_trial_and_stay_with_its_config(
    tmp_path: Path, swept: tuple[Path, SweepReport], command: Callable[..., Answer]
) -> None:
    file, report = swept
    shutil.copytree(report.run_dir, tmp_path / "run", symlinks=True)
    assert report.corrected
    gates = f"evaluation.gates=[accuracy>=0, accuracy.corrected>={report.corrected.value + 0.001}]"
    with pytest.raises(GateFailedError, match=r"accuracy\.corrected") as caught:
        sweep(load_config(file, [f"output_dir={tmp_path / 'run'}", gates]))
    assert [one.passed for one in caught.value.report.gates] == [True, False]
    assert RunDir(tmp_path / "run").read_record().exit_code == 4
    assert len(load_config(tmp_path / "run" / "best.yaml").evaluation.gates) == 2
    answer = command(["sweep", file, "--output-dir", tmp_path / "run", "-s", "evaluation.gates=[accuracy>=0]"])
    assert answer.code == 0, answer.stderr
    assert "gate accuracy>=0: passed" in answer.stdout


def test_it_ends_when_its_time_is_spent(tmp_path: Path, swept: tuple[Path, SweepReport]) -> None:
    sets = [f"output_dir={tmp_path / 'run'}", "sweep.trials=null", "sweep.sampler=random"]
    report = sweep(load_config(swept[0], [*sets, "sweep.time=0.01s"]))
    assert [one.state for one in report.trials] == ["complete"]  # begun before anything was spent
    spent = report.trials[0].seconds
    more = sweep(load_config(swept[0], [*sets, f"sweep.time={spent + 0.01:.4f}s"]))
    assert len(more.trials) == 2


@pytest.mark.parametrize("form", ["keys", "section"])
def test_the_search_may_stand_in_a_file_of_its_own(
    tmp_path: Path, swept: tuple[Path, SweepReport], command: Callable[..., Answer], form: str
) -> None:
    file, report = swept
    config = yaml.safe_load(file.read_text())
    del config["sweep"]
    alone, search = tmp_path / "alone.yaml", tmp_path / "search.yaml"
    alone.write_text(yaml.safe_dump(config))
    search.write_text(yaml.safe_dump(SEARCH if form == "keys" else {"sweep": SEARCH}))
    assert load_config(alone, search=search) == load_config(file)
    shutil.copytree(report.run_dir, tmp_path / "run", symlinks=True)
    words = ["sweep", alone, "--search", search, "--output-dir", tmp_path / "run", "--json"]
    answer = command(words)
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["trials"] == json.loads(json.dumps(report.to_json()))["trials"]
    assert command([*words, "-s", "sweep.trials=0"]).code == 2


WRONG: list[tuple[str, str]] = [
    ("parameters:\n  training.learning_rate: {low: 2, high: 1}\ntrials: 3\n", "search.yaml:2:33  sweep.parameters.tr"),
    (
        "parameters: {training.batch_sze: [1, 2]}\ntrials: 3\n",
        "search.yaml:1:14  sweep.parameters.training.batch_sze: ",
    ),
    ("# one\nsweep:\n  trials: 0\n", "search.yaml:3:11  sweep.trials: 0 is out of range"),
    ("trials: 3\n", "search.yaml:1:1  sweep.parameters: is missing"),
    ("trails: 3\nparameters: {training.batch_size: [1, 2]}\n", "search.yaml:1:1  sweep.trails: unknown key"),
    ("sweep: {trials: 3, trials: 4}\n", "search.yaml:1:20  sweep.trials: duplicate key"),
    ("trials: 3\ntrials: 4\n", "search.yaml:2:1  sweep.trials: duplicate key"),
    ("sweep: {trials: 3}\ntraining: {batch_size: 4}\n", "search.yaml:2:1  training: is no part of a search"),
    ("[1, 2]\n", "search.yaml:1:1  the file holds a list"),
    ("", "search.yaml:1:1  the file is empty"),
    ("trials: [\n", "search.yaml:2:1  not YAML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:44] for _, message in WRONG])
def test_a_mistake_in_the_search_file_is_named_with_its_line(
    tmp_path: Path, command: Callable[..., Answer], text: str, message: str
) -> None:
    file, search = tmp_path / "config.yaml", tmp_path / "search.yaml"
    file.write_text(yaml.safe_dump({"task": "sst2", "model": {"name_or_path": "bert-base-uncased"}}))
    search.write_text(text)
    answer = command(["sweep", file, "--search", search])
    assert answer.code == 2
    assert message in answer.stderr
    assert not (tmp_path / "run").exists()


def test_one_search_at_a_time(tmp_path: Path, swept: tuple[Path, SweepReport]) -> None:
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(SEARCH))
    with pytest.raises(ConfigError, match=r"sweep: is in .*search\.yaml, too \(--search\)\. Keep one of the two"):
        load_config(swept[0], search=tmp_path / "search.yaml")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml  no such file"):
        load_config(swept[0], search=tmp_path / "nowhere.yaml")
