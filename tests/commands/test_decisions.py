"""A decision rule from `evaluate --fit` to `predict`: fitted, stored, obeyed, removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from finetune_cli.runs.run_dir import RunDir
from tests.commands.run_files import Answer, Trained, read_jsonl, saved_scores


@pytest.fixture
def doubtful(tmp_path: Path, learned: Callable[..., Trained], make_dataset: Callable[..., Path]) -> RunDir:
    """A copy of a run whose 60 validation rows have 12 wrong labels, so that its model is far too confident."""
    data, run = make_dataset(tmp_path / "doubtful", rows=240), RunDir(tmp_path / "run")
    rows = read_jsonl(data / "validation.jsonl")
    for row in rows[::5]:
        row["label"] = 1 - row["label"]
    (data / "validation.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    shutil.copytree(learned("sst2").run.path, run.path)
    config = yaml.safe_load(run.config.read_text())
    config["data"]["path"] = str(data)
    config["evaluation"]["bootstrap"]["samples"] = 200
    run.config.write_text(yaml.safe_dump(config))
    return run


def test_a_rule_is_fitted_obeyed_and_removed(doubtful: RunDir, tmp_path: Path, command: Callable[..., Answer]) -> None:
    run, file = doubtful.path, doubtful.model / "decision.json"
    assert command(["evaluate", run]).code == 0
    plain, card = saved_scores(run), (doubtful.model / "README.md").read_bytes()

    answer = command(["evaluate", run, "--fit", "temperature", "--fit", "threshold", "--for", "recall"])
    assert answer.code == 0, answer.stderr
    rule = json.loads(file.read_text())
    assert rule["temperature"] > 1
    limit = rule["thresholds"]["positive"]
    assert (rule["for"], rule["fitted_on"], rule["n"]) == ("recall", "validation", 60)
    assert (
        f"decision rule: temperature {rule['temperature']:.4g}, 'positive' above {limit:.4g} for recall"
        in answer.stdout
    )
    assert "cross-validated" in answer.stdout
    assert b"divide the logits by" in (doubtful.model / "README.md").read_bytes()

    scores = saved_scores(run)
    effect = scores["decision"]
    assert effect["rule"] == rule
    for name in ("log_loss", "brier", "ece"):
        assert effect["after"][name]["value"] < effect["before"][name]["value"], name
        assert effect["after"][name]["value"] < effect["cross_validated"][name]["value"] + 0.02, name
    assert effect["after"]["recall"]["value"] == 1.0  # a low threshold gives everything the class
    assert scores["loss"] == pytest.approx(effect["after"]["log_loss"]["value"])
    assert plain["loss"] == pytest.approx(effect["before"]["log_loss"]["value"])
    words = scores["text_baseline"]  # the words know no rule, the model that is held against them obeys it
    assert words["metrics"] == plain["text_baseline"]["metrics"]
    for name, one in words["differences"].items():
        held = scores["metrics"][name]["value"] - words["metrics"][name]["value"]
        assert one["difference"] == pytest.approx(held), name
    folder = doubtful.evaluation("validation")
    assert "decision rule" in (folder / "report.md").read_text()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert command(["evaluate", run]).code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    rows = read_jsonl(folder / "predictions.jsonl")
    answer = command(["predict", run, tmp_path / "doubtful" / "validation.jsonl", "--probabilities"])
    answers = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [row["prediction"] for row in answers] == [row["prediction"] for row in rows]
    assert [row["probabilities"]["positive"] for row in answers] == pytest.approx(
        [row["probabilities"]["positive"] for row in rows], abs=1e-5
    )
    assert all((row["prediction"] == "positive") == (row["probabilities"]["positive"] > limit) for row in answers)

    answer = command(["evaluate", run, "--fit", "none"])
    assert answer.code == 0, answer.stderr
    assert "decision rule" not in answer.stdout
    assert not file.exists()
    assert saved_scores(run) == plain
    assert (doubtful.model / "README.md").read_bytes() == card


def test_a_rule_can_be_scored_on_other_rows_than_it_was_fitted_on(
    doubtful: RunDir, command: Callable[..., Answer]
) -> None:
    answer = command(["evaluate", doubtful.path, "--split", "train", "--fit", "temperature", "--json"])
    assert answer.code == 0, answer.stderr
    effect = json.loads(answer.stdout)["decision"]
    assert (effect["rule"]["n"], effect["rule"]["thresholds"], effect["cross_validated"]) == (60, None, None)
    assert effect["before"]["accuracy"] == effect["after"]["accuracy"]


def test_doubtful_answers_are_left_out(doubtful: RunDir, tmp_path: Path, command: Callable[..., Answer]) -> None:
    """With a temperature, since this model is sure of everything without."""
    assert command(["evaluate", doubtful.path, "--fit", "temperature"]).code == 0
    answer = command(["predict", doubtful.path, tmp_path / "doubtful" / "validation.jsonl", "--probabilities"])
    confidence = [max(json.loads(line)["probabilities"].values()) for line in answer.stdout.splitlines()]
    limit = sorted(confidence)[20]
    answer = command(["evaluate", doubtful.path, "--min-confidence", f"{limit:.6f}", "--json"])
    answered = json.loads(answer.stdout)["answered"]
    sure = sum(one >= round(limit, 6) for one in confidence)
    assert answered["n"] == pytest.approx(sure, abs=1)  # a probability next to the limit
    assert answered["coverage"] == answered["n"] / 60
    assert "answered" not in saved_scores(doubtful.path)
    answer = command(["evaluate", doubtful.path, "--min-confidence", "0.5"])
    assert "60 rows (100.0%) are answered with a confidence of 0.5 or more; their scores:" in answer.stdout
    output = tmp_path / "answers.csv"
    source = tmp_path / "doubtful" / "validation.jsonl"
    answer = command(["predict", doubtful.path, source, "--min-confidence", f"{limit:.6f}", "-o", output])
    assert answer.code == 0, answer.stderr
    given = [line.split(",")[1] for line in output.read_text().splitlines()[1:]]
    assert len(given) == 60
    assert sum(map(bool, given)) == answered["n"]


def test_a_damaged_rule_stops_both_commands_and_is_mended(doubtful: RunDir, command: Callable[..., Answer]) -> None:
    (doubtful.model / "decision.json").write_text('{"temperature": -1}')
    for arguments in (["evaluate", doubtful.path], ["predict", doubtful.path, "--text", "a film"]):
        answer = command(arguments)
        assert (answer.code, answer.stdout) == (5, "")
        assert "temperature is -1, expected a number above 0" in answer.stderr
    assert command(["evaluate", doubtful.path, "--fit", "temperature"]).code == 0
    assert command(["predict", doubtful.path, "--text", "a film"]).code == 0


def test_several_labels_a_row_get_a_threshold_each(
    tmp_path: Path, train_run: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    """A word of judgement and a topic in each sentence; a model of one epoch, which knows neither well."""
    for split, count in (("train", 48), ("validation", 40)):
        rows = [
            {
                "text": f"the {'good' if number % 3 else 'bad'} {'film' if number % 4 else 'meal'}",
                "label": (["praise"] if number % 3 else []) + (["food"] if number % 4 == 0 or number % 7 == 0 else []),
            }
            for number in range(count)
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run = train_run(tmp_path, task="multilabel", data={"path": str(tmp_path), "text": "text"}).run
    options = ["--fit", "temperature", "--fit", "threshold", "--for", "f1_macro"]
    answer = command(["evaluate", run.path, *options])
    assert answer.code == 0, answer.stderr
    rule = json.loads((run.model / "decision.json").read_text())
    assert set(rule["thresholds"]) == {"food", "praise"}
    assert f"decision rule: temperature {rule['temperature']:.4g}, thresholds of 2 classes" in answer.stdout
    rows = read_jsonl(run.evaluation("validation") / "predictions.jsonl")
    for row in rows:
        assert set(row["prediction"]) == {
            name for name, probability in row["probabilities"].items() if probability > rule["thresholds"][name]
        }
    answer = command(["predict", run.path, tmp_path / "validation.jsonl"])
    assert [json.loads(line)["prediction"] for line in answer.stdout.splitlines()] == [
        row["prediction"] for row in rows
    ]
    assert command(["predict", run.path, "--text", "a film", "--min-confidence", "0.7"]).code == 2


def test_unsure_rows_are_left_out_with_a_guarantee(
    learned: Callable[..., Trained], tmp_path: Path, command: Callable[..., Answer]
) -> None:
    run = RunDir(tmp_path / "run")
    shutil.copytree(learned("sst2").run.path, run.path)
    answer = command(["evaluate", run.path, "--fit", "abstain", "--max-error", "0.5"])
    assert answer.code == 0, answer.stderr
    abstain = json.loads((run.model / "decision.json").read_text())["abstain"]
    assert (abstain["max_error"], abstain["confidence"]) == (0.5, 0.9)
    assert f"no answer below a confidence of {abstain['below']:.4g} (at most 0.5 wrong" in answer.stdout
    assert "are answered with a confidence of" in answer.stdout
    assert "give no answer whose probability is lower than" in (run.model / "README.md").read_text()
    # a rule that leaves rows out is obeyed by predict, and an option is nearer than the rule
    rule = json.loads((run.model / "decision.json").read_text())
    (run.model / "decision.json").write_text(json.dumps(rule | {"abstain": abstain | {"below": 1.0}}))
    texts = ["--text", "a b c"]
    assert json.loads(command(["predict", run.path, *texts]).stdout)["prediction"] is None
    assert json.loads(command(["predict", run.path, *texts, "--min-confidence", "0"]).stdout)["prediction"]
    # the predictions of an evaluation stay whole: they are what runs are compared by
    assert command(["evaluate", run.path]).code == 0
    assert all(row["prediction"] for row in read_jsonl(run.evaluation("validation") / "predictions.jsonl"))
    assert command(["evaluate", run.path, "--fit", "none"]).code == 0
    assert not (run.model / "decision.json").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--fit", "abstain"], 2, "--fit abstain needs the share of its answers that may be wrong"),
        (["--max-error", "0.1"], 2, "--max-error is for --fit abstain"),
        (["--fit", "temperature", "--confidence", "0.9"], 2, "--confidence is for --fit abstain"),
        (["--fit", "abstain", "--max-error", "5"], 2, "--max-error 5: expected a share between 0 and 1"),
        (["--fit", "abstain", "--max-error", "nan"], 2, "--max-error nan: expected a share between 0 and 1"),
        (["--fit", "abstain", "--max-error", "0.01"], 3, "validation rows cannot give at most 1.0% wrong"),
    ],
)
def test_a_guarantee_that_cannot_be_given_is_refused(
    options: list[str],
    code: int,
    message: str,
    learned: Callable[..., Trained],
    tmp_path: Path,
    command: Callable[..., Answer],
) -> None:
    run = RunDir(tmp_path / "run")
    shutil.copytree(learned("sst2").run.path, run.path)
    answer = command(["evaluate", run.path, *options])
    assert answer.code == code, answer.stderr
    assert message in answer.stderr
    assert not (run.model / "decision.json").exists()
