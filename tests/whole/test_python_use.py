"""From Python: keyword arguments, any Trainer of Lightning's, its checkpoints, and what a notebook shows of a run."""

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT, make_idx_folder

from project import ImageDataModule, ImageModule, build_run, load_run, train
from project.data.settings import DataKeywords, DataSettings
from project.errors import InputError
from project.runs.parser import parse_settings
from project.training.settings import ModelKeywords, ModelSettings

STOCK = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*", "ignore:.*logging interval.*"
)
"""What Lightning says where nobody has silenced it."""
DATA: dict[str, Any] = {"dataset": "idx", "num_validation": 16, "num_train": 96, "batch_size": 32}


@pytest.fixture
def data(idx_folder: Path) -> ImageDataModule:
    return ImageDataModule(**DATA, root=str(idx_folder), seed=3)


def trainer(folder: Path, **settings: Any) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return pl.Trainer(default_root_dir=folder, accelerator="cpu", max_epochs=2, **quiet, **settings)


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*", "ignore:.*logging interval.*"
)
class TestAStockTrainer:
    def test_fit_validate_test_and_load(self, data: ImageDataModule, tmp_path: Path) -> None:
        module = ImageModule(data.spec, data.normalization, depth=1, width=8, activation="tanh")
        stock = trainer(tmp_path)
        stock.fit(module, data)
        assert [record["epoch"] for record in module.history] == [0, 1]
        validation, test = stock.validate(module, data, verbose=False)[0], stock.test(module, data, verbose=False)[0]
        # the last epoch's weights are those that are validated
        assert validation["validation/loss"] == pytest.approx(module.history[-1]["validation/loss"], rel=1e-6)
        images, labels = data.data.test.images, data.data.test.labels
        with torch.no_grad():
            right = (module.eval()(images).argmax(1) == labels).double().mean().item()
        assert test["test/accuracy"] == pytest.approx(right)
        checkpoint = stock.checkpoint_callback.best_model_path
        again = ImageModule.load_from_checkpoint(checkpoint)
        assert again.settings == module.settings
        assert torch.equal(again(images), module(images))

    def test_the_same_as_a_run(self, data: ImageDataModule, idx_folder: Path, tmp_path: Path) -> None:
        flags = [f"--data.{name}={value}" for name, value in DATA.items()]
        flags += [f"--data.root={idx_folder}", "--model.width=8", "--trainer.max_epochs=2", "--seed_everything=3"]
        run = build_run(parse_settings([*flags, "--trainer.accelerator=cpu", f"--run_root={tmp_path}", "--patience=0"]))
        start = {name: value.clone() for name, value in run.module.state_dict().items()}
        module = ImageModule(data.spec, data.normalization, width=8)
        module.load_state_dict(start)
        train(run)
        trainer(tmp_path, logger=False, enable_checkpointing=False).fit(module, datamodule=data)
        assert [record["validation/loss"] for record in module.history] == [
            record["validation/loss"] for record in run.module.history
        ]

    def test_two_modules_on_the_same_data_do_not_switch_each_other(self, data: ImageDataModule) -> None:
        first, second = (ImageModule(data.spec, data.normalization, width=8) for _ in range(2))
        first.eval()
        assert all(part.training for part in second.modules())


def test_keywords_are_the_settings(data: ImageDataModule) -> None:
    for keywords, settings in ((DataKeywords, DataSettings), (ModelKeywords, ModelSettings)):
        assert keywords.__annotations__ == {field.name: field.type for field in fields(settings)}
    signature = inspect.signature(ImageModule).parameters
    assert list(signature)[:3] == ["spec", "normalization", "settings"]
    assert {field.name for field in fields(ModelSettings)} < set(signature)
    assert {"task", "seed", *(field.name for field in fields(DataSettings))} < set(
        inspect.signature(ImageDataModule).parameters
    )
    assert data.settings == DataSettings(**DATA, root=data.settings.root)
    with pytest.raises(TypeError):
        ImageModule(data.spec, data.normalization, layers=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        ImageModule(data.spec, data.normalization, ModelSettings(), depth=3)
    with pytest.raises(TypeError):
        ImageDataModule(DataSettings(), num_train=3)


def test_the_task_is_that_of_the_data(idx_folder: Path) -> None:
    binary = ImageDataModule(dataset="idx", root=str(idx_folder), num_validation=4, classes=[0, 1], task="binary")
    assert ImageModule(binary.spec, binary.normalization, width=4).task == "binary"


def test_a_checkpoint_without_settings_is_refused(data: ImageDataModule, tmp_path: Path) -> None:
    module = ImageModule(data.spec, data.normalization, width=4)
    torch.save({"state_dict": module.state_dict(), "spec": {}}, tmp_path / "old.ckpt")
    with pytest.raises(InputError, match=r"old\.ckpt"):
        ImageModule.load_from_checkpoint(tmp_path / "old.ckpt")


def test_what_a_notebook_shows_of_a_run(small_run: list[str]) -> None:
    run = build_run(parse_settings([*small_run, "--model.width=16"]))
    assert "not trained" in repr(run)
    metrics = train(run)
    for shown in (run, load_run(run.folder)):
        lines = repr(shown).splitlines()
        assert len(lines) == 3
        assert "→ 16 →" in lines[0]
        assert str(run.folder) in lines[1]
        assert metrics["verdict"] in lines[2]
        assert shown._repr_html_().count("<tr>") == 3
    run.metrics = {"verdict": "<script>"}
    assert "<script>" not in run._repr_html_()


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*", "ignore:.*logging interval.*"
)
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell runs, in order, on small data in the place of FashionMNIST."""
    folder = make_idx_folder(tmp_path / "data", num_train=700, num_classes=10, side=12)
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    monkeypatch.chdir(tmp_path)
    small = {'ROOT = "data"': f'ROOT = "{folder}"', "10_000": "512", '"fashion_mnist"': '"idx"'}
    names: dict[str, Any] = {}
    for cell in cells:
        for given, smaller in small.items():
            cell = cell.replace(given, smaller)
        exec(cell, names)  # noqa: S102 - the notebook is this project's own
    assert set(names["accuracies"]) == {"relu", "sigmoid"}
    assert names["shares"].shape == (8, 10)
    assert names["run"].folder.is_dir()
