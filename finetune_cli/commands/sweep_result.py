"""What a sweep has found, when its trials are done: the best, the finalists, comparisons, which settings mattered."""

from __future__ import annotations

import json
import math
import random
import shutil
import statistics
import warnings
from dataclasses import replace

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from finetune_cli.commands.compare import compare
from finetune_cli.config.changes import changed
from finetune_cli.config.dump import to_yaml
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.errors import MissingError
from finetune_cli.evaluation.candidates import deciding_metric
from finetune_cli.records.evaluation import Corrected, MetricValue, of_split
from finetune_cli.records.sweep import ComparedTrials, Finalist, SearchedSetting, SweepReport, TrialResult
from finetune_cli.records.sweep import TrialState as Ended
from finetune_cli.records.training import SeedsReport
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.report.sweep import write_sweep_page
from finetune_cli.runs.candidates import corrected_best, read_candidates
from finetune_cli.runs.gates import check_config_gates
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.sweeps.study import DEFAULTS, ERROR, SECONDS, Search
from finetune_cli.runs.sweeps.trials import Sweep
from finetune_cli.system.files import write_json, write_text

STATES: dict[TrialState, Ended] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
FEWEST_TRIALS = 8  # complete ones, for which importances are said
RESAMPLES = 50
NEAR = 0.1  # of the range


def require_scores(run: RunDir, search: Search) -> None:
    """Raise MissingError for a finished trial whose directory has been deleted: it would be missed at the end."""
    members = [run.member("trial", trial.number) for trial in search.complete]
    if gone := [member.path for member in members if not (member.evaluation("validation") / "metrics.json").is_file()]:
        names = ", ".join(map(str, gone))
        raise MissingError(
            f"The scores of finished trials are gone: {names}. Put them back, or start anew with --overwrite."
        )


def close_sweep(sweep: Sweep) -> SweepReport:
    """Train the finalists, and write summary.json, report.html, best.yaml and the link best/."""
    search, finalists = sweep.search, _finalists(sweep)
    sign = 1 if search.maximise else -1
    best = max(finalists, key=lambda finalist: sign * finalist.mean).number if finalists else None
    if best is None and search.best is not None:
        best = search.best.number
    candidates, corrected = _corrected(sweep, best)
    report = SweepReport(
        run_dir=sweep.run.path,
        metric=sweep.metric,
        greater_is_better=search.maximise,
        trials=[_result(sweep, trial) for trial in search.trials],
        best=best,
        folds=sweep.config.data.folds.n if sweep.config.data.folds else None,
        candidates=candidates,
        corrected=corrected,
        comparisons=_comparisons(sweep, best),
        finalists=finalists,
        settings=_searched(search, best),
        gates=[] if best is None else _gates(sweep, best, corrected),
    )
    write_json(sweep.run.summary, report.to_json())
    write_sweep_page(sweep.run, sweep.config, search.settings, report)
    if best is not None:
        _point_at_best(sweep.run, sweep.config, best)
    return report


def _gates(sweep: Sweep, best: int, corrected: Corrected | None) -> list[GateOutcome]:
    """The config's gates on the best trial's scores; its own correction is not that of the choice among trials."""
    decider = deciding_metric(sweep.metric, sweep.config.spec.kind)
    fair = {decider: corrected} if corrected else {}
    return check_config_gates(sweep.config, replace(sweep.member(best).read_scores(), corrected=fair))


def _result(sweep: Sweep, trial: FrozenTrial) -> TrialResult:
    state, score, rows, collapsed = STATES[trial.state], None, None, None
    if state == "complete":
        report = sweep.member(trial.number).read_scores()
        score, rows, collapsed = report.scores[sweep.metric], report.n, report.collapsed
    elif trial.intermediate_values:
        score = MetricValue(trial.intermediate_values[max(trial.intermediate_values)])
    return TrialResult(
        number=trial.number,
        state=state,
        values=sweep.search.values(trial),
        score=score,
        n=rows,
        seconds=trial.user_attrs.get(SECONDS, 0.0),
        error=trial.user_attrs.get(ERROR),
        defaults=bool(trial.user_attrs.get(DEFAULTS)),
        collapsed=collapsed,
    )


def _corrected(sweep: Sweep, best: int | None) -> tuple[int, Corrected | None]:
    """How many candidates the best was chosen among, and its score less the price of that choice.

    They are the evaluations of all trials that were scored, of pruned ones too; with folds the trials themselves.
    """
    if best is None:
        return len(sweep.search.complete), None
    score = _result(sweep, sweep.search.trials[best]).score
    assert score is not None, "the best trial is complete"
    runs = {
        trial.number: member
        for trial, member in ((trial, sweep.member(trial.number)) for trial in sweep.search.trials)
        if trial.state == TrialState.COMPLETE
        or (trial.state == TrialState.PRUNED and read_candidates(member) is not None)
    }
    return corrected_best(score, sweep.metric, runs, best, seed=sweep.config.seed)


