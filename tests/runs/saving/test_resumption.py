"""A run that is killed and resumed ends as one that never was: weights, optimizer, schedule, metrics, scalars."""

import json
import logging
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import harness
import pytest
import torch
import yaml
from finished import stop
from harness import Kill, compare, metrics, run

from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.saving.resumption import MAY_CHANGE
from project.runs.saving.run_folder import lock_run_folder
from project.runs.train import train

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # says of every resumption what it purges

FLAGS = [
    "--data.dataset=idx",
    "--data.num_validation=40",
    "--data.batch_size=32",
    "--data.augmentation=shift",
    "--model.width=16",
    "--model.norm=batch",
    "--model.dropout=0.2",
    "--model.optimizer=adamw",
    "--model.schedule=one_cycle",
    "--patience=2",
    "--checkpoint_every_n_steps=2",
    "--trainer.max_epochs=3",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=2",
]
"""Three epochs of six steps, a checkpoint after steps 2, 4, 6, 8, …"""

VARIANTS = {
    "default": [],
    "early stopping": ["--trainer.max_epochs=8", "--patience=1", "--model.learning_rate=1e-5"],
    "checkpoints by epoch alone": ["--checkpoint_every_n_steps=1000"],
    "a checkpoint at every step": ["--checkpoint_every_n_steps=1"],
    "accumulated parts": ["--trainer.accumulate_grad_batches=2"],
    "validation within an epoch": ["--trainer.val_check_interval=0.5"],
    "validation every other epoch": ["--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=4"],
    "no validation": ["--data.num_validation=0"],
    "max_steps": ["--trainer.max_steps=16"],
    "cut epochs": ["--trainer.limit_train_batches=4"],
    "mixed targets": ["--data.augmentation=[mixup,erase]", "--model.norm=layer", "--model.optimizer=momentum"],
    "muon": ["--model.optimizer=muon"],
    "bfloat16": ["--trainer.precision=bf16-mixed"],
    "float64": ["--trainer.precision=64-true"],
    "regression": ["--model.task=regression", "--trainer.gradient_clip_val=0.1"],
    "two classes": ["--model.task=binary", "--data.classes=[1,2]", "--data.num_validation=20", "--data.batch_size=8"],
    "residual connections": ["--model.network=residual_mlp", "--model.depth=4"],
    "wrong labels": ["--data.label_noise=0.3", "--model.label_smoothing=0.1"],
    "averaged weights": ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"],
    "a schedule in cycles": ["--model.schedule=cyclic", "--model.optimizer=rmsprop", "--model.warmup_fraction=0.2"],
    "a learned activation": ["--model.activation=prelu", "--model.loss=hinge", "--model.optimizer=adagrad"],
}
"""Settings in each of which a training goes another way through the loops."""


class Runs:
    """Runs with the same flags under one root, each in a process of its own."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.data = root, data

    def start(
        self, name: str, *flags: str, kill: Kill | None = None, changes: tuple[Callable[[], None], ...] = ()
    ) -> int:
        flags = (*FLAGS, f"--data.root={self.data}", f"--run_root={self.root}", f"--run_name={name}", *flags)
        return run(flags, self.printed(name), kill, changes)

    def resume(
        self, name: str, *flags: str, kill: Kill | None = None, changes: tuple[Callable[[], None], ...] = ()
    ) -> int:
        return run(["--resume", str(self.folder(name)), *flags], self.printed(name), kill, changes)

    def folder(self, name: str) -> Path:
        return self.root / "idx" / name

    def printed(self, name: str) -> Path:
        return self.root / f"{name}.txt"

    def unbroken(self, variant: str) -> Path:
        """The folder of a variant's run that nothing happened to."""
        name = "unbroken-" + variant.replace(" ", "-")
        if not self.folder(name).exists():
            assert self.start(name, *VARIANTS[variant]) == 0, self.printed(name).read_text()
        return self.folder(name)

    def check(self, variant: str, kill: Kill, changes: tuple[Callable[[], None], ...] = ()) -> list[str]:
        """What a run that is killed and resumed has other than the unbroken one."""
        name = f"{variant}-{kill.moment}-{kill.number}".replace(" ", "-")
        shutil.rmtree(self.folder(name), ignore_errors=True)
        assert self.start(name, *VARIANTS[variant], kill=kill, changes=changes) == -kill.signum
        again = [flag for flag in VARIANTS[variant] if "callbacks" in flag]  # a run folder names no code
        status = self.resume(name, *again, changes=changes)
        if status:
            return [self.printed(name).read_text()]
        return compare(self.folder(name), self.unbroken(variant))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), idx_folder)


