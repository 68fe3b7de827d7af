"""Checkpoints are whole or not there, and none is lost, whatever happens while they are written."""

import contextlib
import errno
import math
import multiprocessing
import os
import re
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import Kill, compare, metrics, run, save_forever, start, without_atomic_writes

from project.errors import DivergenceError, InputError, RunError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.saving.checkpointing import PlainCheckpointIO, load_checkpoint, newest_checkpoint
from project.runs.train import train
from project.training.module import ImageModule

DATA_SPEC = {"spec": {}, "history": [], "global_step": 0}


def content(value: float = 1.0) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((1000,), value)}, **DATA_SPEC}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A run folder with a last and a previous checkpoint, of weights 2 and 1."""
    for value in (1.0, 2.0):
        PlainCheckpointIO(tmp_path).save_checkpoint(content(value), tmp_path / "checkpoints" / "last.ckpt")
    return tmp_path


def weight(checkpoint: dict[str, Any]) -> float:
    return float(checkpoint["state_dict"]["weight"][0])


def test_the_previous_one_is_kept(saved: Path) -> None:
    assert sorted(path.name for path in (saved / "checkpoints").iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert weight(load_checkpoint(saved / "checkpoints" / "last.ckpt")) == 2.0
    assert weight(load_checkpoint(saved / "checkpoints" / "previous.ckpt")) == 1.0


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a name without its content would be a lost checkpoint: file, then name, then folder."""
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        order.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        order.append(f"{self.name} to {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    PlainCheckpointIO(tmp_path).save_checkpoint(content(), tmp_path / "checkpoints" / "best.ckpt")
    assert order == ["fsync best.ckpt.part", "best.ckpt.part to best.ckpt", "fsync checkpoints"]


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_cut_off_last_one_is_passed_over(saved: Path, length: int, caplog: pytest.LogCaptureFixture) -> None:
    last = saved / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:length])
    with caplog.at_level("WARNING", logger="project"):
        found = newest_checkpoint(saved)
    assert found is not None
    assert found[0].name == "previous.ckpt"
    assert weight(found[1]) == 1.0


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None


