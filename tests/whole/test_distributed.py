"""Several processes: the same training and the same scores as one, no process left behind, no folder shared."""

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, make_idx_folder
from finished import small_flags
from harness import Kill, checkpoint, compare, metrics, run_processes
from pytorch_lightning.trainer.states import TrainerFn, TrainerState

from project.runs.build import build_run
from project.runs.parser import parse_settings

logging.getLogger("tensorboard").setLevel(logging.ERROR)

TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def flags(small_run: list[str], tmp_path: Path) -> list[str]:
    """41 validation and 57 test examples: neither can be shared evenly."""
    own = ["--data.num_validation=41", "--trainer.max_epochs=3", "--checkpoint_every_n_steps=2"]
    return [*small_run, *own, f"--run_root={tmp_path}"]


def train(flags: list[str], tmp_path: Path, name: str, *more: str, launcher: list[str] | None = None) -> Path:
    outcome = run_processes([*flags, f"--run_name={name}", *more], tmp_path, launcher=launcher or [])
    assert outcome.status == 0, outcome.printed
    assert outcome.left == []
    return tmp_path / "idx" / name


def largest_difference(one: Path, other: Path) -> float:
    first, second = checkpoint(one)["state_dict"], checkpoint(other)["state_dict"]
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


@pytest.mark.slow
def test_two_processes_train_as_one(flags: list[str], tmp_path: Path) -> None:
    """Without dropout and batch norm, which draw and average within a process's share of the batch."""
    flags = [*flags, "--model.norm=none", "--model.dropout=0", "--trainer.max_epochs=1"]
    one, two = train(flags, tmp_path, "one"), train(flags, tmp_path, "two", "--trainer.devices=2")
    assert 0 <= largest_difference(one, two) <= 1e-6
    for name, value in metrics(one).items():
        if isinstance(value, float):
            assert metrics(two)[name] == pytest.approx(value, abs=1e-6)
    assert metrics(one)["steps"] == metrics(two)["steps"]


@pytest.mark.slow
def test_under_torchrun(flags: list[str], tmp_path: Path) -> None:
    two = train(flags, tmp_path, "two", "--trainer.devices=2")
    torchrun = train(flags, tmp_path, "torchrun", "--trainer.devices=2", launcher=TORCHRUN)
    assert compare(torchrun, two) == []
    assert sorted(path.name for path in (tmp_path / "idx").iterdir()) == ["torchrun", "two"]


SCORE = """
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from pytorch_lightning import Trainer
from project.runs.command import setup_console
from project.serving.restore import restore
setup_console()
torch.set_num_threads(1)
run = restore(Path(sys.argv[2]))
scores = {}
for split in ("validation", "test"):
    run.datamodule.scored_split = split
    trainer = Trainer(accelerator="cpu", devices=int(sys.argv[3]), logger=False, enable_progress_bar=False,
                      enable_model_summary=False, use_distributed_sampler=False)
    trainer.test(run.module, datamodule=run.datamodule, verbose=False)
    scores[split] = {"loss": float(trainer.callback_metrics["test/loss"]), **run.module.metrics()}
if trainer.is_global_zero:
    Path(sys.argv[4]).write_text(json.dumps(scores))
"""


