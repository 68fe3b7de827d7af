"""Studies that run: every run once, through errors, deaths and restarts, on workers of any kind."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import ROOT, make_idx_folder
from distributed import Client, LocalCluster
from optuna.trial import TrialState

from project.errors import InputError, RunError
from project.runs.build import build_run
from project.runs.parser import parse_settings, settings_of
from project.runs.train import train
from project.settings import nest
from project.studies.read_study import parse_study
from project.studies.running import engine, search, study_run
from project.studies.running.cluster import MAX_RETRIES, Workers
from project.studies.running.engine import run_study, study_records
from project.studies.running.plan import Plan
from project.studies.running.progress import Progress
from project.studies.study import RunRecord, Study

SCRIPTS = ROOT / "scripts"
TIMELESS = ("seconds", "train_seconds", "examples_per_second")
TOO_MANY: dict[str, Any] = {"data.num_validation": 1000}  # which is only found when the data are loaded
Small = Callable[..., Study]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A worker that is a thread of this process, which has loaded torch already."""
    options: dict[str, Any] = {
        "processes": False,
        "n_workers": 1,
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
    }
    with LocalCluster(**options, memory_limit=None) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture(autouse=True)
def here(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let studies run on that worker; the list has what was asked of it."""
    asked: list[Any] = []

    @contextmanager
    def connect(*arguments: Any) -> Iterator[Workers]:
        asked.append(arguments)
        yield Workers(client)

    monkeypatch.setattr(engine, "connect", connect)
    return asked


def run(study: Study, folder: Path, **options: Any) -> list[RunRecord]:
    return run_study(study, folder, **options)[1]


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


def outcome(records: list[RunRecord]) -> list[tuple[Any, ...]]:
    """All that must not depend on how the runs came about."""
    return [
        (r.arm, r.seed, r.phase, r.status, r.history, sorted((k, v) for k, v in r.metrics.items() if k not in TIMELESS))
        for r in records
    ]


def test_a_run_that_found_the_disk_full_is_no_result(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, execute, began = small(seeds=1), study_run.execute, []

    def fills_the_disk(settings: Any, folder: Path, callbacks: Any) -> dict[str, Any]:
        began.append(folder)
        if len(began) == 2:
            try:
                raise OSError(errno.ENOSPC, "No space left on device", str(folder / "config.yaml"))
            except OSError:
                raise InputError("it cannot be written", "look for space") from None  # as the project's own code does
        return execute(settings, folder, callbacks)

    monkeypatch.setattr(study_run, "execute", fills_the_disk)
    with pytest.raises(RunError, match="No space left on device"):
        run(study, tmp_path / "s")
    assert len(list((tmp_path / "s" / "results").iterdir())) == 1
    assert [record.status for record in run(study, tmp_path / "s")] == ["completed"] * 2
    assert len(began) == 3


def statuses(records: list[RunRecord]) -> Counter[tuple[str, str]]:
    return Counter((record.arm, record.status) for record in records)


def test_a_studys_run_is_the_run_that_train_py_makes(small: Small, tmp_path: Path) -> None:
    study = small(vary={"model.depth": [1, 2], "model.dropout": [0.0, 0.3]})
    records = run(study, tmp_path / "s")
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
    small: Small, tmp_path: Path, here: list[Any]
) -> None:
    first = run(small(), tmp_path)
    folder = Path(first[0].folder).parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert outcome(run(small(), tmp_path)) == outcome(first)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    study = small(vary={"model.depth": [0, 1, 2]}, seeds=3)
    more = run(study, tmp_path)
    assert len(here) == 2  # the second time there was nothing to do, and no worker was started
    assert len(more) == 9
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert outcome([r for r in more if r.arm != "depth=2" and r.seed < 2]) == outcome(first)
    changed = run(small(base={"model.width": 9}), tmp_path)
    assert changed[1].metrics["parameters"] != first[1].metrics["parameters"]
    assert study_records(study, tmp_path)[1] == more  # the results of other settings stay


def test_the_loaded_data_are_shared_and_the_results_are_not(small: Small, tmp_path: Path) -> None:
    study_run._loaded.clear()
    study = small(vary={"data.normalization": ["unit", "standardize"], "data.num_train": [64, 128]})
    records = run(study, tmp_path / "shared")
    assert len(study_run._loaded) == 1
    for record, cell in zip(records, Plan(study).cells(), strict=True):
        study_run._loaded.clear()
        alone = study_run.execute(cell.settings, tmp_path / "alone" / "idx" / cell.run_name)
        assert alone["metrics"]["test/loss"] == record.metrics["test/loss"]
        assert alone["origin"]["split"] == record.origin["split"]


def test_a_failed_run_is_recorded_and_the_others_go_on(small: Small, tmp_path: Path, here: list[Any]) -> None:
    study = small(vary=None, arms={"bad": TOO_MANY, "good": {}})
    records = run(study, tmp_path)
    assert statuses(records) == {("bad", "failed"): 2, ("good", "completed"): 2}
    assert "data.num_validation" in records[0].error
    run(study, tmp_path)
    assert len(here) == 1  # a failed run is not tried again unless one asks for it
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    assert outcome(run(study, tmp_path, retry_failed=True)) == outcome(records)
    assert sum(path.stat().st_mtime_ns != time for path, time in times.items()) == 2


def test_an_unforeseen_error_ends_one_run_only(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "project.studies.running.study_run.train", lambda run: train(run) if run.module.network.hidden else 1 / 0
    )
    records = run(small(), tmp_path)
    assert [r.status for r in records] == ["failed", "completed"] * 2
    assert "ZeroDivisionError" in records[0].error


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_training_that_diverges_is_a_result(small: Small, tmp_path: Path, checkpoints: bool) -> None:
    explode = {
        "model.optimizer": "sgd",
        "model.learning_rate": 1e6,
        "model.activation": "identity",
        "model.norm": "none",
        "model.schedule": "constant",
    }
    base = {"trainer.enable_checkpointing": checkpoints}
    (record,) = run(small(vary=None, arms={"explodes": explode}, base=base, seeds=1), tmp_path)
    assert record.status == "diverged"
    # three classes of 19: a network that is not a number decides for the first
    assert record.value("test/accuracy") == pytest.approx(1 / 3)


def test_tuning_chooses_for_each_arm_and_seed_by_validation_alone(small: Small, tmp_path: Path) -> None:
    tune = {"settings": {"model.learning_rate": [1e-6, 1e-3, 1.0]}}
    study = small(vary=None, arms={"good": {}, "bad": TOO_MANY}, tune=tune, base={"trainer.max_epochs": 4})
    records = run(study, tmp_path)
    assert statuses(records)["bad", "failed"] == 8
    assert "bad" in next(r.error for r in records if r.arm == "bad" and r.phase == "final")
    tuning, final = ([r for r in records if r.arm == "good" and r.phase == phase] for phase in ("tune", "final"))
    seeds = [{r.settings["seed_everything"] for r in group} for group in (tuning, final)]
    assert seeds == [{1000, 1001}, {0, 1}]
    for record in final:
        own = [r for r in tuning if r.seed == record.seed]
        best = max(own, key=lambda r: r.metrics["validation/accuracy"])
        assert record.settings["model.learning_rate"] == best.settings["model.learning_rate"]
        config = yaml.safe_load((Path(record.folder) / "config.yaml").read_text())
        assert config["model"]["learning_rate"] == best.settings["model.learning_rate"]
    assert repr(outcome(study_records(study, tmp_path)[1])) == repr(outcome(records))  # NaN is not equal to itself


def test_a_search_prunes_and_refits_its_best_over_fresh_seeds(small: Small, tmp_path: Path, here: list[Any]) -> None:
    settings = {"model.learning_rate": {"low": 1e-6, "high": 0.1, "log": True}, "model.depth": {"low": 0, "high": 2}}
    study = small(vary=None, search={"settings": settings, "trials": 12}, base={"trainer.max_epochs": 5})
    records = run(study, tmp_path)
    trials = search._open(study, tmp_path)
    states = Counter(trial.state for trial in trials.get_trials())
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == 12
    assert states[TrialState.PRUNED] > 0
    pruned = trials.get_trials(states=(TrialState.PRUNED,))
    assert all(1 <= len(trial.intermediate_values) < 5 for trial in pruned)
    assert [(r.arm, r.seed) for r in records] == [("base", 0), ("best", 0), ("base", 1), ("best", 1)]
    assert trials.best_trial.params.items() <= records[1].settings.items()
    # what the search ends with is a file for train.py, and makes the very same run
    flags = [f"--config={tmp_path / 'best.yaml'}", "--seed_everything=0", f"--run_root={tmp_path / 'alone'}"]
    alone = train(build_run(parse_settings([*flags, "--trainer.logger=false", "--trainer.enable_checkpointing=false"])))
    assert alone["test/loss"] == records[1].metrics["test/loss"]
    assert outcome(run(study, tmp_path)) == outcome(records)
    assert len(here) == 1


def test_a_search_goes_on_with_the_trials_that_an_earlier_command_left(small: Small, tmp_path: Path) -> None:
    settings = {"model.learning_rate": {"low": 1e-6, "high": 0.1, "log": True}}
    study = small(vary=None, search={"settings": settings, "trials": 3})
    left = search._open(study, tmp_path)
    params = search._ask(left, study.search).params  # and then the command was killed
    run(study, tmp_path)
    trials = left.get_trials()
    assert [trial.state for trial in trials].count(TrialState.COMPLETE) == 3
    assert (trials[0].state, trials[1].params) == (TrialState.FAIL, params)


def test_other_data_than_the_first_runs_had_are_refused_before_anything_runs(small: Small, tmp_path: Path) -> None:
    own = make_idx_folder(tmp_path / "data")  # its files are changed below
    base = {"data": {"dataset": "idx", "root": str(own), "num_validation": 40, "batch_size": 32}}
    run(small(seeds=1, base=base), tmp_path)
    labels = own / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 3
    labels.write_bytes(content)
    study_run._loaded.clear()
    before = sorted((tmp_path / "results").iterdir())
    with pytest.raises(InputError, match="have changed"):
        run(small(seeds=2, base=base), tmp_path)
    assert sorted((tmp_path / "results").iterdir()) == before


def test_one_command_at_a_time_runs_a_study(small: Small, tmp_path: Path) -> None:
    with engine._alone(tmp_path), pytest.raises(InputError, match="another command"):
        run(small(), tmp_path)


def test_a_study_that_a_worker_refuses_leaves_nothing_and_changes_nothing(small: Small, tmp_path: Path) -> None:
    bad = small(arms={"a": {"trainer.precision": "33"}}, vary=None)  # which only a process with the Trainer can know
    with pytest.raises(InputError, match="precision"):
        run(bad, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    run(small(seeds=1), tmp_path / "old")
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="precision"):
        run(bad, tmp_path / "old")
    assert before == {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}


def test_a_study_of_an_earlier_version_is_refused(small: Small, tmp_path: Path) -> None:
    (tmp_path / "study.db").touch()
    with pytest.raises(InputError, match="earlier version"):
        study_records(small(), tmp_path)


def test_progress_counts_what_has_a_result(small: Small, tmp_path: Path) -> None:
    shown: list[Progress] = []
    run(small(vary=None, arms={"bad": TOO_MANY, "good": {}}), tmp_path, show=shown.append)
    assert (shown[0].total, shown[0].ended, shown[0].running) == (4, 0, ("bad seed 0",))
    assert shown[0].seconds_left is None
    assert (shown[-1].total, shown[-1].done, shown[-1].failed) == (4, 2, 2)
    assert shown[-1].seconds_left == 0


def test_a_study_needs_a_worker(small: Small, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--workers"):
        run(small(), tmp_path, workers=0)


def study_command(study: Study, root: Path, *flags: str) -> list[str]:
    """The command that runs a study, from a file that it writes."""
    path = root / f"{study.name}.yaml"
    root.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(study.content))
    return [sys.executable, str(SCRIPTS / "study.py"), str(path), "--root", str(root), *flags]


def processes_of(command: psutil.Process) -> list[psutil.Process]:
    """The processes that a command has started, with those that they started."""
    try:
        return command.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def trains(process: psutil.Process) -> bool:
    """Whether a process is a worker that has loaded torch and is in the middle of a run."""
    try:
        return process.cpu_times().user > 3 and "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def results_of(folder: Path) -> dict[str, Any]:
    """What each run found, by the names of the files; equal for equal runs, whenever and wherever they were made."""
    found = {}
    for path in sorted((folder / "results").glob("*.json")):
        record = json.loads(path.read_text())
        record["metrics"] = {name: value for name, value in record["metrics"].items() if name not in TIMELESS}
        found[path.name] = {name: value for name, value in record.items() if name not in ("folder", "origin")}
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_thirty_kills_change_nothing(small: Small, tmp_path: Path) -> None:
    study = small("s", base={"trainer.max_epochs": 60}, vary={"model.depth": [0, 1, 3]}, seeds=20)
    subprocess.run(study_command(study, tmp_path / "undisturbed", "--workers", "2"), check=True, capture_output=True)
    generator, kills = random.Random(0), Counter[str]()  # noqa: S311 - moments, not secrets
    command = study_command(study, tmp_path / "disturbed", "--workers", "2")
    everybody: list[psutil.Process] = []
    folder = tmp_path / "disturbed" / "s"
    process: subprocess.Popen[bytes] | None = None
    for number in range(30):
        if process is None or process.poll() is not None:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        parent = psutil.Process(process.pid)
        while process.poll() is None and not any(map(trains, processes_of(parent))):
            time.sleep(0.05)
        time.sleep(generator.uniform(0, 1))
        workers = [child for child in processes_of(parent) if trains(child)]
        everybody += processes_of(parent)
        what = ("worker", "both workers", "parent")[number % 3]
        for victim in {"worker": workers[:1], "both workers": workers, "parent": [parent]}[what]:
            kills[what] += victim.is_running()
            victim.send_signal(signal.SIGKILL)
        if what == "parent":
            process.wait()
            _, alive = psutil.wait_procs(everybody, timeout=10)
            assert not alive, "workers live longer than their study"
    assert process is not None
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert sum(kills.values()) >= 30
    assert results_of(folder) == results_of(tmp_path / "undisturbed" / "s")
    assert len(results_of(folder)) == 60
    assert Counter(record["status"] for record in results_of(folder).values()) == {"completed": 60}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_takes_its_workers_down_fails_and_the_others_go_on(small: Small, tmp_path: Path) -> None:
    extension = tmp_path / "deadly.py"
    extension.write_text(
        "import os\n"
        "from project.network.activations import ACTIVATIONS\n"
        "from dataclasses import replace\n"
        "ACTIVATIONS['deadly'] = replace(ACTIVATIONS['relu'], build=lambda *_: os._exit(9))\n"
    )
    study = small("s", vary={"model.activation": ["relu", "tanh"], "model.depth": [1]}, seeds=2)
    content = study.content | {"vary": {"model.activation": ["relu", "deadly"], "model.depth": [1]}}
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(content))
    command = [sys.executable, str(SCRIPTS / "study.py"), str(path), "--root", str(tmp_path), "--workers", "2"]
    done = subprocess.run([*command, "--extensions", str(extension)], capture_output=True, text=True)
    assert done.returncode == 1
    results = results_of(tmp_path / "s").values()
    assert Counter((r["arm"].split(",")[0], r["status"]) for r in results) == {
        ("relu", "completed"): 2,
        ("deadly", "failed"): 2,
    }
    assert all(f"died {MAX_RETRIES + 1} times" in r["error"] for r in results if r["status"] == "failed")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_workers_that_joined_by_address_run_a_study_though_one_is_killed(small: Small, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    parts = [subprocess.Popen([*dask, "--no-dashboard", "--scheduler-file", str(file)], **options)]
    study = small("s", base={"trainer.max_epochs": 60}, vary={"model.depth": [0, 1]}, seeds=8)
    try:
        while not file.exists():
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        for number in range(2):
            folder = tmp_path / f"machine{number}"
            folder.mkdir()
            worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
            env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            parts.append(subprocess.Popen([*worker, "--no-dashboard"], cwd=folder, env=env, **options))
        command = study_command(study, tmp_path, "--scheduler", str(file))
        process = subprocess.Popen(command, **options)
        while process.poll() is None and len(results_of(tmp_path / "s")) < 3:
            time.sleep(0.05)
        parts[1].kill()
        assert process.wait() == 0
    finally:
        for part in reversed(parts):
            part.kill()
            part.wait()
    assert Counter(record["status"] for record in results_of(tmp_path / "s").values()) == {"completed": 16}
    assert outcome(run(study, tmp_path / "alone")) == outcome(study_records(study, tmp_path / "s")[1])