def _finalists(sweep: Sweep) -> list[Finalist]:
    """The best settings with several seeds, an ordinary training of several seeds each; the best trial first."""
    settings, finalists = sweep.search.settings, []
    if settings.seeds is None:
        return []
    for trial in sweep.search.complete[: settings.finalists]:
        config = sweep.config_of(trial)
        path = str(sweep.run.member("finalist", trial.number).path)
        report = sweep.train(changed(config, {"training.seeds": settings.seeds, "output_dir": path}), sweep.listen)
        assert isinstance(report, SeedsReport), "several seeds were asked for"
        split = of_split(report.splits)
        score = split.metrics[sweep.metric]
        finalists.append(Finalist(trial.number, score.mean, score.sd, score.low, score.high, list(split.collapsed)))
    return finalists


def _comparisons(sweep: Sweep, best: int | None) -> list[ComparedTrials]:
    """The best trial against the runner-up and against the config's own values, on the same rows."""
    others = [trial for trial in sweep.search.complete if trial.number != best]
    wanted = [*others[:1], *(trial for trial in others[1:] if trial.user_attrs.get(DEFAULTS))]
    if best is None or not wanted:
        return []
    metric = deciding_metric(sweep.metric, sweep.config.spec.kind)
    numbers = [best, *(trial.number for trial in wanted)]
    report = compare([str(sweep.member(number).path) for number in numbers], metrics=[metric])
    return [ComparedTrials(number, one) for number, one in zip(numbers[1:], report.comparisons, strict=True)]


def _searched(search: Search, best: int | None) -> list[SearchedSetting]:
    if best is None:
        return []
    trial = search.trials[best]
    importances = _importances(search)
    settings = []
    for key, value in search.values(trial).items():
        importance, sd = importances.get(key, (None, None))
        settings.append(SearchedSetting(key, value, importance, sd, _bound(trial, key)))
    return settings


def _bound(trial: FrozenTrial, key: str) -> str | None:
    """Which end of its range a value lies near, if any; on the logarithmic scale where that was searched."""
    among, value = trial.distributions[key], trial.params[key]
    if not isinstance(among, FloatDistribution | IntDistribution):
        return None
    scale = math.log if among.log else float
    place = (scale(value) - scale(among.low)) / (scale(among.high) - scale(among.low))
    return "low" if place <= NEAR else "high" if place >= 1 - NEAR else None


def _importances(search: Search) -> dict[str, tuple[float, float]]:
    """PED-ANOVA importance of each setting (Watanabe, Bansal and Hutter 2023), with its sd over resampled trials."""
    complete = search.complete
    if len(complete) < FEWEST_TRIALS or len({trial.value for trial in complete}) == 1:
        return {}
    generator = random.Random(search.settings.seed)
    whole = _importance_of(search, complete)
    drawn = [_importance_of(search, generator.choices(complete, k=len(complete))) for _ in range(RESAMPLES)]
    return {key: (value, statistics.stdev(draw.get(key, 0.0) for draw in drawn)) for key, value in whole.items()}


def _importance_of(search: Search, trials: list[FrozenTrial]) -> dict[str, float]:
    memory = optuna.create_study(direction=search.study.direction)
    memory.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a resample in which a setting has one value
        importances = get_param_importances(memory, evaluator=PedAnovaImportanceEvaluator())
    return {key: value if math.isfinite(value) else 0.0 for key, value in importances.items()}


def _point_at_best(run: RunDir, whole: RunConfig, best: int) -> None:
    """best/ leads to the best trial; best.yaml is its config, ready to train into a directory of its own.

    It has what the whole has and a trial has not: gates, and a repository.
    """
    trial = run.member("trial", best)
    config = load_config(trial.config, [f"output_dir={json.dumps(f'{run.path}-best')}"])
    write_text(
        run.best_config, to_yaml(changed(config, {"evaluation.gates": whole.evaluation.gates, "hub": whole.hub}))
    )
    aside = run.path / ".writing-best"
    if aside.is_symlink():
        aside.unlink()
    if run.best.is_dir() and not run.best.is_symlink():
        shutil.rmtree(run.best)
    aside.symlink_to(trial.path.name, target_is_directory=True)
    aside.replace(run.best)
