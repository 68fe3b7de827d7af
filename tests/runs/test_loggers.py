"""Loggers beside TensorBoard's, from the files under configs/logger: the same numbers, text and pictures."""

import csv
import logging
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from finished import stop
from harness import scalars
from pytorch_lightning import Callback, Trainer

from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.train import train
from project.training.internals import tensorboard_tag

CONFIGS = ROOT / "configs" / "logger"
TEXTS = {"1_judgement", "2_network", "3_settings", "4_provenance"}
PICTURES = {
    "sample_batch",
    "first_layer_weights",
    "gradients_by_layer_and_step",
    "confusion_matrix",
    "most_confident_mistakes",
}


Scalars = list[tuple[int, float]]
"""Steps and values."""


def trained(*flags: str) -> Path:
    run = build_run(parse_settings(list(flags)))
    train(run)
    assert run.folder is not None
    return run.folder


def csv_scalars(folder: Path) -> dict[str, Scalars]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "step"]
    return {name: sorted((int(row["step"]), float(row[name])) for row in rows if row[name]) for name in names}


def named_as_in_tensorboard(values: dict[str, Scalars]) -> dict[str, Scalars]:
    return {tag: found for name, found in values.items() if (tag := tensorboard_tag(name)) is not None}


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("train/loss", "curves/loss/train"),
        ("train/loss_step", "curves/loss/train_step"),
        ("validation/rmse", "curves/rmse/validation"),
        ("learning_rate", "curves/optimizer/learning_rate"),
        ("train/weight_norm", "train/weight_norm"),
        ("test/accuracy", "test/accuracy"),
        ("layer_weight_norm/output", "layer_weight_norm/output"),
        ("epoch", None),
        ("weight_norm", "weight_norm"),
    ],
)
def test_tensorboards_names(name: str, tag: str | None) -> None:
    assert tensorboard_tag(name) == tag


def same(one: dict[str, Scalars], other: dict[str, Scalars]) -> None:
    """Check that two loggers have the same scalars; TensorBoard keeps them in 32 bits."""
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert [step for step, _ in values] == [step for step, _ in other[name]], name
        assert [v for _, v in values] == pytest.approx([v for _, v in other[name]], rel=1e-6), name


def test_csv_has_tensorboards_scalars(small_run: list[str]) -> None:
    folder = trained(f"--config={CONFIGS / 'tensorboard_and_csv.yaml'}", *small_run)
    shown = scalars(folder)
    assert {
        "curves/loss/train",
        "curves/accuracy/validation",
        "test/accuracy",
        "curves/optimizer/learning_rate",
    } <= shown.keys()
    kept = csv_scalars(folder)
    assert kept.pop("epoch")  # in TensorBoard it would be one more chart
    same(named_as_in_tensorboard(kept), shown)


