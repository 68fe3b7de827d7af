"""Studies that run: every run once, through errors, deaths and restarts, alone and with other workers."""

import contextlib
import csv
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
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import ROOT
from optuna.trial import TrialState

from project.errors import InputError, RunError
from project.runs.build import build_run
from project.runs.parser import parse_settings, settings_of
from project.runs.train import train
from project.settings import nest
from project.studies.read_study import parse_study
from project.studies.running import database, engine, study_run
from project.studies.running import storage as study_storage
from project.studies.running.engine import run_study, study_records
from project.studies.running.progress import Progress
from project.studies.running.storage import StudyStorage
from project.studies.running.worker import this_worker
from project.studies.study import RunRecord, Study

SCRIPTS = ROOT / "scripts"
TIMELESS = ("seconds", "train_seconds", "examples_per_second")
TOO_MANY: dict[str, Any] = {"data.num_validation": 1000}  # which is only found when the data are loaded
Small = Callable[..., Study]
Opened = Callable[..., StudyStorage]


@pytest.fixture
def small(idx_folder: Path) -> Small:
    """Make a study whose runs take half a second each."""

    def make(name: str = "small", **content: Any) -> Study:
        base = {
            "data": {"dataset": "idx", "root": str(idx_folder), "num_validation": 40, "batch_size": 32},
            "model": {"width": 8, "norm": "none", "dropout": 0.0},
            "trainer": {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 2},
        }
        content = {"question": "?", "vary": {"model.depth": [0, 1]}, "seeds": 2, **content}
        content["base"] = base | content.get("base", {})
        return parse_study(name, {key: value for key, value in content.items() if value is not None})

    return make


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Open a study's storage until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda study, folder=tmp_path, **options: stack.enter_context(StudyStorage(study, folder, **options))


def outcome(records: list[RunRecord]) -> list[tuple[Any, ...]]:
    """All that must not depend on how the runs came about."""
    return [
        (r.arm, r.seed, r.phase, r.status, r.history, sorted((k, v) for k, v in r.metrics.items() if k not in TIMELESS))
        for r in records
    ]


def statuses(records: list[RunRecord]) -> Counter[tuple[str, str]]:
    return Counter((record.arm, record.status) for record in records)


def test_a_studys_run_is_the_run_that_train_py_makes(small: Small, tmp_path: Path) -> None:
    study = small(vary={"model.depth": [1, 2], "model.dropout": [0.0, 0.3]})
    records = run_study(study, tmp_path / "s")
    assert len(records) == 8
    record = next(r for r in records if r.arm == "depth=2,dropout=0.3" and r.seed == 1)
    settings = study.settings(record.arm, 1) | {"run_root": str(tmp_path / "alone")}
    alone = train(build_run(settings_of(nest(settings))))
    for name in ("test/accuracy", "test/loss", "validation/loss", "parameters", "steps"):
        assert record.metrics[name] == alone[name], name
    assert [layer["name"] for layer in record.layers["end"]] == ["hidden 1", "hidden 2", "output"]
    assert record.layers["start"] != record.layers["end"]
    assert (len(record.history), record.num_classes) == (2, 3)
    assert (Path(record.folder) / "provenance.json").is_file()


