"""Studies that run: every run once, through errors, deaths and restarts, alone and in company."""

import contextlib
import csv
import io
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from conftest import ROOT
from optuna.trial import TrialState
from rich.console import Console

from project.errors import InputError, RunError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.train import train
from project.settings import nest
from project.studies.read_study import parse_study
from project.studies.running import engine, study_run
from project.studies.running import storage as study_storage
from project.studies.running.engine import run_study, study_records
from project.studies.running.progress import StudyProgress, duration
from project.studies.running.storage import StudyStorage
from project.studies.study import RunRecord, Study

SCRIPTS = ROOT / "scripts"


def small_study(idx_folder: Path, name: str = "small", **content: Any) -> Study:
    base = {
        "data.dataset": "idx",
        "data.root": str(idx_folder),
        "data.num_validation": 40,
        "data.batch_size": 32,
        "model.width": 8,
        "model.norm": "none",
        "model.dropout": 0.0,
        "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu",
        "trainer.log_every_n_steps": 2,
    }
    content = {"question": "?", "vary": {"model.depth": [0, 1]}, "seeds": 2, **content}
    content["base"] = base | content.get("base", {})
    return parse_study(name, {key: value for key, value in content.items() if value is not None})


Opened = Callable[..., StudyStorage]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Open a study's storage until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(StudyStorage(*arguments, **options))


def outcome(records: list[RunRecord]) -> list[tuple[Any, ...]]:
    """All that must not depend on how the runs came about."""
    timeless = {"seconds", "train_seconds", "examples_per_second"}
    return [
        (r.arm, r.seed, r.phase, r.status, r.history, sorted((k, v) for k, v in r.metrics.items() if k not in timeless))
        for r in records
    ]


def test_a_studys_run_is_the_run_that_train_py_makes(idx_folder: Path, tmp_path: Path) -> None:
    study = small_study(idx_folder, vary={"model.depth": [1, 2], "model.dropout": [0.0, 0.3]}, seeds=2)
    records = run_study(study, tmp_path / "s")
    assert len(records) == 8
    record = next(r for r in records if r.arm == "depth=2,dropout=0.3" and r.seed == 1)
    alone = train(
        build_run(parse_settings(nest({**study.settings(record.arm, 1), "run_root": str(tmp_path / "alone")})))
    )
    for name in ("test/accuracy", "test/loss", "validation/loss", "parameters", "steps"):
        assert record.metrics[name] == alone[name], name
    assert [layer["name"] for layer in record.layers["end"]] == ["hidden 1", "hidden 2", "output"]
    assert record.layers["start"] != record.layers["end"]
    assert len(record.history) == 2
    assert record.num_classes == 3
    assert (Path(record.folder) / "provenance.json").is_file()


def test_what_is_done_is_not_done_again_and_new_seeds_and_arms_are_added(idx_folder: Path, tmp_path: Path) -> None:
    first = run_study(small_study(idx_folder), tmp_path)
    folder = Path(first[0].folder)
    before = {path: path.stat().st_mtime_ns for path in folder.parent.iterdir()}
    assert outcome(run_study(small_study(idx_folder), tmp_path)) == outcome(first)
    assert {path: path.stat().st_mtime_ns for path in folder.parent.iterdir()} == before
    more = run_study(small_study(idx_folder, vary={"model.depth": [0, 1, 2]}, seeds=3), tmp_path)
    assert len(more) == 9
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    kept = [r for r in more if r.arm != "depth=2" and r.seed < 2]
    assert outcome(kept) == outcome(first)
    changed = run_study(small_study(idx_folder, base={"model.width": 9}), tmp_path)
    assert changed[1].metrics["parameters"] != first[1].metrics["parameters"]