def scores(run: Path, num_processes: int, tmp_path: Path) -> dict[str, Any]:
    script, output = tmp_path / "score.py", tmp_path / f"scores{num_processes}.json"
    script.write_text(SCORE)
    command = [sys.executable, str(script), str(ROOT), str(run), str(num_processes), str(output)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(output.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize(("num_test", "num_validation"), [(57, 41), (1, 3), (2049, 100)])
def test_one_two_and_three_processes_score_exactly_the_same(tmp_path: Path, num_test: int, num_validation: int) -> None:
    data = make_idx_folder(tmp_path / "data", 240, num_test)
    flags = [f"--data.num_validation={num_validation}", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    run = train([*small_flags(data, tmp_path), *flags], tmp_path, "x")
    one = scores(run, 1, tmp_path)
    assert sum(map(sum, one["test"]["confusion_matrix"])) == num_test
    assert scores(run, 2, tmp_path) == one
    assert scores(run, 3, tmp_path) == one


@pytest.mark.slow
def test_batch_norm_is_validated_with_the_statistics_that_are_saved(flags: list[str], tmp_path: Path) -> None:
    """Each process averages over its own share: all must score with the first one's, as the saved network will."""
    two = train([*flags, "--patience=0"], tmp_path, "two", "--trainer.devices=2", "--monitor=train/loss")
    found = metrics(two)
    last = checkpoint(two)["history"][-1]
    assert found["best"]["epoch"] == len(checkpoint(two)["history"])  # so metrics.json scored the last epoch once more
    assert found["validation/loss"] == last["validation/loss"]


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 6, 8, 9, 11, 12, 14, 17, 18])
def test_two_processes_killed_and_resumed(
    flags: list[str], tmp_path_factory: pytest.TempPathFactory, idx_folder: Path, step: int, tmp_path: Path
) -> None:
    shared = tmp_path_factory.getbasetemp() / "two-unbroken"
    if not (shared / "idx" / "two" / "metrics.json").exists():
        shared.mkdir(exist_ok=True)
        train([*flags, f"--run_root={shared}"], shared, "two", "--trainer.devices=2")
    kill = Kill("step", step, rank=step % 2)
    outcome = run_processes([*flags, "--trainer.devices=2", "--run_name=x"], tmp_path, kill)
    assert outcome.status == (1 if kill.rank else -9), outcome.printed
    assert outcome.left == []
    outcome = run_processes(["--resume", str(tmp_path / "idx" / "x")], tmp_path)
    assert outcome.status == 0, outcome.printed
    assert compare(tmp_path / "idx" / "x", shared / "idx" / "two") == []


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_takes_the_others_down(flags: list[str], tmp_path: Path, rank: int) -> None:
    kill = Kill("step", 9, rank=rank)
    outcome = run_processes([*flags, "--trainer.devices=2", "--run_name=x"], tmp_path, kill)
    assert outcome.status == (1 if rank else -9)
    assert outcome.seconds <= 15
    assert outcome.left == []
    assert "Traceback" not in outcome.printed
    if rank:
        assert f"--resume {tmp_path / 'idx' / 'x'}" in outcome.printed


@pytest.mark.slow
def test_divergence_in_one_process_stops_all(flags: list[str], tmp_path: Path) -> None:
    raw = ["--data.normalization=none", "--model.norm=none", "--model.optimizer=sgd", "--model.schedule=constant"]
    raw += ["--model.learning_rate=1e4", "--model.activation=identity", "--patience=0"]
    outcome = run_processes([*flags, *raw, "--trainer.devices=2", "--run_name=x"], tmp_path)
    assert outcome.status == 1
    assert outcome.printed.count("error: ") == 1
    assert metrics(tmp_path / "idx" / "x")["status"] == "diverged"
    assert outcome.left == []


@pytest.mark.slow
def test_a_busy_port_is_no_problem(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        train(flags, tmp_path, "x", "--trainer.devices=2")


@pytest.mark.slow
def test_20_runs_started_at_once_get_20_folders(flags: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *flags, "--trainer.max_epochs=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(20)
    ]
    for process in started:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    folders = list((tmp_path / "idx").iterdir())
    assert len(folders) == 20
    assert all(metrics(folder)["status"] == "completed" for folder in folders)


def test_epoch_sums_are_shared_out_anew(idx_folder: Path, tmp_path: Path) -> None:
    """Sums of two processes, resumed on one: their mean, which is what an epoch's loss is made of."""
    cli = build_run(parse_settings(small_flags(idx_folder, tmp_path)))
    cli.trainer.state = TrainerState(fn=TrainerFn.FITTING)
    cli.module.trainer = cli.trainer
    sums = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    saved = {"history": [], "epoch_sums": sums, "epoch_batches": 4, "epoch_validation": {}}
    cli.module.on_load_checkpoint(saved)
    assert cli.module.epochs.sums.tolist() == [2.0, 4.0]