def test_a_clock_that_is_set_back_during_a_run(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs no scalar, and no order."""
    now = time.time

    class SetBack(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
            if trainer.global_step in (3, 9):
                hours = 3600.0 * trainer.global_step
                monkeypatch.setattr(time, "time", lambda: now() - hours)

    undisturbed = trained(*small_run, "--run_name=undisturbed")
    run = build_run(parse_settings([*small_run, "--run_name=set_back"]))
    run.trainer.callbacks.append(SetBack())  # type: ignore[attr-defined] # set by Lightning's connector
    train(run)
    assert run.folder is not None
    assert time.time() < now() - 3600
    assert scalars(run.folder) == scalars(undisturbed)


def test_a_resumed_run_logs_what_an_unbroken_one_does(small_run: list[str]) -> None:
    config = f"--config={CONFIGS / 'tensorboard_and_csv.yaml'}"
    unbroken = trained(config, *small_run, "--run_name=unbroken")
    folder = stop([config, *small_run, "--run_name=stopped"], 9)
    trained(f"--resume={folder}", config)
    assert csv_scalars(folder) == csv_scalars(unbroken)
    assert scalars(folder) == scalars(unbroken)


def test_rows_after_the_checkpoint_are_logged_again(small_run: list[str]) -> None:
    """A run that was killed between two checkpoints has rows of steps that are done once more."""
    config = f"--config={CONFIGS / 'csv.yaml'}"
    unbroken = trained(config, *small_run, "--run_name=unbroken")
    folder = stop([config, *small_run, "--run_name=stopped"], 9)
    path = folder / "metrics.csv"
    with path.open(newline="") as file:
        names = next(csv.reader(file))
    with path.open("a", newline="") as file:
        csv.DictWriter(file, names).writerow({"step": 10, "epoch": 1, "train/loss_step": 99.0})
    trained(f"--resume={folder}", config)
    assert csv_scalars(folder) == csv_scalars(unbroken)


def test_without_pictures_nothing_is_drawn(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.diagnosis.tensorboard.pictures.to_picture", pytest.fail)
    folder = trained(f"--config={CONFIGS / 'csv.yaml'}", *small_run)
    assert not list(folder.glob("events*"))


@pytest.mark.filterwarnings("default")  # MLflow's own, of its database
def test_mlflow(small_run: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    config = f"--config={CONFIGS / 'mlflow.yaml'}"
    folder = stop([config, *small_run], 9)
    trained(f"--resume={folder}", config)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("mlp").experiment_id])  # resumed: still one
    expected = scalars(trained(*small_run))
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    shown = {n: sorted({(m.step, m.value) for m in values}) for n, values in history.items()}
    same(
        named_as_in_tensorboard(shown), {n: sorted(set(values)) for n, values in expected.items()}
    )  # a resumed run logs some twice
    artifacts = [path.path for path in client.list_artifacts(run.info.run_id)]
    assert {f"{name}.md" for name in TEXTS} <= set(artifacts)
    drawn = {Path(path.path).name for path in client.list_artifacts(run.info.run_id, "pictures")}
    assert drawn == PICTURES
    assert not (tmp_path / "mlruns").exists()  # all lies in the run folder
    assert all(path.name in ("runs",) for path in tmp_path.iterdir())


@pytest.mark.filterwarnings("default")  # of what Lightning passes to Weights & Biases
def test_wandb(small_run: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = f"--config={CONFIGS / 'wandb.yaml'}"
    folder = stop([config, *small_run], 9)
    trained(f"--resume={folder}", config)
    kept = sorted((folder / "wandb").glob("offline-run-*"))
    assert len({path.name.rpartition("-")[2] for path in kept}) == 1  # of one id
    media = [path for path in (folder / "wandb").rglob("*") if path.is_file() and "media" in path.parts]
    drawn = {name for name in PICTURES if any(path.name.startswith(f"{name}_") for path in media)}
    assert drawn == PICTURES
    assert {name for name in TEXTS if any(path.name.startswith(f"{name}_") for path in media)} == TEXTS
    assert not (tmp_path / "wandb").exists()
    import wandb

    assert wandb.run is None  # the next run of this process gets its own


@pytest.mark.parametrize(("name", "package"), [("mlflow", "mlflow"), ("wandb", "wandb")])
def test_a_missing_package_is_named(
    name: str, package: str, small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_utilities.core.imports import RequirementCache

    monkeypatch.setitem(sys.modules, package, None)
    missing = RequirementCache(f"{package}>=1000")
    monkeypatch.setattr(f"pytorch_lightning.loggers.{name}._{name.upper()}_AVAILABLE", missing)
    with pytest.raises(InputError, match=f"type pip install {package},"):
        build_run(parse_settings([f"--config={CONFIGS / f'{name}.yaml'}", *small_run]))
    assert not list((tmp_path / "runs").glob("*/*"))


def test_the_profile_is_written_and_printed(small_run: list[str]) -> None:
    folder = trained(*small_run, "--trainer.profiler=simple")
    lines = (folder / "profile.txt").read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 80
    assert any("training_step" in line and " 12 " in line for line in lines)  # two epochs of six steps
    resumed = trained(f"--resume={folder}", "--trainer.max_epochs=3", "--trainer.profiler=simple")
    assert resumed == folder


def test_history_has_a_row_for_every_epoch(small_run: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = build_run(parse_settings(small_run))
    train(run)
    assert run.folder is not None
    with (run.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["steps"] for row in rows] == ["6", "12"]
    shown = scalars(run.folder)
    for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy"):
        logged = [value for _, value in shown[str(tensorboard_tag(name))]]
        assert [float(row[name]) for row in rows] == pytest.approx(logged, rel=1e-6)
        # every digit
        assert [float(row[name]) for row in rows] == [record[name] for record in run.module.history]


def test_a_diverged_run_has_its_history(small_run: list[str]) -> None:
    from project.errors import DivergenceError

    run = build_run(
        parse_settings([*small_run, "--model.optimizer=sgd", "--model.learning_rate=1e6", "--model.norm=none"])
    )
    with pytest.raises(DivergenceError):
        train(run)
    assert run.folder is not None
    assert (run.folder / "history.csv").read_text().startswith("epoch,steps")