def test_what_is_done_is_not_done_again_and_new_seeds_and_arms_are_added(
    small: Small, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = run_study(small(), tmp_path)
    folder = Path(first[0].folder).parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert outcome(run_study(small(), tmp_path)) == outcome(first)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    study = small(vary={"model.depth": [0, 1, 2]}, seeds=3)
    more = run_study(study, tmp_path)
    assert len(more) == 9
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert outcome([r for r in more if r.arm != "depth=2" and r.seed < 2]) == outcome(first)
    changed = run_study(small(base={"model.width": 9}), tmp_path)
    assert changed[1].metrics["parameters"] != first[1].metrics["parameters"]
    assert "Trial" not in capfd.readouterr().err  # Optuna does not report each run
    (tmp_path / "study.db").unlink()
    assert study_records(study, tmp_path) == changed  # from records.json beside the database


def test_the_loaded_data_are_shared_and_the_results_are_not(small: Small, tmp_path: Path) -> None:
    study_run._loaded.clear()
    study = small(vary={"data.normalization": ["unit", "standardize"], "data.num_train": [64, 128]})
    records = run_study(study, tmp_path / "shared")
    assert len(study_run._loaded) == 1
    for record, cell in zip(records, study.cells(), strict=True):
        study_run._loaded.clear()
        alone = study_run.execute(cell.settings, tmp_path / "alone" / "idx" / cell.run_name)
        assert alone["metrics"]["test/loss"] == record.metrics["test/loss"]
        assert alone["origin"]["split"] == record.origin["split"]


def test_a_failed_run_is_recorded_and_the_others_go_on(small: Small, tmp_path: Path, opened: Opened) -> None:
    study = small(vary=None, arms={"bad": TOO_MANY, "good": {}})
    records, storage = run_study(study, tmp_path), opened(study)
    assert statuses(records) == {("bad", "failed"): 2, ("good", "completed"): 2}
    assert "data.num_validation" in records[0].error
    before = len(storage.runs.get_trials())
    run_study(study, tmp_path)
    assert len(storage.runs.get_trials()) == before  # a failed run is not tried again unless one asks for it
    run_study(study, tmp_path, retry_failed=True)
    assert len(storage.runs.get_trials()) == before + 2
    assert statuses(study_records(study, tmp_path)) == statuses(records)


def test_an_unforeseen_error_ends_one_run_only(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_run, "train", lambda run: train(run) if run.module.network.hidden else 1 / 0)
    records = run_study(small(), tmp_path)
    assert [r.status for r in records] == ["failed", "completed"] * 2
    assert "ZeroDivisionError" in records[0].error


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_training_that_diverges_is_a_result(small: Small, tmp_path: Path, checkpoints: bool) -> None:
    explode = {"model.optimizer": "sgd", "model.learning_rate": 1e30, "model.schedule": "constant"}
    base = {"trainer.enable_checkpointing": checkpoints}
    (record,) = run_study(small(vary=None, arms={"explodes": explode}, base=base, seeds=1), tmp_path)
    assert record.status == "diverged"
    # three classes of 19: a network that is not a number decides for the first
    assert record.value("test/accuracy") == pytest.approx(1 / 3)


def test_tuning_chooses_for_each_arm_by_validation_alone(small: Small, tmp_path: Path) -> None:
    tune = {"settings": {"model.learning_rate": [1e-6, 1e-2]}, "seeds": 2}
    study = small(vary=None, arms={"good": {}, "bad": TOO_MANY}, tune=tune, base={"trainer.max_epochs": 4})
    records = run_study(study, tmp_path)
    assert statuses(records) == {("good", "completed"): 6, ("bad", "failed"): 6}
    assert "bad" in next(r.error for r in records if r.arm == "bad" and r.phase == "final")
    tuning, final = ([r for r in records if r.arm == "good" and r.phase == phase] for phase in ("tune", "final"))
    assert not {r.seed for r in tuning} & {r.seed for r in final}
    scores = {1e-6: 0.0, 1e-2: 0.0}
    for record in tuning:
        scores[record.settings["model.learning_rate"]] += record.metrics["validation/accuracy"]
    assert scores[1e-2] > scores[1e-6]
    assert {r.settings["model.learning_rate"] for r in final} == {1e-2}
    config = yaml.safe_load((Path(final[0].folder) / "config.yaml").read_text())
    assert config["model"]["learning_rate"] == 1e-2


def test_a_search_prunes_and_refits_its_best_over_fresh_seeds(small: Small, tmp_path: Path, opened: Opened) -> None:
    settings = {"model.learning_rate": {"low": 1e-6, "high": 0.1, "log": True}, "model.depth": {"low": 0, "high": 2}}
    study = small(vary=None, search={"settings": settings, "trials": 12}, base={"trainer.max_epochs": 5})
    records, search = run_study(study, tmp_path), opened(study).search
    assert search is not None
    trials = search.get_trials()
    states = Counter(trial.state for trial in trials)
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == len(trials) == 12
    assert states[TrialState.PRUNED] > 0
    assert all(len(t.intermediate_values) < 5 for t in trials if t.state == TrialState.PRUNED)
    assert [(r.arm, r.seed) for r in records] == [("base", 0), ("best", 0), ("base", 1), ("best", 1)]
    assert search.best_trial.params.items() <= records[1].settings.items()
    # what the search ends with is a file for train.py, and makes the very same run
    flags = [f"--config={tmp_path / 'best.yaml'}", "--seed_everything=0", f"--run_root={tmp_path / 'alone'}"]
    alone = train(build_run(parse_settings([*flags, "--trainer.logger=false", "--trainer.enable_checkpointing=false"])))
    assert alone["test/loss"] == records[1].metrics["test/loss"]
    assert outcome(run_study(study, tmp_path)) == outcome(records)
    assert len(search.get_trials()) == 12


def test_a_lost_run_is_found_by_its_dead_process_and_run_again(small: Small, tmp_path: Path, opened: Opened) -> None:
    study = small()
    storage = opened(study, session="before")
    storage.fill()
    cell, trial_id = storage.claim() or pytest.fail("nothing to claim")
    storage.reclaim()  # this process lives, so its run is its own
    assert storage.owners()[cell.key].state == TrialState.RUNNING
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    storage.rdb.set_trial_user_attr(trial_id, "worker", this_worker() | {"pid": child.pid, "started": "1"})
    records = run_study(study, tmp_path)
    assert [r.status for r in records] == ["completed"] * 4
    # what the dead worker would still write is dropped
    storage.complete(trial_id, cell, {"metrics": {"test/accuracy": 2.0}})
    assert outcome(study_records(study, tmp_path)) == outcome(records)


def test_a_worker_elsewhere_loses_its_run_when_its_heartbeat_stops(
    small: Small, monkeypatch: pytest.MonkeyPatch, opened: Opened
) -> None:
    for module in (database, study_storage):
        monkeypatch.setattr(module, "HEARTBEAT_S", 1)
    monkeypatch.setattr(database, "GRACE_S", 2)
    storage = opened(small(seeds=1))
    storage.fill()
    cell, trial_id = storage.claim() or pytest.fail("nothing to claim")
    storage.rdb.set_trial_user_attr(trial_id, "worker", this_worker() | {"place": "elsewhere", "pid": 1})
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


def test_a_run_that_takes_its_workers_down_is_given_up(small: Small, opened: Opened) -> None:
    study = small(seeds=1)
    storage = opened(study, session="now")
    storage.fill()
    first = next(iter(storage.cells))
    for _ in range(study_storage.MAX_DEATHS):
        cell, trial_id = storage.claim() or pytest.fail("nothing to claim")
        assert cell.key == first
        storage.release(trial_id)
    assert storage.owners()[first].state == TrialState.FAIL
    assert str(study_storage.MAX_DEATHS) in storage.owners()[first].user_attrs["error"]
    # the next session may try again, if one asks for it
    again = opened(study, session="later", retry_failed=True)
    again.fill()
    assert again.owners()[first].state == TrialState.WAITING


def test_a_run_has_one_owner_whatever_was_enqueued(small: Small, tmp_path: Path, opened: Opened) -> None:
    study = small()
    storage = opened(study)
    for _ in range(3):  # as if three machines had filled the queue at once
        for cell in storage.cells.values():
            storage.runs.enqueue_trial({}, user_attrs={"key": cell.key, "arm": "", "seed": 0, "phase": "final"})
    claimed: list[str] = []

    def claim() -> None:
        with StudyStorage(study, tmp_path) as mine:
            while taken := mine.claim():
                claimed.append(taken[0].key)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for act in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            act(thread)
    assert sorted(claimed) == sorted(storage.cells)


def test_progress_counts_what_the_storage_holds(small: Small, tmp_path: Path, opened: Opened) -> None:
    study = small()
    storage = opened(study)
    storage.fill()
    cell, trial_id = storage.claim() or pytest.fail("nothing to claim")
    shown: list[Progress] = [storage.progress()]
    assert (shown[0].total, shown[0].done, shown[0].running) == (4, 0, (f"{cell.arm} seed {cell.seed}",))
    assert shown[0].seconds_left(1) is None
    storage.fail(trial_id, "no luck")
    run_study(study, tmp_path, show=shown.append)
    assert (shown[-1].done, shown[-1].failed, shown[-1].running) == (3, 1, ())
    assert shown[-1].seconds_left(2) == 0


@pytest.mark.parametrize(
    "options",
    [{"workers": 0}, {"url": "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"}, {"url": "no such database"}],
)
def test_bad_ways_to_run_a_study_are_refused(small: Small, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        run_study(small(), tmp_path, **options)


def test_workers_that_die_again_and_again_end_the_study() -> None:
    def nothing(*_: object) -> None: ...

    dead = SimpleNamespace(exitcode=1, is_alive=lambda: True, join=nothing, terminate=nothing)
    starts = iter(range(2 + 2 * study_storage.MAX_DEATHS))
    with pytest.raises(RunError):
        engine._run_workers(lambda number: (dead, next(starts))[0], 2, nothing)
    assert not [*starts]


def study_command(study: Study, root: Path, *flags: str) -> list[str]:
    """The command that runs a study, from a file that it writes."""
    path = root / f"{study.name}.yaml"
    root.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(study.content))
    return [sys.executable, str(SCRIPTS / "study.py"), str(path), "--root", str(root), *flags]


def final_table(folder: Path) -> list[dict[str, str]]:
    rows = csv.DictReader((folder / "report" / "results.csv").read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in row.items() if key not in TIMELESS} for row in rows]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_kills_change_nothing(small: Small, tmp_path: Path, opened: Opened) -> None:
    study = small("s", base={"trainer.max_epochs": 30}, vary={"model.depth": [0, 1, 3]}, seeds=5)
    undisturbed = run_study(study, tmp_path / "undisturbed" / "s")
    run_s = sum(record.metrics["seconds"] for record in undisturbed) / len(undisturbed)
    disturbed = study_command(study, tmp_path / "disturbed")
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
def test_a_killed_worker_is_replaced_and_its_run_made_again(small: Small, tmp_path: Path, opened: Opened) -> None:
    study = small("s", base={"trainer.max_epochs": 40}, vary={"model.depth": [0, 1]}, seeds=4)
    process = subprocess.Popen(study_command(study, tmp_path, "--workers", "2"), stderr=subprocess.DEVNULL)
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
def test_two_machines_share_a_study_through_postgresql(small: Small, tmp_path: Path, postgres: str) -> None:
    study = small("s", base={"trainer.max_epochs": 20}, vary={"model.depth": [0, 1, 2]}, seeds=4)
    # two commands with folders of their own, started together: nothing but the server is shared
    machines = [
        subprocess.Popen(study_command(study, tmp_path / name, "--storage", postgres), stderr=subprocess.DEVNULL)
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
    started = time.monotonic()
    subprocess.run(study_command(study, tmp_path, "--data_root", str(real_data)), check=True, capture_output=True)
    wall = time.monotonic() - started
    records = study_records(study, tmp_path / "tiny")
    training = sum(record.metrics["train_seconds"] for record in records)
    assert len(records) == 20
    assert wall <= 1.3 * training, f"{wall:.1f} s for {training:.1f} s of training"