FAST = [Kill("step", 9), Kill("step", 12), Kill("saved", 4), Kill("test", 2)]
EVERY = [
    *(Kill("step", number) for number in range(1, 19)),
    *(Kill("validation", number) for number in (1, 5, 8, 9, 16, 17, 24)),
    *(Kill("write", number) for number in range(1, 10)),
    *(Kill("publish", number) for number in range(1, 21)),
    *(Kill("saved", number) for number in range(1, 10)),
    *(Kill("validation", number) for number in (25, 32)),
    *(Kill("test", number) for number in (1, 8)),
]


@pytest.mark.parametrize("kill", FAST, ids=lambda kill: f"{kill.moment}-{kill.number}")
def test_killed_and_resumed(runs: Runs, kill: Kill) -> None:
    assert runs.check("default", kill) == []


@pytest.mark.slow
@pytest.mark.parametrize("kill", EVERY, ids=lambda kill: f"{kill.moment}-{kill.number}")
def test_killed_anywhere(runs: Runs, kill: Kill) -> None:
    assert runs.check("default", kill) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 6, 8, 9, 12])
@pytest.mark.parametrize("variant", list(VARIANTS)[1:])
def test_killed_in_every_kind_of_training(runs: Runs, variant: str, number: int) -> None:
    assert runs.check(variant, Kill("step", number)) == []


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["early stopping", "max_steps", "no validation"])
@pytest.mark.parametrize("kill", [Kill("test", 3), Kill("saved", 3), Kill("saved", 6)])
def test_killed_at_other_ends(runs: Runs, variant: str, kill: Kill) -> None:
    assert runs.check(variant, kill) == []


def test_early_stopping_was_on(runs: Runs) -> None:
    """The variant would show nothing if it ran to its last epoch."""
    found = metrics(runs.unbroken("early stopping"))
    assert found["status"] == "early_stopped"
    assert found["epochs"] < 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Kill("step", 5), Kill("step", 3)),
        (Kill("step", 11), Kill("step", 2)),
        (Kill("step", 8), Kill("step", 1)),
        (Kill("saved", 3), Kill("saved", 1)),
        (Kill("validation", 9), Kill("validation", 3)),
        (Kill("write", 4), Kill("write", 1)),
        (Kill("step", 17), Kill("test", 1)),
        (Kill("test", 1), Kill("test", 1)),
    ],
)
def test_killed_twice(runs: Runs, first: Kill, second: Kill) -> None:
    name = f"twice-{first.moment}{first.number}-{second.moment}{second.number}"
    assert runs.start(name, kill=first) == -9
    assert runs.resume(name, kill=second) == -9
    assert runs.resume(name) == 0
    assert compare(runs.folder(name), runs.unbroken("default")) == []


@pytest.mark.slow
def test_real_data(real_data: Path, tmp_path: Path) -> None:
    """20 kills at random steps of a training on FashionMNIST."""
    flags = [
        f"--data.root={real_data}",
        f"--run_root={tmp_path}",
        "--model.width=64",
        "--data.num_train=20000",
        "--data.augmentation=shift",
        "--checkpoint_every_n_steps=10",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
    ]
    assert run([*flags, "--run_name=unbroken"], tmp_path / "unbroken.txt") == 0
    steps = metrics(tmp_path / "fashion_mnist" / "unbroken")["steps"]
    for step in random.Random(0).sample(range(1, steps + 1), 20):  # noqa: S311
        name = f"step{step}"
        assert run([*flags, f"--run_name={name}"], tmp_path / f"{name}.txt", Kill("step", step)) == -9
        folder = tmp_path / "fashion_mnist" / name
        assert run(["--resume", str(folder)], tmp_path / f"{name}.txt") == 0
        assert compare(folder, tmp_path / "fashion_mnist" / "unbroken") == [], step


