"""finetune sweep: each trial an ordinary run, none twice and none lost; the best, with what choosing it costs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.commands.runs import runs
from finetune_cli.commands.sweep import sweep
from finetune_cli.commands.train import train
from finetune_cli.config.dump import config_diff
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, MembersFailedError, MissingError, NotFinishedError, RunFailedError
from finetune_cli.records.sweep import SweepReport
from finetune_cli.records.training import MemberStarted, StepRecord
from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import SEARCH, SMALL, Answer, same_weights, saved_scores


@pytest.fixture
def sweep_file(write_config: Callable[..., Path]) -> Callable[..., Path]:
    def write(directory: Path, search: dict[str, Any] | None = None, **sections: Any) -> Path:
        return write_config(directory, **{**SMALL, **sections}, sweep=search or SEARCH)

    return write


def copy_of(swept: tuple[Path, SweepReport], directory: Path) -> str:
    """`--set` that names a copy of the finished sweep as the run directory."""
    shutil.copytree(swept[1].run_dir, directory, symlinks=True)
    return f"output_dir={directory}"


def run_sweep(file: Path, *overrides: str, **options: Any) -> SweepReport:
    return sweep(load_config(file, overrides), **options)


def table(report: SweepReport) -> list[tuple[Any, ...]]:
    """What is to be the same however often the sweep was stopped."""
    return [(one.number, one.state, one.values, one.score, one.n, one.error) for one in report.trials]


def test_each_trial_is_the_run_that_its_config_repeats(tmp_path: Path, swept: tuple[Path, SweepReport]) -> None:
    _, report = swept
    run = RunDir(report.run_dir)
    assert [(one.number, one.state) for one in report.trials] == [(0, "complete"), (1, "complete"), (2, "complete")]
    own = report.trials[0]
    assert own.defaults
    assert own.values == {"training.learning_rate": 1e-3, "training.batch_size": 8}  # the config's own come first
    assert report.best is not None
    trial = run.member("trial", report.best)
    alone = train(load_config(trial.config, [f"output_dir={tmp_path / 'alone'}"]))
    assert same_weights(alone.run_dir, trial.path)
    for one in report.trials:
        member = run.member("trial", one.number)
        config = load_config(member.config)
        assert config.training.learning_rate == one.values["training.learning_rate"]
        assert config.training.batch_size == one.values["training.batch_size"]
        assert config.sweep is None
        assert one.score
        assert one.score.value == saved_scores(member.path)["metrics"]["accuracy"]["value"]
        kept = [(member.path / name).exists() for name in ("model", "checkpoints", "eval")]
        assert kept == ([True, True, True] if one.number == report.best else [False, False, True])
        files = [path for path in member.path.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)  # without the checkpoints that went
        assert member.read_record().size_bytes == pytest.approx(size, rel=0.05)
    best = load_config(run.best_config)
    assert {key for key, *_ in config_diff(best, load_config(trial.config))} == {"output_dir"}
    assert run.best.resolve() == trial.path.resolve()
    again = train(load_config(run.best_config, [f"output_dir={tmp_path / 'again'}"]))  # as it stands, but for the place
    assert same_weights(again.run_dir, run.best)
    assert json.loads(run.summary.read_text()) == json.loads(json.dumps(report.to_json()))
    record = run.read_record()
    assert (record.status, record.kind, record.trials) == ("finished", "sweep", 3)


def test_the_same_command_again_trains_nothing_and_more_trials_go_on(
    tmp_path: Path, swept: tuple[Path, SweepReport]
) -> None:
    (file, first), seen = swept, []
    place = copy_of(swept, tmp_path / "run")
    (tmp_path / "run" / "best").unlink()
    again = run_sweep(file, place, listen=seen.append)
    assert (table(again), seen) == (table(first), [])
    assert (tmp_path / "run" / "best" / "model").is_dir()
    more = run_sweep(file, place, "sweep.trials=4", listen=seen.append)
    assert table(more)[:3] == table(first)
    assert [event.key for event in seen if isinstance(event, MemberStarted)] == [3]


def test_a_stopped_sweep_goes_on_and_equals_the_undisturbed_one(
    tmp_path: Path, swept: tuple[Path, SweepReport]
) -> None:
    file, undisturbed = swept
    place, now = f"output_dir={tmp_path / 'run'}", [0]

    def stop_in_the_second(event: Any) -> None:
        if isinstance(event, MemberStarted):
            now[0] = event.key
        elif isinstance(event, StepRecord) and (now[0], event.step) == (1, 3):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(NotFinishedError):
        run_sweep(file, place, listen=stop_in_the_second)
    assert RunDir(tmp_path / "run").read_record().status == "stopped"
    assert table(run_sweep(file, place)) == table(undisturbed)
    assert RunDir(tmp_path / "run" / "trial-1").read_record().resumed_from == 3


def test_a_trial_whose_settings_clash_fails_alone_and_is_named(
    tmp_path: Path, sweep_file: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    search = {"parameters": {"training.micro_batch_size": [4, 16]}, "sampler": "grid"}
    answer = command(["sweep", sweep_file(tmp_path, search)])
    assert answer.code == 0, answer.stderr
    assert "training.micro_batch_size: 16 is more than training.batch_size (8)" in answer.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert sorted(one["state"] for one in summary["trials"]) == ["complete", "failed"]
    assert "* best" in answer.stdout
    assert "Corrected for the choice among 2 evaluations" in answer.stdout


def test_when_every_trial_fails_the_sweep_fails(tmp_path: Path, sweep_file: Callable[..., Path]) -> None:
    search = {"parameters": {"training.micro_batch_size": [16, 32]}, "sampler": "grid"}
    with pytest.raises(MembersFailedError, match="None of the 2 trials could be finished") as caught:
        run_sweep(sweep_file(tmp_path, search))
    assert [one.state for one in caught.value.report.trials] == ["failed", "failed"]
    assert RunDir(tmp_path / "run").read_record().exit_code == 1


def test_a_grid_tries_every_combination_once(tmp_path: Path, sweep_file: Callable[..., Path]) -> None:
    search = {
        "parameters": {"training.batch_size": [8, 16], "training.max_steps": {"low": 2, "high": 4, "step": 2}},
        "sampler": "grid",
    }
    report = run_sweep(sweep_file(tmp_path, search))
    found = sorted((one.values["training.batch_size"], one.values["training.max_steps"]) for one in report.trials)
    assert found == [(8, 2), (8, 4), (16, 2), (16, 4)]


def test_lists_and_null_are_tried_as_they_are_written(tmp_path: Path, sweep_file: Callable[..., Path]) -> None:
    choices = [None, {"patience": 1, "min_delta": 0.5}]
    search = {"parameters": {"training.early_stopping": choices, "training.packing": [True, False]}, "sampler": "grid"}
    report = run_sweep(sweep_file(tmp_path, search, training={"max_steps": 6}))
    found = [(one.values["training.early_stopping"], one.values["training.packing"]) for one in report.trials]
    assert len(found) == 4
    assert all(pair in found for pair in [(a, b) for a in choices for b in (True, False)])
    steps = {
        (one.values["training.early_stopping"] is None): RunDir(tmp_path / "run" / f"trial-{one.number}").read_record()
        for one in report.trials
    }
    assert (steps[True].steps, steps[False].steps) == (6, 4)


@pytest.mark.parametrize("pruner", ["median", pytest.param("hyperband", marks=pytest.mark.slow)])
def test_pruned_trials_end_early_and_count_as_candidates(
    tmp_path: Path, sweep_file: Callable[..., Path], pruner: str
) -> None:
    search = {
        "parameters": {"training.learning_rate": [1e-3, 1e-9]},
        "trials": 8,
        "sampler": "random",
        "pruner": pruner,
    }
    file = sweep_file(
        tmp_path,
        search,
        training={"max_steps": 3},
        evaluation={"metric_for_best": "loss", "every": 1, "baseline": False},
        checkpointing={"every": "epoch"},
    )
    report = run_sweep(file)
    pruned = [one for one in report.trials if one.state == "pruned"]
    assert pruned
    for one in pruned:
        record = RunDir(tmp_path / "run" / f"trial-{one.number}").read_record()
        assert (record.status, record.pruned) == ("stopped", True)
        assert (record.error or "").startswith("Pruned after update")
        assert not (tmp_path / "run" / f"trial-{one.number}" / "checkpoints").exists()
    listed = {run.path: run.status for run in runs(tmp_path / "run").runs}
    assert {listed[f"trial-{one.number}"] for one in pruned} == {"pruned"}
    assert all(one.seconds > 0 for one in report.trials)  # they count against sweep.time, too
    complete = report.count("complete")
    evaluations = [(tmp_path / "run" / f"trial-{one.number}" / "history.jsonl").read_text() for one in report.trials]
    assert report.candidates == sum(text.count('"type": "eval"') for text in evaluations) > 3 * complete
    assert report.corrected
    assert f"among {report.candidates} evaluations of 8 trials" in report.said_of_choice
    assert table(run_sweep(file)) == table(report)


def test_folds_can_be_what_is_searched_by(tmp_path: Path, sweep_file: Callable[..., Path]) -> None:
    search = {"parameters": {"training.learning_rate": [1e-3, 1e-4]}, "sampler": "grid"}
    report = run_sweep(sweep_file(tmp_path, search, data={"folds": 2}))
    assert [one.n for one in report.trials] == [48, 48]
    assert (report.folds, report.candidates) == (2, 2)
    assert report.corrected
    assert report.best is not None
    best = report.trial(report.best).score
    assert best
    assert report.corrected.value <= best.value
    assert "That each fold keeps the best of its own evaluations is not taken off" in report.said_of_choice
    assert (tmp_path / "run" / "trial-0" / "fold-2" / "eval").is_dir()


def test_the_best_settings_are_trained_again_with_seeds(tmp_path: Path, sweep_file: Callable[..., Path]) -> None:
    file = sweep_file(tmp_path, {**SEARCH, "trials": 2, "seeds": [1, 2], "finalists": 2})
    report = run_sweep(file)
    assert {one.number for one in report.finalists} == {0, 1}
    assert report.best == max(report.finalists, key=lambda one: (one.mean, -one.number)).number
    assert (tmp_path / "run" / "finalist-0" / "seed-2" / "model").is_dir()
    assert run_sweep(file).finalists == report.finalists


def test_a_sweep_that_is_not_this_one_is_refused(tmp_path: Path, swept: tuple[Path, SweepReport]) -> None:
    file, _ = swept
    place = copy_of(swept, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"sweep\.sampler: 'tpe' there, 'random' now"):
        run_sweep(file, place, "sweep.sampler=random")
    with pytest.raises(ConfigError, match=r"training\.weight_decay: 0\.0 there, 0\.1 now"):
        run_sweep(file, place, "training.weight_decay=0.1")
    with pytest.raises(ConfigError, match="holds several runs, such as trial-0"):
        train(load_config(file, [place]))
    other = [f"output_dir={tmp_path / 'other'}", "sweep.trials=1", "sweep.sampler=random"]
    run_sweep(file, *other)
    journal = (tmp_path / "run" / "sweep" / "journal.log").read_bytes()
    (tmp_path / "other" / "sweep" / "journal.log").write_bytes(journal)
    with pytest.raises(ConfigError, match="is the journal of another sweep"):
        run_sweep(file, *other)
    assert run_sweep(file, *other, overwrite=True).trials


def test_damage_is_named(tmp_path: Path, swept: tuple[Path, SweepReport]) -> None:
    file, first = swept
    place = copy_of(swept, tmp_path / "run")
    journal = tmp_path / "run" / "sweep" / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "half')  # a power cut
    assert table(run_sweep(file, place)) == table(first)
    journal.write_bytes(b"not a journal\n" + whole)
    with pytest.raises(MissingError, match=r"journal\.log is damaged.*--overwrite"):
        run_sweep(file, place)
    journal.write_bytes(whole)
    shutil.rmtree(tmp_path / "run" / "trial-1")
    with pytest.raises(MissingError, match=r"The scores of finished trials are gone: .*trial-1\. Put them back"):
        run_sweep(file, place)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_worked_on_by_one_process(
    tmp_path: Path,
    swept: tuple[Path, SweepReport],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(number, "No locks available")

    place = copy_of(swept, tmp_path / f"run-{number}")
    monkeypatch.setattr("fcntl.flock", no_locks)
    assert table(run_sweep(swept[0], place)) == table(swept[1])
    assert "this file system has no locks" in caplog.text


def test_a_full_disk_under_the_journal_is_said_and_loses_nothing(
    tmp_path: Path, swept: tuple[Path, SweepReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = copy_of(swept, tmp_path / "run")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("optuna.storages.journal.JournalFileBackend.append_logs", full)
        with pytest.raises(RunFailedError, match="the disk is full"):
            run_sweep(swept[0], place, "sweep.trials=4")
        with pytest.raises(RunFailedError, match="the disk is full"):
            run_sweep(swept[0], f"output_dir={tmp_path / 'new'}")
    assert table(run_sweep(swept[0], place)) == table(swept[1])


def test_a_full_disk_ends_the_sweep_and_fails_no_trial(
    tmp_path: Path, sweep_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sweep_file(tmp_path, {**SEARCH, "trials": 1})

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("finetune_cli.commands.train.export_best", full)
        with pytest.raises(RunFailedError, match="the disk is full"):
            run_sweep(file)
    assert [one.state for one in run_sweep(file).trials] == ["complete"]


def test_without_optuna_it_says_what_to_install(
    tmp_path: Path, sweep_file: Callable[..., Path], command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "optuna" else find(name, *rest))
    answer = command(["sweep", sweep_file(tmp_path)])
    assert answer.code == 5
    assert "pip install 'finetune-cli[sweep]'" in answer.stderr


def test_train_says_that_it_leaves_the_search_alone(
    tmp_path: Path, sweep_file: Callable[..., Path], command: Callable[..., Answer]
) -> None:
    answer = command(["train", sweep_file(tmp_path)])
    assert answer.code == 0
    assert "The section sweep is for finetune sweep" in answer.stderr
    assert command(["sweep", tmp_path / "config.yaml"]).code == 2  # the directory holds a single run


P = "sweep.parameters"
BAD: list[tuple[Any, str]] = [
    ("none", "The config has no section sweep"),
    (5, "sweep: 5 is a number. Allowed: a section with keys"),
    ({"trials": 3}, f"{P}: is missing"),
    ({"parameters": {}, "trials": 3}, f"{P}: found a section with keys. Allowed: settings of the config"),
    ({"parameters": ["a"], "trials": 3}, f"{P}: found a list of 1"),
    ({"parameters": {"lr": [1, 2]}, "trials": 3}, f"{P}.lr: is called training.learning_rate here"),
    (
        {"parameters": {"batch_size": [1, 2]}, "trials": 3},
        f"{P}.batch_size: is not a setting. Write training.batch",
    ),
    ({"parameters": {"training.learnig_rate": [1, 2]}, "trials": 3}, "Did you mean training.learning_rate?"),
    ({"parameters": {"training": {"batch_size": [1, 2]}}, "trials": 3}, "sweep.parameters.training"),
    ({"parameters": {"seed": [1, 2]}, "trials": 3}, f"{P}.seed: cannot be searched: the best seed is the luckiest"),
    (
        {"parameters": {"data.path": ["a", "b"]}, "trials": 3},
        "trials are compared on the same rows",
    ),
    ({"parameters": {"data.folds": [2, 3]}, "trials": 3}, "trials are compared on the same rows"),
    ({"parameters": {"output_dir": ["a", "b"]}, "trials": 3}, "cannot be searched: it changes no score"),
    ({"parameters": {"evaluation.metrics": [["f1"], ["accuracy"]]}, "trials": 3}, "compared by one score"),
    ({"parameters": {"sweep.trials": [1, 2]}, "trials": 3}, "it is the search itself"),
    ({"parameters": {"training.batch_size": []}, "trials": 3}, "found an empty list"),
    ({"parameters": {"training.batch_size": [8]}, "trials": 3}, "found a list of one"),
    (
        {"parameters": {"training.batch_size": [8, 8]}, "trials": 3},
        "training.batch_size.1: 8 is in the list twice",
    ),
    ({"parameters": {"training.batch_size": [8, 0]}, "trials": 3}, "0 does not fit training.batch_size"),
    ({"parameters": {"training.loop": ["trainer", "other"]}, "trials": 3}, "other does not fit training.loop"),
    ({"parameters": {"training.batch_size": 8}, "trials": 3}, "found 8. Allowed: a list of values, or {low"),
    ({"parameters": {"training.learning_rate": {"low": 2, "high": 1}}, "trials": 3}, "2 is not below high (1)"),
    ({"parameters": {"training.learning_rate": {"low": 1, "high": 1}}, "trials": 3}, "1 is not below high (1)"),
    (
        {"parameters": {"training.weight_decay": {"low": 0, "high": 1, "log": True}}, "trials": 3},
        f"{P}.training.weight_decay.low: 0 has no logarithm",
    ),
    ({"parameters": {"training.learning_rate": {"low": 1e-5}}, "trials": 3}, "has no high"),
    ({"parameters": {"training.learning_rate": {"min": 1, "max": 2}}, "trials": 3}, "Write low"),
    ({"parameters": {"training.learning_rate": {"low": "a", "high": 2}}, "trials": 3}, "found a. Allowed: a number"),
    ({"parameters": {"training.learning_rate": {"low": -1, "high": 2}}, "trials": 3}, "-1 does not fit"),
    ({"parameters": {"training.packing": {"low": 0, "high": 1}}, "trials": 3}, "0 does not fit training.packing"),
    ({"parameters": {"training.batch_size": {"low": 8, "high": 9, "step": 4}}, "trials": 3}, "more than the range"),
    (
        {"parameters": {"training.batch_size": {"low": 1, "high": 9, "step": 0}}, "trials": 3},
        "found 0. Allowed",
    ),
    ({"parameters": {"training.batch_size": {"low": 1, "high": 9, "step": 1.5}}, "trials": 3}, "1.5 is not a whole"),
    (
        {"parameters": {"training.batch_size": {"low": 1, "high": 9, "step": 2, "log": True}}, "trials": 3},
        "does not go with log: true",
    ),
    (
        {"parameters": {"training.batch_size": {"low": 1, "high": 9, "log": "yes"}}, "trials": 3},
        "found yes. Allowed",
    ),
    (
        {"parameters": {"training.num_epochs": [1, 2], "training.max_steps": [4, 8]}, "trials": 3},
        "training.max_steps takes its place",
    ),
    (
        {"parameters": {"model.lora": [None, {"r": 8}], "model.lora.r": [4, 8]}, "trials": 3},
        "model.lora.r: is part of model.lora, which is searched too",
    ),
    ({"parameters": {"training.batch_size": [8, 16]}}, "sweep: says not when to end. Set sweep.trials: 20"),
    ({**SEARCH, "time": "soon"}, "sweep.time: 'soon' is no time. Allowed: such as 2h"),
    ({**SEARCH, "time": "0h"}, "sweep.time: '0h' is no time"),
    ({**SEARCH, "trials": 0}, "sweep.trials: 0 is out of range"),
    ({**SEARCH, "sampler": "bayes"}, "sweep.sampler: 'bayes' is not known. Allowed: tpe, random, grid"),
    ({**SEARCH, "pruner": "asha"}, "sweep.pruner: 'asha' is not known"),
    ({**SEARCH, "sampler": "grid"}, "a grid takes a list of values, or a range with a step"),
    ({**SEARCH, "seeds": [1, 1]}, "sweep.seeds.1: 1 is in the list twice"),
    ({**SEARCH, "seeds": [1, 2], "finalists": 4}, "sweep.finalists: 4 is more than sweep.trials (3)"),
    ({**SEARCH, "trails": 4}, "sweep.trails: unknown key"),
]


@pytest.mark.parametrize(("search", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_search_that_cannot_be_is_refused_with_its_line(
    tmp_path: Path, command: Callable[..., Answer], search: Any, message: str
) -> None:
    config = {"task": "sst2", "model": {"name_or_path": "bert-base-uncased"}, "training": {"num_epochs": 3}}
    file = tmp_path / "config.yaml"
    file.write_text(
        yaml.safe_dump(
            {**config, "output_dir": str(tmp_path / "run"), **({"sweep": search} if search != "none" else {})}
        )
    )
    answer = command(["sweep", file])
    assert answer.code == 2
    assert message in answer.stderr
    if search != "none":
        assert f"{file}:" in answer.stderr
    assert not (tmp_path / "run" / "trial-0").exists()


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["training.seeds=[1, 2]"], "training.seeds: a sweep trains each setting once"),
        (["data.folds=3", "sweep.seeds=[1, 2]"], "sweep.seeds: does not go with data.folds"),
        (["data.folds={n: 3, fold: final}", "evaluation.metric_for_best=null"], "data.folds.fold: a final model has"),
        (["data.folds=3", "sweep.pruner=median"], "sweep.pruner: trials with data.folds are judged when all folds"),
        (["training.num_epochs=1", "sweep.pruner=median"], "sweep.pruner: needs evaluations to compare"),
    ],
)
def test_what_does_not_go_with_a_sweep_is_refused(
    tmp_path: Path, write_config: Callable[..., Path], sets: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write_config(tmp_path, sweep=SEARCH), sets)
    assert message in str(caught.value)