def test_the_loaded_data_are_shared_and_the_results_are_not(idx_folder: Path, tmp_path: Path) -> None:
    study_run._loaded.clear()
    study = small_study(idx_folder, vary={"data.normalization": ["unit", "standardize"], "data.num_train": [64, 128]})
    records = run_study(study, tmp_path / "shared")
    assert len(study_run._loaded) == 1
    for record in records:
        study_run._loaded.clear()
        cell = next(c for c in study.final_cells() if (c.arm, c.seed) == (record.arm, record.seed))
        alone = study_run.execute(cell.settings, tmp_path / "alone" / "idx" / cell.run_name)
        assert alone["metrics"]["test/loss"] == record.metrics["test/loss"]
        assert alone["origin"]["split"] == record.origin["split"]


def test_a_failed_run_is_recorded_and_the_others_go_on(idx_folder: Path, tmp_path: Path, opened: Opened) -> None:
    arms = {"bad": {"model.dropout": 1.5}, "good": {}}
    study = small_study(idx_folder, vary=None, arms=arms)
    records = run_study(study, tmp_path)
    assert Counter((r.arm, r.status) for r in records) == {("bad", "failed"): 2, ("good", "completed"): 2}
    assert "model.dropout is 1.5" in records[0].error
    storage = opened(study, tmp_path)
    before = len(storage.runs.get_trials())
    run_study(study, tmp_path)
    assert len(storage.runs.get_trials()) == before  # a failed run is not tried again unless one asks for it
    run_study(study, tmp_path, retry_failed=True)
    assert len(storage.runs.get_trials()) == before + 2
    assert Counter(r.status for r in study_records(study, tmp_path)) == {"failed": 2, "completed": 2}