CONTROLS: list[tuple[Callable[[], None], str, Kill]] = [
    (harness.without_order, "default", Kill("step", 9)),
    (harness.without_position, "default", Kill("step", 9)),
    (harness.without_reseeding, "default", Kill("step", 9)),
    (harness.without_epoch_sums, "default", Kill("step", 9)),
    (harness.without_whole_epochs, "a checkpoint at every step", Kill("validation", 9)),
    (harness.without_purge, "default", Kill("step", 10)),
    (harness.without_immediate_scalars, "default", Kill("saved", 1)),
    (harness.without_flush, "default", Kill("saved", 1)),
    (harness.without_early_stopping_state, "early stopping", Kill("step", 14)),
    (harness.without_best_score, "early stopping", Kill("step", 14)),
    (harness.without_best_first, "early stopping", Kill("publish", 12)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("take_out", "variant", "kill"), CONTROLS, ids=lambda part: getattr(part, "__name__", ""))
def test_each_part_is_needed(
    tmp_path: Path, idx_folder: Path, take_out: Callable[[], None], variant: str, kill: Kill
) -> None:
    """Without any one part of the recipe a run that is killed ends otherwise than one that is not."""
    controlled = Runs(tmp_path, idx_folder)
    name = "unbroken-" + variant.replace(" ", "-")
    # the part is missing in the unbroken run too: what differs is the kill's doing
    assert controlled.start(name, *VARIANTS[variant], changes=(take_out,)) == 0
    assert controlled.check(variant, kill, changes=(take_out,)) != []


def test_auto_starts_goes_on_and_knows_the_end(runs: Runs) -> None:
    kill = Kill("step", 9)
    assert runs.start("auto", "--resume=auto", kill=kill) == -9
    assert runs.start("auto", "--resume=auto") == 0
    assert compare(runs.folder("auto"), runs.unbroken("default")) == []
    before = runs.folder("auto").joinpath("metrics.json").read_text()
    assert runs.start("auto", "--resume=auto") == 0
    assert runs.folder("auto").joinpath("metrics.json").read_text() == before


def test_train_longer(runs: Runs) -> None:
    assert runs.start("longer", "--model.schedule=constant") == 0
    assert runs.resume("longer") == 2
    assert "--trainer.max_epochs 6" in runs.printed("longer").read_text()
    assert runs.resume("longer", "--trainer.max_epochs=4") == 0
    # with a schedule that does not know the end, in one go or in two is the same
    assert runs.start("in-one-go", "--model.schedule=constant", "--trainer.max_epochs=4") == 0
    assert compare(runs.folder("longer"), runs.folder("in-one-go")) == []
    assert yaml.safe_load((runs.folder("longer") / "config.yaml").read_text())["trainer"]["max_epochs"] == 4


def test_go_on_after_early_stopping(runs: Runs) -> None:
    name = "patient"
    assert runs.start(name, *VARIANTS["early stopping"]) == 0
    epochs = metrics(runs.folder(name))["epochs"]
    assert runs.resume(name) == 2
    assert "--patience 2" in runs.printed(name).read_text()
    assert runs.resume(name, "--patience=3") == 0
    assert metrics(runs.folder(name))["epochs"] > epochs


def refusal(*arguments: str) -> InputError:
    with pytest.raises(InputError) as caught:
        build_run(parse_settings(list(arguments)))
    return caught.value


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Path:
    """A finished run to play with."""
    folder = tmp_path / "idx" / "copied"
    shutil.copytree(runs.unbroken("default"), folder)
    return folder


def test_other_settings_are_shown_side_by_side(copied: Path) -> None:
    error = refusal("--resume", str(copied), "--model.learning_rate=0.1", "--model.depth=3", "--data.batch_size=32")
    assert all(part in error.cause for part in ("model.learning_rate", "0.004", "0.1", "model.depth"))
    assert "batch_size" not in error.cause
    for name in MAY_CHANGE:
        assert name in error.remedy


def test_auto_means_the_runs_own_number(copied: Path) -> None:
    (copied / "metrics.json").unlink()
    again = parse_settings(["--resume", str(copied), "--model.learning_rate=auto", "--model.weight_decay=auto"])
    assert again.model.optimizer_numbers == (0.004, 0.9, 0.05)


def test_settings_in_a_file_count_too(copied: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("model:\n  dropout: 0.5\n")
    cause = refusal("--resume", str(copied), f"--config={file}").cause
    assert all(part in cause for part in ("model.dropout", "0.2", "0.5"))


def test_other_data_are_refused(copied: Path, tmp_path: Path, idx_folder: Path) -> None:
    other = tmp_path / "data"
    shutil.copytree(idx_folder, other)
    (copied / "metrics.json").unlink()
    moved = build_run(parse_settings(["--resume", str(copied), f"--data.root={other}"]))
    assert moved.resumption is not None
    assert moved.resumption.step == 18
    moved.unlock()
    content = bytearray((other / "train-images-idx3-ubyte").read_bytes())
    content[-1] ^= 1
    (other / "train-images-idx3-ubyte").write_bytes(content)
    assert str(other) in refusal("--resume", str(copied), f"--data.root={other}").cause


def test_fewer_epochs_than_done(copied: Path) -> None:
    (copied / "metrics.json").unlink()
    assert "--trainer.max_epochs 4" in refusal("--resume", str(copied), "--trainer.max_epochs=2").remedy


def test_diverged_run(copied: Path) -> None:
    (copied / "metrics.json").write_text(json.dumps({"status": "diverged"}))
    assert "--model.learning_rate" in refusal("--resume", str(copied)).remedy


def test_two_processes_cannot_train_one_run(copied: Path) -> None:
    (copied / "metrics.json").unlink()
    descriptor = lock_run_folder(copied)
    try:
        assert str(copied) in refusal("--resume", str(copied)).cause
    finally:
        os.close(descriptor)
    build_run(parse_settings(["--resume", str(copied)]))  # so that the lock was the reason


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--resume=nowhere"], "config.yaml"),
        (["--resume=auto"], "--run_name NAME"),
        (["--resume=nowhere", "--run_name=x"], "--resume auto"),
    ],
)
def test_no_run_to_resume(arguments: list[str], named: str) -> None:
    assert named in str(refusal(*arguments))


