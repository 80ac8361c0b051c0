"""The same training with rising shares of train: ordinary runs, what they foretell, stops, failures, refusals."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.commands.compare import compare
from finetune_cli.commands.dry_run import dry_run
from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.learning_curve import share_config
from finetune_cli.commands.prepare import prepare
from finetune_cli.commands.runs import runs
from finetune_cli.commands.train import train
from finetune_cli.config.dump import config_diff
from finetune_cli.config.load import load_config
from finetune_cli.display.tables.learning_curve import curve_result
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ConfigError, DataError, ExitCode, GateFailedError, MembersFailedError, NotFinishedError
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.learning_curve import CurvePoint, CurveReport, Forecast
from finetune_cli.records.resampling import Resampling
from finetune_cli.records.training import MemberStarted, StepRecord
from finetune_cli.report.learning_curve import curve_chart, write_curve
from finetune_cli.runs.learning_curve import forecast
from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import Answer, history, read_jsonl, same_weights, saved_scores

SHARES, TWO = "training.learning_curve=[0.25, 0.5, 0.75, 1]", "training.learning_curve=[0.5, 1]"
QUICK = ("evaluation.bootstrap.samples=50", "evaluation.baseline=false", "training.max_steps=2")


def train_curve(file: Path, *overrides: str, **options: Any) -> CurveReport:
    report = train(load_config(file, [*QUICK, TWO, *overrides]), **options)
    assert isinstance(report, CurveReport)
    return report


def train_ids(run: Path) -> set[Any]:
    return set(prepare(load_config(run / "config.yaml")).splits["train"].ids)


@pytest.fixture(scope="module")
def curve(
    tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, make_dataset: Callable[..., Path]
) -> tuple[Path, CurveReport]:
    """The config file of a curve with four shares of 48 rows, an epoch each, and its report."""
    directory = tmp_path_factory.mktemp("curve")
    settings = {
        "task": "sst2",
        "model": {"name_or_path": str(tiny_bert)},
        "data": {"path": str(make_dataset(directory / "data")), "id": "idx"},
        "training": {"num_epochs": 1, "learning_rate": 1e-3, "precision": "fp32"},
        "evaluation": {"baseline": False, "bootstrap": {"samples": 50}},
        "output_dir": str(directory / "run"),
    }
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNE_CACHE", str(directory / "cache"))
        report = train(load_config(file, [SHARES]))
    assert isinstance(report, CurveReport)
    return file, report


def test_each_share_is_an_ordinary_run_on_rows_that_the_next_has_too(
    tmp_path: Path, curve: tuple[Path, CurveReport]
) -> None:
    file, report = curve
    run = RunDir(report.run_dir)
    assert [one.path.name for one in run.members()] == ["share-0.25", "share-0.5", "share-0.75", "share-1"]
    assert [point.rows for point in report.points] == [12, 24, 36, 48]
    rows = [train_ids(one.path) for one in run.members()]
    assert rows[0] < rows[1] < rows[2] < rows[3] == set(range(48))
    assert [len(history(one.path, "train")) for one in run.members()] == [2, 3, 5, 6]  # an epoch each, of batches of 8
    all_rows = train(load_config(file, [f"output_dir={tmp_path / 'alone'}"]))
    assert same_weights(run.member("share", 1).path, all_rows.run_dir)
    whole, half = load_config(run.config), load_config(run.member("share", 0.5).config)
    assert [key for key, *_ in config_diff(whole, half)] == ["data.share", "training.learning_curve", "output_dir"]
    tested = [
        [row["id"] for row in read_jsonl(one.path / "eval/validation/predictions.jsonl")] for one in run.members()
    ]
    assert tested[0] == tested[1] == tested[3]


def test_what_it_leaves_says_what_it_found(curve: tuple[Path, CurveReport]) -> None:
    _, report = curve
    run = RunDir(report.run_dir)
    assert json.loads(run.summary.read_text()) == json.loads(json.dumps(report.to_json()))
    numbers = json.loads((run.path / "metrics" / "learning_curve.json").read_text())
    for point, share in zip(numbers["points"], report.shares, strict=True):
        scores = saved_scores(run.member("share", share).path)["metrics"]["accuracy"]
        assert point["metrics"]["accuracy"] == {key: scores[key] for key in ("value", "low", "high")}
        assert point["values"] == {"42": scores["value"]}
    assert numbers["forecast"] is None
    assert numbers["answer"] == " ".join(report.answer)
    page = run.report.read_text()
    assert "<script" not in page
    assert "Would more data help?" in page
    assert page.count('class="dot second"') == 4
    assert 'class="band"' not in page
    record = run.read_record()
    assert (record.status, record.exit_code, record.shares, record.kind) == ("finished", 0, report.shares, "curve")
    assert record.scores is not None
    assert record.scores["accuracy"].value == report.points[-1].metrics["accuracy"].value
    listed = {one.path: one.record.kind for one in runs(run.path.parent).runs}
    assert (listed["run"], listed["run/share-0.25"]) == ("curve", "run")


def test_models_that_have_learned_foretell_more_rows(tmp_path: Path, curve: tuple[Path, CurveReport]) -> None:
    _, report = curve
    points = [replace(point, collapsed={}) for point in report.points]
    of_share = {share: [RunDir(report.run_dir).member("share", share)] for share in report.shares}
    foretold, why = forecast(points, of_share, "accuracy", kind="classification", resampling=Resampling(50))
    assert (foretold is not None, why) == (True, "")
    healthy = replace(report, run_dir=tmp_path, points=points, forecast=foretold)
    found = healthy.curve()["forecast"]
    assert found["rows"] == 96
    assert found["low"] < found["score"] < found["high"]
    assert found["gain_low"] < found["gain"] < found["gain_high"]
    write_curve(RunDir(tmp_path), healthy)
    assert 'class="band"' in RunDir(tmp_path).report.read_text()


def test_with_seeds_each_share_has_a_run_of_each_on_rows_of_its_own(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    file, run = write_config(tmp_path, data={"id": "idx"}), RunDir(tmp_path / "run")
    report = train_curve(file, "training.seeds=[1, 2]")
    of_half, of_all = run.member("share", 0.5), run.member("share", 1)
    assert [one.path.name for one in of_half.members("seed")] == ["seed-1", "seed-2"]
    first, second = (train_ids(one.path) for one in of_half.members("seed"))
    assert first != second
    assert first < train_ids(of_all.member("seed", 1).path)
    assert list(report.points[0].values) == [1, 2]
    assert report.points[0].metrics["accuracy"].value == pytest.approx(sum(report.points[0].values.values()) / 2)
    assert (run.read_record().seeds, run.read_record().shares) == ([1, 2], report.shares)
    assert run.report.read_text().count('class="dot second"') == 4
    assert list(train_curve(file, "training.seeds=[1, 2, 3]").points[0].values) == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"training\.seeds: 1 left out"):
        train_curve(file, "training.seeds=[2, 3]")


def acting(share: float, act: Callable[[], None]) -> Callable[[Any], None]:
    """A listener that acts at the first update of this share."""
    now = [0.0]

    def listen(event: Any) -> None:
        if isinstance(event, MemberStarted):
            now[:] = [event.key]
        elif isinstance(event, StepRecord) and now == [share] and event.step == 1:
            act()

    return listen


def fail() -> None:
    raise RuntimeError("the cable fell out")


def test_a_stop_ends_with_75_and_the_same_command_trains_what_is_left(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    file, run = write_config(tmp_path), RunDir(tmp_path / "run")
    with pytest.raises(NotFinishedError):
        train_curve(file, listen=acting(1.0, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert (run.read_record().status, run.read_record().exit_code) == ("stopped", 75)
    assert not run.summary.exists()
    with pytest.raises(ConfigError, match=r"a run for each of several shares.*share-0\.5, .*share-1"):
        evaluate(run.path)
    with pytest.raises(ConfigError, match="several shares"):
        compare([str(run.path), str(run.path)])
    stopped = train_curve(file)
    assert [(one.already_finished, one.resumed_from) for one in stopped.runs.values()] == [(True, 0), (False, 1)]
    undisturbed = train_curve(file, f"output_dir={tmp_path / 'other'}")
    assert stopped.curve() == undisturbed.curve()
    record = run.record.read_text()
    assert all(one.already_finished for one in train_curve(file).runs.values())
    assert run.record.read_text() == record  # finished before, with these shares


def test_shares_may_be_added_and_not_left_out(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file, left = write_config(tmp_path), RunDir(tmp_path / "run")
    train_curve(file)
    more = train_curve(file, "training.learning_curve=[0.25, 0.5, 1]")
    assert [one.already_finished for one in more.runs.values()] == [False, True, True]
    with pytest.raises(ConfigError, match=r"training\.learning_curve: 0\.25 left out"):
        train_curve(file)
    with pytest.raises(ConfigError, match=r"training\.learning_rate: 0\.001 there, 0\.01 now"):
        train_curve(file, "training.learning_curve=[0.25, 0.5, 1]", "training.learning_rate=1e-2")
    with pytest.raises(ConfigError, match="which is no seed"):
        train(load_config(file, [*QUICK, "training.seeds=[1, 2]"]))
    with pytest.raises(ConfigError, match=r"holds several runs, such as share-0\.25"):
        train(load_config(file, QUICK))
    with pytest.raises(ConfigError, match="--resume PATH"):
        train_curve(file, resume="checkpoints/step-000006")
    assert list(train_curve(file, "training.learning_curve=[0.3, 0.6]", overwrite=True).runs) == [0.3, 0.6]
    assert [one.path.name for one in left.members()] == ["share-0.3", "share-0.6"]


def test_a_share_that_fails_does_not_lose_the_others(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file, run = write_config(tmp_path), RunDir(tmp_path / "run")
    with pytest.raises(MembersFailedError, match="1 of 2 shares failed") as caught:
        train_curve(file, listen=acting(0.5, fail))
    report = caught.value.report
    assert (list(report.runs), report.failed) == ([1.0], {0.5: "RuntimeError: the cable fell out"})
    assert report.answer[0].startswith("The models have learned nothing")
    assert "The share 0.5 failed: RuntimeError" in run.report.read_text()
    assert run.read_record().status == "failed"
    assert [one.already_finished for one in train_curve(file).runs.values()] == [False, True]


def test_gates_are_held_against_the_largest_share(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    file, run = write_config(tmp_path, evaluation={"gates": ["loss<0.001"]}), RunDir(tmp_path / "run")
    for seeds in ("null", "[1, 2]"):
        options = (f"training.seeds={seeds}", f"output_dir={run.path}-{seeds[:1]}")
        with pytest.raises(GateFailedError, match="the largest share of train, 1") as caught:
            train_curve(file, *options)
        found = caught.value.report
        assert found.gates[0].found == found.points[-1].metrics["loss"].value
        record = RunDir(f"{run.path}-{seeds[:1]}").read_record()
        assert (record.status, record.exit_code) == ("finished", 4)


def test_the_command_shows_the_curve(
    curve: tuple[Path, CurveReport], command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, report = curve
    monkeypatch.setenv("FINETUNE_CACHE", str(file.parent / "cache"))
    asked = ["train", file, "--learning-curve", "0.25, .5,7.5e-1,1"]
    answer = command(asked)
    assert answer.code == 0, answer.stderr
    assert "validation: 12 rows, 4 shares of train" in answer.stdout
    assert re.search(r"0\.25 +12 +0\.\d{3} \[", answer.stdout)
    assert report.answer[0] in answer.stdout
    assert answer.stdout.count("  collapsed\n") == 4
    assert "The models have learned nothing" in answer.stdout
    assert "twice the rows" not in answer.stdout.lower()
    assert f"finetune evaluate {report.run_dir / 'share-1'}" in answer.stdout
    assert "Share 0.25 (1 of 4)" in answer.stderr
    assert "data.share 0.25: 12 of 48 rows of train" in answer.stderr
    assert answer.stderr.count("tokenised rows: ") == 1
    document = json.loads(command([*asked, "--json"]).stdout)
    assert [point["rows"] for point in document["points"]] == [12, 24, 36, 48]
    assert list(document["runs"]) == ["0.25", "0.5", "0.75", "1.0"]
    assert command(["runs", report.run_dir]).stdout.count("share-") == 4


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ("1,0.5", "0.5 comes after 1"),
        ("0.5,0.5,1", "0.5 is there twice"),
        ("0,0.5,1", "0.0 is out of range"),
        ("0.5,1.5", "1.5 is out of range"),
        ("-0.5,1", "-0.5 is out of range"),
        ("0.5", "a list of two or more rising shares"),
        ("", "rising shares of train with commas"),
        ("0.1;0.5", "rising shares of train with commas"),
        ("nan,1", "rising shares of train with commas"),
        ("0.1,,1", "rising shares of train with commas"),
        ("10%,50%", "rising shares of train with commas"),
    ],
)
def test_shares_that_cannot_be_are_refused(
    tmp_path: Path, write_config: Callable[..., Path], command: Callable[..., Answer], shares: str, said: str
) -> None:
    answer = command(["train", write_config(tmp_path), f"--learning-curve={shares}"])
    assert answer.code == ExitCode.CONFIG
    assert said in answer.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.folds=3", "Take one fold: data.folds.fold: 1"),
        ("data.folds={n: 3, fold: final}", "Take one fold: data.folds.fold: 1"),
        ("data.share=0.5", "training.learning_curve sets it for each run"),
        ("hub={repo_id: me/model}", "training.learning_curve makes several models"),
        ("sweep={parameters: {training.batch_size: [4, 8]}, trials: 2}", "a sweep trains each setting on all rows"),
    ],
)
def test_what_does_not_go_with_a_curve_is_refused(
    tmp_path: Path, write_config: Callable[..., Path], change: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_config(write_config(tmp_path), [SHARES, change])


def test_several_processes_and_a_dry_run_are_refused(
    tmp_path: Path,
    write_config: Callable[..., Path],
    command: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_config(tmp_path)
    answer = command(["train", file, "--learning-curve=0.5,1", "--num-processes=2"])
    assert (answer.code, "Leave out --num-processes" in answer.stderr) == (ExitCode.CONFIG, True)
    with pytest.raises(ConfigError, match=r"-s training\.learning_curve=null -s data\.share=1"):
        dry_run(load_config(file, [SHARES]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="Start it without a launcher"):
        train_curve(file)
    assert not (tmp_path / "run").exists()


def test_shares_too_small_for_the_classes_or_alike_are_refused_before_anything_is_trained(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    file = write_config(tmp_path)
    with pytest.raises(DataError, match=r"0\.01 is 0 of the 48 rows of train, and each of the 2 classes needs one"):
        train_curve(file, "training.learning_curve=[0.01, 1]")
    with pytest.raises(DataError, match=r"the shares 0\.5 and 0\.501 are the same 24 rows"):
        train_curve(file, "training.learning_curve=[0.5, 0.501]")
    assert not (tmp_path / "run").exists()


def test_of_one_fold_groups_stay_together(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    data = tmp_path / "data"
    file = write_config(tmp_path)
    lines = (data / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"author": place // 4} for place, line in enumerate(lines)]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load_config(file, [SHARES, "data.id=idx", "data.folds={n: 3, fold: 2, group: author}"])
    held_out = set(prepare(share_config(config, 1.0)).splits["validation"].ids)
    for share in (0.25, 0.5):
        prepared = prepare(share_config(config, share))
        chosen = set(prepared.splits["train"].ids)
        assert set(prepared.splits["validation"].ids) == held_out
        assert not chosen & held_out
        for first in range(0, 48, 4):
            assert len(chosen & set(range(first, first + 4))) in (0, 4)


def a_forecast(metric: str = "accuracy", **changes: Any) -> Forecast:
    usual: dict[str, Any] = {
        "rows": 16000,
        "score": 0.895,
        "low": 0.873,
        "high": 0.912,
        "gain": 0.012,
        "gain_low": 0.004,
        "gain_high": 0.021,
        "cost": (13000, 7600, None),
    }
    return Forecast(metric, **{**usual, **changes})


@pytest.mark.parametrize(
    ("found", "sentences"),
    [
        (
            a_forecast(),
            [
                "Twice the rows (16,000) should make accuracy better by +1.2 points [+0.4, +2.1]: a training with them "
                "would score 0.895 [0.873, 0.912].",
                "One more point would take about 13,000 further rows, 7,600 at least; there may be no end.",
            ],
        ),
        (
            a_forecast(cost=(13000, 7600, 90000)),
            [..., "One more point would take about 13,000 further rows [7,600, 90,000]."],
        ),
        (
            a_forecast(cost=(None, 7600, None)),
            [..., "One more point is not in sight: the curve flattens before 50 times the rows."],
        ),
        (
            a_forecast(gain_low=-0.003, cost=None),
            [
                "The curve does not say that more data would help: twice the rows (16,000) would make accuracy better "
                "by +1.2 points [-0.3, +2.1], and that interval holds 0."
            ],
        ),
        (
            a_forecast("log_loss", cost=None),
            [
                "Twice the rows (16,000) should make log_loss better by +0.012 [+0.004, +0.021]: a training with them "
                "would score 0.895 [0.873, 0.912]."
            ],
        ),
    ],
)
def test_the_answer_is_a_sentence(found: Forecast, sentences: list[Any]) -> None:
    assert len(found.sentences) == len(sentences)
    for said, expected in zip(found.sentences, sentences, strict=True):
        assert expected in (..., said)


def test_collapsed_models_are_named_in_the_table_the_page_and_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = {"accuracy": MetricValue(0.5, 0.4, 0.6)}
    points = [
        CurvePoint(0.5, 50, score, {1: 0.5, 2: 0.5}, {1: "yes"}),
        CurvePoint(0.75, 75, score, {1: 0.5}, {1: "yes"}),
        CurvePoint(1.0, 100, score, {1: 0.5}),
    ]
    report = CurveReport(tmp_path, [0.5, 0.75, 1.0], "accuracy", 0.95, 90, {}, {}, points, None, "")
    curve_result(Output(), report)
    rows = [line.rstrip() for line in capsys.readouterr().out.splitlines() if " [0." in line]
    assert [
        row.endswith(word) for row, word in zip(rows, ("1 of 2 collapsed", "0.600]  collapsed", "0.600]"), strict=True)
    ]
    write_curve(RunDir(tmp_path), report)
    page = RunDir(tmp_path).report.read_text()
    assert page.count("collapsed</span>") == 2
    assert "does not lie on a power law" in page
    assert [point.get("collapsed") for point in report.curve()["points"]] == [{1: "yes"}, {1: "yes"}, None]


def test_a_curve_that_cannot_be_read_says_why() -> None:
    points = [CurvePoint(share, int(100 * share), {}, {1: 1.0}) for share in (0.1, 0.2, 0.5, 1.0)]

    def answer(points: list[CurvePoint], metric: str) -> str:
        found, why = forecast(points, {}, metric, kind="classification", resampling=Resampling(10))
        assert found is None
        return why

    assert "it takes 4 shares at least, and 3 have a score" in answer(points[:3], "f1")
    assert "whether more evaluate:mine is better" in answer(points, "evaluate:mine")
    assert "no errors left" in answer(points, "f1")
    undefined = [*points[:3], CurvePoint(1.0, 100, {}, {1: float("nan")})]
    assert "it takes 4 shares at least, and 3 have a score" in answer(undefined, "f1")
    drawn = curve_chart(undefined, "f1", None)
    assert drawn.count("<circle") == 3
    score = MetricValue(float("nan"))
    assert CurvePoint(1.0, 100, {"f1": score}, {1: score.value}).to_json()["values"] == {1: None}


@pytest.mark.parametrize(
    ("collapsed", "said"),
    [
        ([0.1, 0.2, 0.5, 0.7, 1.0], "The models have learned nothing, so the curve does not say"),
        ([0.1, 0.2, 0.5, 0.7], "1 share has models that have learned something, and it takes 4 at least"),
        ([0.1, 0.2, 0.5], "2 shares have models that have learned something, and it takes 4 at least"),
        ([0.1, 0.2], "3 shares have models that have learned something, and it takes 4 at least"),
    ],
)
@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_collapsed_models_foretell_nothing(collapsed: list[float], said: str, seeds: tuple[int, ...]) -> None:
    points = [
        CurvePoint(
            share, int(100 * share), {}, dict.fromkeys(seeds, 0.5), dict.fromkeys(seeds * (share in collapsed), "a")
        )
        for share in (0.1, 0.2, 0.5, 0.7, 1.0)
    ]
    found, why = forecast(points, {}, "accuracy", kind="classification", resampling=Resampling(10))
    assert found is None
    assert said in why
