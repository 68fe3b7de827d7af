"""A run folder's settings do not decide where data are fetched to, nor where a folder is made."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import make_picture_folder
from finished import call, finish, small_flags

from project.data.sources import cifar, load
from project.serving.restore import restore


@pytest.fixture(scope="module")
def run(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fetching")
    return finish(*small_flags(idx_folder, root), "--trainer.max_epochs=1", "--run_name=x")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was fetched; nothing really is."""
    calls: list[str] = []

    def fetch(name: str, *_: object) -> None:
        calls.append(str(name))

    monkeypatch.setattr(load, "_fetch", fetch)
    monkeypatch.setattr(cifar, "_fetch", fetch)
    monkeypatch.setattr(load, "DEBIAN_FOLDER", Path("/nowhere"))
    return calls


def point_elsewhere(run: Path, dataset: str, root: Path) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["data"] |= {"dataset": dataset, "root": str(root), "download": True}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist", "kmnist", "emnist", "cifar10"])
def test_a_strangers_settings_fetch_nothing(
    run: Path, tmp_path: Path, fetched: list[str], capsys: pytest.CaptureFixture[str], dataset: str
) -> None:
    point_elsewhere(run, dataset, tmp_path / "elsewhere")
    for words in (
        ["evaluate", run, "--accelerator=cpu"],
        ["export", run, "--to", "torch_export"],
        ["diagnose", run],
        ["diagnose", run, "--data"],
    ):
        said = call(capsys, *words)
        assert said.status == 2, said
        assert "--data_root" in said.err
    assert fetched == []
    assert not (tmp_path / "elsewhere").exists()
    said = call(capsys, "evaluate", run, "--accelerator=cpu", "--data_root", tmp_path / "typed")
    assert (said.status, len(fetched)) == (2, 1), said.err  # what is typed is trusted


def test_no_cache_beside_a_strangers_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes into the user's own; one that is there is used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos = make_picture_folder(tmp_path / "photos", 30)
    data = ["--data.dataset=folder", f"--data.root={photos}", "--data.size=8", "--data.num_validation=4"]
    folder = finish(*data, "--model.width=4", "--trainer.max_epochs=1", f"--run_root={tmp_path}", "--data.batch_size=8")
    (cached,) = photos.glob(".decoded/*.npy")
    images = restore(folder).datamodule.data.train.images
    assert not (tmp_path / "cache").exists()
    cached.unlink()
    again = restore(folder).datamodule.data.train.images
    assert torch.equal(again, images)
    assert not list(photos.glob(".decoded/*.npy"))
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 1