def test_damaged_last_checkpoint(runs: Runs) -> None:
    name = "damaged"
    assert runs.start(name, kill=Kill("step", 9)) == -9
    last = runs.folder(name) / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert runs.resume(name) == 0
    assert "previous.ckpt" in runs.printed(name).read_text()
    assert compare(runs.folder(name), runs.unbroken("default")) == []


def test_flipped_bit_in_a_checkpoint(copied: Path) -> None:
    (copied / "metrics.json").unlink()
    (copied / "checkpoints" / "previous.ckpt").unlink()
    last = copied / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(last) as archive:  # in the largest tensor: the gaps between tensors have no checksum
        largest = archive.read(max(archive.infolist(), key=lambda entry: entry.file_size))
    content = bytearray(last.read_bytes())
    content[content.index(largest) + len(largest) // 2] ^= 1
    last.write_bytes(content)
    assert "checksum" in refusal("--resume", str(copied)).cause


def test_a_clock_that_was_set_back(runs: Runs) -> None:
    """TensorBoard reads event files in the order of their names, which are made of the time."""
    assert runs.start("clock", kill=Kill("step", 9)) == -9
    assert runs.resume("clock", kill=Kill("step", 5), changes=(harness.an_hour_ago,)) == -9
    assert runs.resume("clock", changes=(harness.two_hours_ago,)) == 0
    assert compare(runs.folder("clock"), runs.unbroken("default")) == []


def test_texts_come_once(runs: Runs) -> None:
    """Also those of a run that was killed while its test set was scored, and of one that is trained longer."""
    assert runs.start("texts", kill=Kill("test", 8)) == -9
    assert runs.resume("texts") == 0
    assert set(harness.texts(runs.folder("texts")).values()) == {1}
    assert runs.resume("texts", "--trainer.max_epochs=4") == 0
    found = harness.texts(runs.folder("texts"))
    assert "1_judgement/text_summary" in found
    assert set(found.values()) == {1}


@pytest.mark.parametrize(
    "without",
    ["optimizer_states", "state", "lr_schedulers", "RunCheckpoint", "EarlyStop", "DiagnosticsCallback"],
)
def test_a_checkpoint_without_a_state(runs: Runs, tmp_path: Path, without: str) -> None:
    """Lightning would go on without a word, and end elsewhere."""
    folder = tmp_path / "idx" / "x"
    shutil.copytree(runs.unbroken("default"), folder)
    for path in (folder / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        if without == "state":
            content["optimizer_states"][0]["state"] = {}
        elif without in content:
            content[without] = []
        else:
            kept = {name: state for name, state in content["callbacks"].items() if not name.startswith(without)}
            assert len(kept) < len(content["callbacks"])
            content["callbacks"] = kept
        torch.save(content, path)
    with pytest.raises(InputError, match="no state of"):
        parse_settings(["--resume", str(folder), "--trainer.max_epochs=9"])


@pytest.mark.parametrize("flags", [[], ["--model.optimizer=sgd"], ["--patience=0", "--diagnostics.enabled=false"]])
def test_what_has_no_state_is_not_missed(small_run: list[str], flags: list[str]) -> None:
    folder = stop([*small_run, *flags], 4)
    train(build_run(parse_settings(["--resume", str(folder)])))
