"""`--explain` from the command line: refusals, a run whose advice removes the cause, and Ctrl-C in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from finished import call, finish, read_metrics, small_flags
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from project.runs.parser import parse_settings
from project.runs.saving.files import write_json
from project.settings import flatten
from project.studies.explain.explain import trial_settings
from project.studies.explain.sizes import WHOLE, resize
from project.studies.explain.trials import TrialWorkers, run_trial

SICK = ["--model.weight_decay=500", "--model.schedule=constant", "--model.width=512", "--trainer.max_epochs=10"]


@pytest.fixture(scope="module")
def finished(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(*small_flags(idx_folder, tmp_path_factory.mktemp("runs")), "--trainer.max_epochs=1")


@pytest.mark.parametrize(
    ("script", "words", "cause", "remedy"),
    [
        ("diagnose", ["{}/gone", "--explain"], "{}/gone", "runs/"),
        ("diagnose", ["--explain", "{}/gone"], "{}/gone", "runs/"),
        ("diagnose", ["{run}", "--explain", "--model.depth=3"], "--model.depth=3", "--config {run}/config.yaml"),
        ("train", ["--explain", "--trainer.fast_dev_run=true"], "trainer.fast_dev_run", "one of the two"),
        ("train", ["--explain", "--explain_seconds=1"], "explain_seconds is 1", "--explain_seconds 60"),
        ("diagnose", ["--suggest"], "suggest", "--help"),
    ],
)
def test_refusals(
    script: str,
    words: list[str],
    cause: str,
    remedy: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def filled(text: str) -> str:
        return text.replace("{run}", str(finished)).replace("{}", str(tmp_path))

    said = call(capsys, script, *map(filled, words))
    assert (said.status, said.out) == (2, "")
    first, second = said.err.splitlines()
    assert filled(cause) in first
    assert filled(remedy) in second


def test_a_trial_is_the_run_replayed(idx_folder: Path, tmp_path: Path) -> None:
    flags = [*small_flags(idx_folder, tmp_path), "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=2"]
    settings = trial_settings(flatten(parse_settings(flags).as_dict()))
    result = run_trial(resize(settings, WHOLE))
    metrics = read_metrics(finish(*flags))
    assert result["validation/accuracy"] == metrics["validation/accuracy"]
    assert result["steps"] == metrics["steps"]
    assert (result["examples"], result["guessing"]) == (200, pytest.approx(1 / 3))


def test_a_trial_that_cannot_be_run_says_why(idx_folder: Path, tmp_path: Path) -> None:
    settings = trial_settings(flatten(parse_settings(small_flags(idx_folder, tmp_path)).as_dict()))
    result = run_trial(settings | {"data.batch_size": 1000})
    assert result["status"] == "failed"
    assert "batch" in result["error"]


def test_a_trial_takes_no_class_from_a_run_folder() -> None:
    settings = {"trainer.callbacks": {"class_path": "os.system"}, "trainer.logger.class_path": "x", "model.depth": 1}
    kept = trial_settings(settings)
    assert kept["trainer.callbacks"] is None
    assert "trainer.logger.class_path" not in kept
    assert kept["model.depth"] == 1


@pytest.mark.slow
def test_the_advice_removes_the_cause(
    idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLP_RUN_FOLDER", raising=False)
    flags = [*small_flags(idx_folder, tmp_path), *SICK, "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=2"]
    said = call(capsys, "train", *flags, "--run_name=sick", "--explain", "--explain_seconds=60")
    assert said.status == 0, said.err
    run = tmp_path / "idx" / "sick"
    explained = read_metrics(run)["explanation"]
    assert read_metrics(run)["test/accuracy"] < 0.6
    # adamw's weights shrink by the product of both at each step: either of the two removes the cause
    assert {flag.split()[0] for flag in explained["flags"]} & {"--model.weight_decay", "--model.learning_rate"}
    (advice,) = [a for a in explained["advice"] if a["flags"] == explained["flags"]]
    assert advice["helps"]
    assert any(trial["changes"] == advice["changes"] for trial in explained["trials"])
    assert explained["seconds"] <= 63
    assert explained["command"] in said.out
    accumulator = EventAccumulator(str(run))
    accumulator.Reload()
    assert "5_explanation/text_summary" in accumulator.Tags()["tensors"]
    fixed = finish(*flags, "--run_name=fixed", *(word for flag in explained["flags"] for word in flag.split(" ", 1)))
    assert read_metrics(fixed)["test/accuracy"] > 0.9


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_leaves_the_results(idx_folder: Path, tmp_path: Path) -> None:
    flags = [*small_flags(idx_folder, tmp_path), *SICK, "--trainer.accelerator=cpu", "--run_name=sick"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *flags, "--explain", "--explain_seconds=300"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    path, deadline = tmp_path / "idx" / "sick" / "metrics.json", time.monotonic() + 200
    while not (path.exists() and len(_group(process.pid)) > 1):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(5)
    before = path.read_bytes()
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert path.read_bytes() == before
    assert json.loads(before)["status"] == "completed"
    time.sleep(1)
    assert not _group(process.pid)


def _group(number: int) -> list[str]:
    """The processes of a process group that still run."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [row[2] for row in rows if int(row[0]) == number and not row[1].startswith("Z")]


@pytest.mark.slow
def test_workers_keep_to_the_limit_and_survive_a_killed_one(idx_folder: Path, tmp_path: Path) -> None:
    flags = [*small_flags(idx_folder, tmp_path), "--trainer.accelerator=cpu"]
    settings = trial_settings(flatten(parse_settings(flags).as_dict()))
    with TrialWorkers(1) as workers:
        (process,) = workers._workers.values()
        os.kill(process.pid, signal.SIGKILL)
        found = dict(workers.run([settings, settings]))
        assert [found[number]["status"] for number in (0, 1)] == ["failed", "completed"]
        assert list(workers.run([settings], until=time.monotonic())) == []
    endless = settings | {"trainer.max_epochs": 100_000, "patience": 0}
    started = time.monotonic()
    with TrialWorkers(1, limit=started + 10) as workers:
        assert list(workers.run([endless])) == []
    assert time.monotonic() - started < 12


def test_metrics_of_an_explained_run_stay_readable(finished: Path) -> None:
    content = read_metrics(finished)
    write_json(finished / "metrics.json", content | {"explanation": {"flags": []}})
    assert {name: value for name, value in read_metrics(finished).items() if name != "explanation"} == content