def test_an_error_that_nobody_thought_of_ends_one_run_only(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train
    monkeypatch.setattr(study_run, "train", lambda run: real(run) if run.module.mlp.hidden else 1 / 0)
    records = run_study(small_study(idx_folder), tmp_path)
    assert [r.status for r in records] == ["failed", "completed"] * 2
    assert "ZeroDivisionError" in records[0].error


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_training_that_diverges_is_a_result(idx_folder: Path, tmp_path: Path, checkpoints: bool) -> None:
    explode = {"model.optimizer": "sgd", "model.learning_rate": 1e30, "model.schedule": "constant"}
    study = small_study(
        idx_folder, vary=None, arms={"explodes": explode}, base={"trainer.enable_checkpointing": checkpoints}, seeds=1
    )
    (record,) = run_study(study, tmp_path)
    assert record.status == "diverged"
    # three classes of 19: a network that is not a number decides for the first
    assert record.value("test/accuracy") == pytest.approx(1 / 3)


def test_tuning_chooses_for_each_arm_by_validation_alone(idx_folder: Path, tmp_path: Path) -> None:
    study = small_study(
        idx_folder, tune={"settings": {"model.learning_rate": [1e-6, 1e-2]}, "seeds": 2}, base={"trainer.max_epochs": 4}
    )
    records = run_study(study, tmp_path)
    tuning, final = ([r for r in records if r.phase == phase] for phase in ("tune", "final"))
    assert (len(tuning), len(final)) == (8, 4)
    assert not {r.seed for r in tuning} & {r.seed for r in final}
    for arm in study.arms:
        scores = {
            rate: sum(
                r.metrics["validation/accuracy"]
                for r in tuning
                if r.arm == arm and r.settings["model.learning_rate"] == rate
            )
            for rate in (1e-6, 1e-2)
        }
        assert scores[1e-2] > scores[1e-6]
        assert {r.settings["model.learning_rate"] for r in final if r.arm == arm} == {1e-2}
        config = yaml.safe_load((Path(final[0].folder) / "config.yaml").read_text())
        assert config["model"]["learning_rate"] == 1e-2


def test_an_arm_that_no_tuning_can_save_fails_alone(idx_folder: Path, tmp_path: Path) -> None:
    study = small_study(
        idx_folder,
        vary=None,
        arms={"good": {}, "bad": {"model.dropout": 2.0}},
        tune={"settings": {"model.learning_rate": [1e-3, 1e-2]}},
        seeds=1,
    )
    records = run_study(study, tmp_path)
    assert [r.status for r in records if r.arm == "good"] == ["completed"] * 3
    bad = [r for r in records if r.arm == "bad"]
    assert [r.status for r in bad] == ["failed"] * 3
    assert "no settings that work for arm bad" in bad[-1].error


def test_a_search_prunes_and_refits_its_best_over_fresh_seeds(idx_folder: Path, tmp_path: Path, opened: Opened) -> None:
    settings = {"model.learning_rate": {"low": 1e-6, "high": 0.1, "log": True}, "model.depth": {"low": 0, "high": 2}}
    study = small_study(
        idx_folder, vary=None, search={"settings": settings, "trials": 12}, base={"trainer.max_epochs": 5}
    )
    records = run_study(study, tmp_path)
    storage = opened(study, tmp_path)
    assert storage.search is not None
    trials = storage.search.get_trials()
    states = Counter(trial.state for trial in trials)
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == len(trials) == 12
    assert states[TrialState.PRUNED] > 0
    assert all(len(t.intermediate_values) < 5 for t in trials if t.state == TrialState.PRUNED)
    assert [(r.arm, r.seed) for r in records] == [("base", 0), ("best", 0), ("base", 1), ("best", 1)]
    best = storage.search.best_trial.params
    assert all(records[1].settings[name] == value for name, value in best.items())
    # what the search ends with is a file for train.py, and makes the very same run
    flags = [f"--config={tmp_path / 'best.yaml'}", "--seed_everything=0", f"--run_root={tmp_path / 'alone'}"]
    alone = train(build_run(parse_settings([*flags, "--trainer.logger=false", "--trainer.enable_checkpointing=false"])))
    assert alone["test/loss"] == records[1].metrics["test/loss"]
    assert outcome(run_study(study, tmp_path)) == outcome(records)
    assert len(storage.search.get_trials()) == 12


def test_a_lost_run_is_found_by_its_dead_process_and_run_again(
    idx_folder: Path, tmp_path: Path, opened: Opened
) -> None:
    study = small_study(idx_folder)
    storage = opened(study, tmp_path, session="before")
    storage.fill()
    claimed = storage.claim()
    assert claimed is not None
    cell, trial_id = claimed
    storage.reclaim()  # this process lives, so its run is its own
    assert storage.owners()[cell.key].state == TrialState.RUNNING
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    storage.rdb.set_trial_user_attr(trial_id, "worker", study_storage._worker() | {"pid": child.pid, "started": "1"})
    records = run_study(study, tmp_path)
    assert [r.status for r in records] == ["completed"] * 4
    # what the dead worker would still say is not heard
    storage.complete(trial_id, cell, {"metrics": {"test/accuracy": 2.0}})
    assert outcome(study_records(study, tmp_path)) == outcome(records)


def test_a_worker_elsewhere_is_given_up_when_its_heartbeat_stops(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened
) -> None:
    study = small_study(idx_folder, seeds=1)
    monkeypatch.setattr(study_storage, "HEARTBEAT_S", 1)
    monkeypatch.setattr(study_storage, "GRACE_S", 2)
    storage = opened(study, tmp_path)
    storage.fill()
    cell, trial_id = storage.claim() or pytest.fail("nothing to claim")
    storage.rdb.set_trial_user_attr(trial_id, "worker", study_storage._worker() | {"place": "elsewhere", "pid": 1})
    storage.reclaim()
    assert storage.owners()[cell.key].state == TrialState.RUNNING
    with storage.heartbeat(trial_id):
        time.sleep(4)
        storage.reclaim()
        assert storage.owners()[cell.key]._trial_id == trial_id
    time.sleep(4)
    storage.reclaim()
    assert storage.owners()[cell.key].state == TrialState.WAITING
    assert storage.owners()[cell.key]._trial_id != trial_id


def test_a_run_that_takes_its_workers_down_is_given_up(idx_folder: Path, tmp_path: Path, opened: Opened) -> None:
    study = small_study(idx_folder, seeds=1)
    storage = opened(study, tmp_path, session="now")
    storage.fill()
    first = next(iter(storage.cells))
    for _ in range(study_storage.MOST_DEATHS):
        cell, trial_id = storage.claim() or pytest.fail("nothing to claim")
        assert cell.key == first
        storage.release(trial_id)
    assert storage.owners()[first].state == TrialState.FAIL
    assert "killed 3 times" in storage.owners()[first].user_attrs["error"]
    # the next session may try again, if one asks for it
    again = opened(study, tmp_path, session="later", retry_failed=True)
    again.fill()
    assert again.owners()[first].state == TrialState.WAITING


def test_a_run_has_one_owner_whatever_was_enqueued(idx_folder: Path, tmp_path: Path, opened: Opened) -> None:
    study = small_study(idx_folder)
    storage = opened(study, tmp_path)
    for _ in range(3):  # as if three machines had filled the queue at once
        for cell in storage.cells.values():
            storage.runs.enqueue_trial({}, user_attrs={"key": cell.key, "arm": "", "seed": 0, "phase": "final"})
    claimed: list[str] = []

    def claim() -> None:
        with StudyStorage(study, tmp_path) as mine:
            while taken := mine.claim():
                claimed.append(taken[0].key)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(storage.cells)


def test_progress_counts_what_the_storage_holds(idx_folder: Path, tmp_path: Path, opened: Opened) -> None:
    study = small_study(idx_folder)
    storage = opened(study, tmp_path)
    storage.fill()
    cell, trial_id = storage.claim() or pytest.fail("nothing to claim")
    shown: list[study_storage.Progress] = [storage.progress()]
    assert (shown[0].total, shown[0].done, shown[0].running) == (4, 0, (f"{cell.arm} seed {cell.seed}",))
    assert shown[0].seconds_left(1) is None
    storage.fail(trial_id, "no luck")
    run_study(study, tmp_path, show=shown.append)
    assert (shown[-1].done, shown[-1].failed, shown[-1].running) == (3, 1, ())
    assert shown[-1].seconds_left(2) == 0
    half = study_storage.Progress(10, 4, 1, (), (2.0, 4.0, 2.0, 4.0), "")
    assert half.seconds_left(2) == 3.0 * 5 / 2


def test_without_the_database_the_records_beside_it_are_read(idx_folder: Path, tmp_path: Path) -> None:
    study = small_study(idx_folder)
    records = run_study(study, tmp_path)
    (tmp_path / "study.db").unlink()
    assert study_records(study, tmp_path) == records


def test_bad_ways_to_run_a_study_are_refused(idx_folder: Path, tmp_path: Path) -> None:
    study = small_study(idx_folder)
    with pytest.raises(InputError, match="--workers is 0"):
        run_study(study, tmp_path, workers=0)
    with pytest.raises(InputError, match="database cannot be used"):
        run_study(study, tmp_path, url="postgresql://nobody@127.0.0.1:1/none?connect_timeout=1")
    with pytest.raises(InputError, match="database cannot be used"):
        run_study(study, tmp_path, url="no such database")


def write_study_file(path: Path, study: Study) -> Path:
    path.write_text(yaml.safe_dump(study.content))
    return path


def study_command(path: Path, root: Path, *flags: str) -> list[str]:
    return [sys.executable, str(SCRIPTS / "study.py"), str(path), "--root", str(root), *flags]


def final_table(folder: Path) -> list[dict[str, str]]:
    timeless = ("seconds", "train_seconds", "examples_per_second")
    rows = csv.DictReader((folder / "report" / "results.csv").read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in row.items() if key not in timeless} for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_change_nothing(idx_folder: Path, tmp_path: Path, opened: Opened) -> None:
    study = small_study(idx_folder, "s", base={"trainer.max_epochs": 30}, vary={"model.depth": [0, 1, 3]}, seeds=5)
    path = write_study_file(tmp_path / "s.yaml", study)
    undisturbed = run_study(study, tmp_path / "undisturbed" / "s")
    run_s = sum(record.metrics["seconds"] for record in undisturbed) / len(undisturbed)
    disturbed = study_command(path, tmp_path / "disturbed")
    storage = opened(study, tmp_path / "disturbed" / "s")
    generator, kills = random.Random(0), 0  # noqa: S311 - moments, not secrets
    for _ in range(10):
        process = subprocess.Popen(disturbed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not any(
            trial.user_attrs.get("worker", {}).get("pid") == process.pid
            for trial in storage.runs.get_trials(states=(TrialState.RUNNING,))
        ):
            time.sleep(0.05)
        time.sleep(generator.uniform(0, 2.5) * run_s)  # from a run's beginning to some way into the third
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 5, "the study was through before it could be killed"
    subprocess.run(disturbed, check=True, capture_output=True)
    assert outcome(study_records(study, tmp_path / "disturbed" / "s")) == outcome(undisturbed)
    assert len(undisturbed) == 15
    trials = storage.runs.get_trials()
    complete = [t.user_attrs["key"] for t in trials if t.state == TrialState.COMPLETE]
    assert len(set(complete)) == len(complete) == 15
    assert len(trials) <= 15 + kills  # a kill costs one run at most


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_worker_is_replaced_and_its_run_made_again(idx_folder: Path, tmp_path: Path, opened: Opened) -> None:
    study = small_study(idx_folder, "s", base={"trainer.max_epochs": 40}, vary={"model.depth": [0, 1]}, seeds=4)
    path = write_study_file(tmp_path / "s.yaml", study)
    process = subprocess.Popen(study_command(path, tmp_path, "--workers", "2"), stderr=subprocess.DEVNULL)
    storage, killed = opened(study, tmp_path / "s"), 0
    while process.poll() is None and not killed:
        for trial in storage.runs.get_trials(states=(TrialState.RUNNING,)):
            if "worker" in trial.user_attrs:
                killed = trial.user_attrs["worker"]["pid"]
                os.kill(killed, signal.SIGKILL)
                break
        time.sleep(0.1)
    assert process.wait() == 0
    assert killed
    trials = storage.runs.get_trials()
    states = Counter(trial.state for trial in trials)
    assert states == {TrialState.COMPLETE: 8, TrialState.FAIL: 1}
    (lost,) = (trial for trial in trials if trial.state == TrialState.FAIL)
    (again,) = (t for t in trials if t.user_attrs["key"] == lost.user_attrs["key"] and t.number != lost.number)
    assert lost.user_attrs["worker"]["pid"] == killed != again.user_attrs["worker"]["pid"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own for as long as the tests run: its URL."""
    folders = [*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), os.environ.get("PATH", "")]
    initdb = shutil.which("initdb", path=os.pathsep.join(folders))
    if initdb is None:
        reason = "there is no PostgreSQL server: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = None
    if os.geteuid() == 0:  # the server refuses to be root
        user = next(n for n in ("postgres", "nobody") if n in {entry.pw_name for entry in pwd.getpwall()})
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, binaries = folder / "data", Path(initdb).parent
    run: dict[str, Any] = {"user": user, "check": True, "cwd": folder, "stdout": subprocess.DEVNULL}
    subprocess.run([initdb, "-D", data, "-A", "trust", "-U", "tester", "-N"], **run)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -F"
    subprocess.run([binaries / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"], **run)
    try:
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_machines_share_a_study_through_postgresql(idx_folder: Path, tmp_path: Path, postgres: str) -> None:
    study = small_study(idx_folder, "s", base={"trainer.max_epochs": 20}, vary={"model.depth": [0, 1, 2]}, seeds=4)
    path = write_study_file(tmp_path / "s.yaml", study)
    # two commands with folders of their own, started together: nothing but the server is shared
    machines = [
        subprocess.Popen(study_command(path, tmp_path / name, "--storage", postgres), stderr=subprocess.DEVNULL)
        for name in ("one", "other")
    ]
    assert [machine.wait() for machine in machines] == [0, 0]
    with StudyStorage(study, tmp_path / "third", postgres) as storage:
        complete = storage.runs.get_trials(states=(TrialState.COMPLETE,))
    assert len({t.user_attrs["key"] for t in complete}) == len(complete) == 12
    assert len({t.user_attrs["worker"]["pid"] for t in complete}) == 2
    assert final_table(tmp_path / "one" / "s") == final_table(tmp_path / "other" / "s")
    assert not (tmp_path / "one" / "s" / "study.db").exists()
    alone = run_study(study, tmp_path / "alone")
    assert outcome(alone) == outcome(study_records(study, tmp_path / "third", postgres))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_small_runs_cost_little_more_than_their_training(real_data: Path, tmp_path: Path) -> None:
    study = parse_study(
        "tiny",
        {
            "question": "?",
            "base": {"model.depth": 1, "model.width": 32, "model.norm": "none", "trainer.max_epochs": 5},
            "vary": {"model.activation": ["relu", "tanh", "gelu", "sigmoid"]},
            "seeds": 5,
        },
    )
    path = write_study_file(tmp_path / "tiny.yaml", study)
    started = time.monotonic()
    subprocess.run(study_command(path, tmp_path, "--data_root", str(real_data)), check=True, capture_output=True)
    wall = time.monotonic() - started
    records = study_records(study, tmp_path / "tiny")
    training = sum(record.metrics["train_seconds"] for record in records)
    assert len(records) == 20
    assert wall <= 1.3 * training, f"{wall:.1f} s for {training:.1f} s of training"


def test_workers_that_die_again_and_again_end_the_study() -> None:
    class Dead:
        exitcode = 1

        def __init__(self) -> None:
            self.looks = 0

        def is_alive(self) -> bool:
            return True

        def join(self, timeout: float | None = None) -> None:
            return

        def terminate(self) -> None:
            return

    with pytest.raises(RunError, match="workers died 7 times"):
        engine._run_workers(lambda number: Dead(), 2, lambda: None)


def test_optuna_is_quiet(idx_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_study(small_study(idx_folder, seeds=1), tmp_path)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
    assert "Trial" not in capfd.readouterr().err


def test_the_progress_line_says_what_is_done_failed_and_left(idx_folder: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200)
    shown = StudyProgress(small_study(idx_folder), 2, console)
    line = shown.line(
        study_storage.Progress(30, 9, 1, ("relu seed 3",), (12.0, 14.0), "relu seed 2: test/accuracy 0.8712")
    )
    assert line == "9 of 30 done, 1 failed, about 2 min 10 s left, last: relu seed 2: test/accuracy 0.8712"
    with shown:
        shown.show(study_storage.Progress(2, 0, 0, (), (), ""))
        shown.show(study_storage.Progress(2, 1, 0, (), (1.0,), ""))  # too soon after the line before
        shown.show(study_storage.Progress(2, 2, 0, (), (1.0, 1.0), ""))
    text = output.getvalue()
    assert [line.split(",")[0] for line in text.splitlines()] == ["small: ?", "0 of 2 done", "2 of 2 done"]
    assert [duration(seconds) for seconds in (41.6, 185, 7800)] == ["42 s", "3 min 5 s", "2 h 10 min"]
    output = io.StringIO()
    terminal = Console(file=output, width=100, force_terminal=True)
    with StudyProgress(small_study(idx_folder), 1, terminal) as shown:
        shown.show(study_storage.Progress(4, 1, 0, ("relu seed 1",), (2.0,), ""))
        shown._live.refresh()
    assert "running: relu seed 1" in output.getvalue()