def test_nothing_but_damaged_ones(saved: Path) -> None:
    for name in ("last", "previous"):
        (saved / "checkpoints" / f"{name}.ckpt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"previous\.ckpt"):
        newest_checkpoint(saved)


def test_a_full_disk_leaves_the_checkpoint_before(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError) as caught:
            PlainCheckpointIO(saved).save_checkpoint(content(3.0), saved / "checkpoints" / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert sorted(path.name for path in (saved / "checkpoints").iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert weight(load_checkpoint(saved / "checkpoints" / "last.ckpt")) == 2.0


def kill_while_writing(folder: Path, delay_s: float) -> tuple[int, dict[str, Any] | None]:
    """Kill a process that does nothing but save; give the number of its last finished checkpoint and what is there."""
    finished, saying = multiprocessing.Pipe(duplex=False)
    process = start(save_forever, folder, saying)
    saying.close()
    number = finished.recv()
    time.sleep(delay_s)
    process.kill()
    process.join()
    with contextlib.suppress(EOFError):
        while True:
            number = finished.recv()
    found = newest_checkpoint(folder)
    return number, found[1] if found else None


@pytest.mark.slow
def test_100_kills_while_writing(tmp_path: Path) -> None:
    in_the_middle = 0
    for number in range(100):
        folder = tmp_path / str(number)
        finished, found = kill_while_writing(folder, 0.0037 * number % 0.1)
        assert found is not None
        # at worst the one before the last that was finished: where the kill came between two renames
        assert weight(found) in (finished - 1, finished, finished + 1)
        in_the_middle += (folder / "checkpoints" / "last.ckpt.part").exists()
    assert in_the_middle > 10  # the kills did hit writes


FLAGS = [
    "--data.dataset=idx",
    "--data.num_validation=40",
    "--data.batch_size=32",
    "--model.width=16",
    "--checkpoint_every_n_steps=1",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
]


@pytest.mark.slow
def test_writing_in_place_would_lose_the_run(tmp_path: Path, idx_folder: Path) -> None:
    """The negative control: without atomic writes a kill in the middle of one leaves nothing to go on from."""
    flags = [*FLAGS, f"--data.root={idx_folder}", f"--run_root={tmp_path}", "--run_name=x"]
    assert run(flags, tmp_path / "x.txt", Kill("write", 5), [without_atomic_writes]) == -9
    assert run(["--resume", str(tmp_path / "idx" / "x")], tmp_path / "x.txt") == 2


def test_a_full_disk_in_mid_run_loses_nothing(tmp_path: Path, idx_folder: Path) -> None:
    """With a limit on the size of a file in the place of a full disk."""
    flags = [*FLAGS, f"--data.root={idx_folder}", f"--run_root={tmp_path}", "--diagnostics.enabled=false"]
    assert run([*flags, "--run_name=unbroken"], tmp_path / "unbroken.txt") == 0
    folder = tmp_path / "idx" / "x"
    assert run([*flags, "--run_name=x"], tmp_path / "x.txt", changes=[_fill_the_disk_at_step_5]) == 1
    printed = (tmp_path / "x.txt").read_text()
    assert os.strerror(errno.EFBIG) in printed
    assert f"--resume {folder}" in printed
    assert "Traceback" not in printed
    found = newest_checkpoint(folder)
    assert found is not None
    assert found[1]["global_step"] == 4
    assert run(["--resume", str(folder)], tmp_path / "x.txt") == 0
    assert compare(folder, tmp_path / "idx" / "unbroken") == []


def _fill_the_disk_at_step_5() -> None:
    step = ImageModule.optimizer_step
    count = 0

    def step_and_fill(self: ImageModule, *args: Any, **kwargs: Any) -> None:
        nonlocal count
        step(self, *args, **kwargs)
        count += 1
        if count == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))

    ImageModule.optimizer_step = step_and_fill  # type: ignore[method-assign, assignment]


def test_a_loss_that_becomes_nan_stops_the_run_at_that_step(
    small_run: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ImageModule.training_step
    seen: list[float] = []

    def poisoned(self: ImageModule, *args: Any) -> torch.Tensor:
        loss = step(self, *args)
        if len(seen) == 8:
            loss = loss * float("nan")
        seen.append(loss.item())
        return loss

    monkeypatch.setattr(ImageModule, "training_step", poisoned)
    cli = build_run(parse_settings([*small_run, "--run_name=x"]))
    with pytest.raises(DivergenceError) as caught:
        train(cli)
    assert len(seen) == 9
    assert math.isnan(seen[-1])
    assert {"9", "2"} <= set(re.findall(r"\b\d+\b", caught.value.cause)), "the step and the epoch"
    assert "--model.learning_rate" in caught.value.remedy
    assert "best.ckpt" in caught.value.remedy
    folder = tmp_path / "runs" / "idx" / "x"
    found = metrics(folder)
    assert found["status"] == "diverged"
    assert found["epochs"] == 1
    best = load_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert best["global_step"] == 6
    assert all(value.isfinite().all() for value in best["state_dict"].values())


def test_a_real_divergence(tmp_path: Path, idx_folder: Path) -> None:
    # raw gray levels and steps that double whatever is wrong
    flags = ["--data.normalization=none", "--model.norm=none", "--model.optimizer=sgd", "--model.schedule=constant"]
    flags += ["--model.learning_rate=1e4", "--model.activation=identity", "--patience=0"]
    flags += [f"--data.root={idx_folder}", f"--run_root={tmp_path}", "--run_name=x"]
    assert run([*FLAGS, *flags], tmp_path / "x.txt") == 1
    assert "--model.learning_rate 1e+03" in (tmp_path / "x.txt").read_text()
    assert metrics(tmp_path / "idx" / "x")["status"] == "diverged"
    for path in (tmp_path / "idx" / "x" / "checkpoints").glob("*.ckpt"):
        assert all(value.isfinite().all() for value in load_checkpoint(path)["state_dict"].values())


def test_losses_are_looked_at_together_on_a_gpu(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where reading one makes it wait: the first bad step is found among those since the last look."""
    cli = build_run(parse_settings([*small_run, "--run_name=x"]))
    assert cli.checkpoint is not None
    losses = torch.tensor([1.0, 2.0, math.inf, math.nan, 3.0]).unbind()
    cli.checkpoint._unchecked = list(zip(range(11, 16), losses, strict=True))
    cli.checkpoint._check_losses()
    assert cli.checkpoint._diverged_step == 13
    assert cli.checkpoint._unchecked == []


def test_weights_that_are_no_numbers_are_never_saved(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the loss does not show it yet: the step itself made them so."""
    step = ImageModule.optimizer_step
    count = 0

    def poisoned(self: ImageModule, *args: Any, **kwargs: Any) -> None:
        nonlocal count
        step(self, *args, **kwargs)
        count += 1
        if count == 6:
            with torch.no_grad():
                self.network.output.weight[0, 0] = math.inf

    monkeypatch.setattr(ImageModule, "optimizer_step", poisoned)
    cli = build_run(parse_settings([*small_run, "--data.num_validation=0", "--run_name=x"]))
    with pytest.raises(DivergenceError):
        train(cli)
    assert cli.folder is not None
    assert not list((cli.folder / "checkpoints").glob("*.ckpt"))


def test_a_failure_is_a_run_error_with_a_remedy(small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "full", "last.ckpt")

    monkeypatch.setattr(PlainCheckpointIO, "save_checkpoint", full)
    cli = build_run(parse_settings([*small_run, "--run_name=x"]))
    with pytest.raises(RunError) as caught:
        train(cli)
    assert "last.ckpt" in caught.value.cause
    assert f"--resume {cli.folder}" in caught.value.remedy


def test_weights_that_are_no_numbers_are_named(saved: Path) -> None:
    path = saved / "checkpoints" / "last.ckpt"
    weights = torch.ones(10)
    weights[3] = float("nan")
    torch.save({"state_dict": {"good": torch.ones(2), "bad": weights}, **DATA_SPEC}, path)
    with pytest.raises(InputError, match=r"bad has a weight that is NaN"):
        load_checkpoint(path)
    assert weight(newest_checkpoint(saved)[1]) == 1.0  # the one before it is used


def test_more_weights_than_the_file_has_room_for(tmp_path: Path) -> None:
    """A view of one number can have any size."""
    torch.save({"state_dict": {"weight": torch.zeros(1).expand(10**12)}, **DATA_SPEC}, tmp_path / "x.ckpt")
    with pytest.raises(InputError, match="more weights"):
        load_checkpoint(tmp_path / "x.ckpt")


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    """It could unpack to any size; torch compresses nothing."""
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    with pytest.raises(InputError, match="compressed"):
        load_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize("load", [load_checkpoint, ImageModule.load_from_checkpoint])
def test_the_refusal_of_an_object_advises_nothing_unsafe(tmp_path: Path, load: Callable[[Path], object]) -> None:
    """Torch's own words are: re-running with weights_only set to False will likely succeed."""
    torch.save({"state_dict": {}, "spec": Path("x")}, tmp_path / "x.ckpt")
    with pytest.raises(InputError) as caught:
        load(tmp_path / "x.ckpt")
    assert "weights_only" not in str(caught.value)
    assert "tensors, numbers, texts" in caught.value.cause
