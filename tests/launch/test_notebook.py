"""accelerate.notebook_launcher(train, ...): forked processes, one result."""

import pytest

from tests.launch.conftest import Session
from tests.launch.launch_runs import STOP_AFTER, history, record, require_same_curve

BOTH_LOOPS = pytest.mark.parametrize("loop", ["trainer", "accelerate"])


@BOTH_LOOPS
def test_two_forked_processes_train_the_model_of_one(session: Session, loop: str) -> None:
    assert session.ended[f"{loop}-1"] is None
    assert session.ended[f"{loop}-2"] is None
    assert record(session.folder / f"{loop}-1")["processes"] == 1
    assert record(session.folder / f"{loop}-2")["processes"] == 2
    require_same_curve(session.folder / f"{loop}-2", session.folder / f"{loop}-1")


@BOTH_LOOPS
def test_a_run_stopped_on_two_processes_goes_on_with_one(session: Session, loop: str) -> None:
    run = session.folder / f"{loop}-stopped"
    assert f"Stopped by SIGTERM after update {STOP_AFTER} of 6" in session.ended[f"{loop}-stopped"]
    assert session.ended[f"{loop}-continued"] is None
    assert record(run)["resumed_from"] == STOP_AFTER
    require_same_curve(run, session.folder / f"{loop}-1")


def test_both_loops_have_one_curve(session: Session) -> None:
    require_same_curve(session.folder / "accelerate-2", session.folder / "trainer-2")
    assert [line["step"] for line in history(session.folder / "trainer-2") if line["type"] == "eval"] == [3, 6]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("name", ["metrics.json", "predictions.jsonl"])
def test_evaluation_writes_the_same_bytes_on_any_number_of_processes(
    session: Session, name: str, processes: int
) -> None:
    assert session.ended["scores-1"] is None
    assert session.ended[f"scores-{processes}"] is None
    alone = (session.folder / "scores-1" / name).read_bytes()
    assert (session.folder / f"scores-{processes}" / name).read_bytes() == alone


def test_no_process_outlives_the_session(session: Session) -> None:
    assert session.process.orphans == []
