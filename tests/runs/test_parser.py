"""Layers of settings, the help, what is printed and accepted back, and the nearest name for a misspelt one."""

import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
import yaml
from conftest import ROOT

from project.data.settings import DataSettings
from project.diagnosis.observers import DiagnosticsSettings
from project.errors import InputError, RunError
from project.network.mlp import MLP
from project.network.optimization.optimizers import resolved_numbers
from project.runs.build import build_run
from project.runs.command import run_command
from project.runs.parser import nearest_name, parse_settings
from project.runs.settings import RunSettings
from project.runs.train import train
from project.settings import choices_of
from project.training.settings import ModelSettings

SECTIONS: dict[str, Any] = {"model": ModelSettings, "data": DataSettings, "diagnostics": DiagnosticsSettings}


@pytest.fixture
def quick_run(small_run: list[str]) -> list[str]:
    """A run that leaves no folder."""
    return [*small_run, "--trainer.fast_dev_run=1"]


def write(path: Path, **content: Any) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_defaults_then_files_in_their_order_then_flags(quick_run: list[str], tmp_path: Path) -> None:
    first = write(tmp_path / "first.yaml", model={"depth": 5, "dropout": 0.5, "init": "orthogonal"}, patience=3)
    second = write(tmp_path / "second.yaml", model={"depth": 4, "dropout": 0.4}, seed_everything=9)
    config = parse_settings(["--config", first, f"--config={second}", "--model.depth=3", *quick_run])
    assert (config.model.depth, config.model.dropout, config.model.init) == (3, 0.4, "orthogonal")
    assert (config.patience, config.seed_everything) == (3, 9)
    # what nothing set is what the dataclass says
    assert replace(config.model, depth=2, dropout=0.2, init="auto", width=512) == ModelSettings()
    assert parse_settings(["--config", second, "--config", first, *quick_run]).model.depth == 5


def test_settings_reach_what_they_describe(quick_run: list[str]) -> None:
    flags = ["--model.depth=3", "--model.width=[7, 6, 5]", "--model.activation=elu", "--model.activation_parameter=0.5"]
    more = ["--model.norm=layer", "--data.num_train=96", "--data.augmentation=[shift, erase]", "--seed_everything=4"]
    cli = build_run(parse_settings([*quick_run, *flags, *more, "--trainer.gradient_clip_val=0.5"]))
    torch.manual_seed(4)
    expected = MLP(72, 3, depth=3, width=[7, 6, 5], activation="elu", activation_parameter=0.5, norm="layer")
    assert repr(cli.module.network) == repr(expected)
    assert cli.module.network.state_dict().keys() == expected.state_dict().keys()
    assert all(
        torch.equal(value, expected.state_dict()[name]) for name, value in cli.module.network.state_dict().items()
    )
    assert len(cli.datamodule.splits["train"]) == 96
    assert cli.datamodule.seed == 4
    assert cli.trainer.gradient_clip_val == 0.5


def test_printed_settings_are_accepted_back(
    quick_run: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model.width=[8, 9]", "--data.classes=[0, 2]", "--model.task=binary"]
    with pytest.raises(SystemExit) as stopped:
        build_run(parse_settings([*quick_run, *flags, "--print_config"]))
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    path = tmp_path / "printed.yaml"
    path.write_text(printed)
    assert parse_settings(["--config", str(path)]) == parse_settings([*quick_run, *flags])
    content = yaml.safe_load(printed)
    for section, owner in SECTIONS.items():
        assert set(content[section]) == {setting.name for setting in fields(owner)}


def test_the_optimizers_numbers_come_from_its_row_or_a_file_or_a_flag(small_run: list[str], tmp_path: Path) -> None:
    old = write(tmp_path / "old.yaml", model={"optimizer": "adam", "learning_rate": 0.004, "weight_decay": 0.05})
    for flags, expected in (
        (["--model.optimizer=sgd"], resolved_numbers("sgd", "auto", "auto", "auto")),
        (["--model.optimizer=sgd", "--model.learning_rate=1e-3"], resolved_numbers("sgd", 0.001, "auto", "auto")),
        (["--config", old, "--model.momentum=0.8"], (0.004, 0.8, 0.05)),  # a file of before there was auto
        (["--config", old, "--model.weight_decay=auto"], resolved_numbers("adam", 0.004, "auto", "auto")),
    ):
        settings = parse_settings([*small_run, *flags])
        assert settings.model.optimizer_numbers == expected
        saved = yaml.safe_load(settings.as_yaml())
        assert tuple(saved["model"][name] for name in ("learning_rate", "momentum", "weight_decay")) == expected
        again = parse_settings(["--config", write(tmp_path / "saved.yaml", **saved)])
        assert again.model == settings.model


def test_neither_a_number_nor_auto_is_refused(small_run: list[str]) -> None:
    with pytest.raises(InputError, match=r"learning_rate is fast, but must be a number or auto\ntype for example"):
        parse_settings([*small_run, "--model.learning_rate=fast"])


def test_a_runs_saved_settings_repeat_it(small_run: list[str], tmp_path: Path) -> None:
    flags = ["--data.augmentation=[affine, mixup]", "--model.optimizer=nesterov", "--run_name=first"]
    first = build_run(parse_settings([*small_run, *flags]))
    numbers = train(first)
    saved = first.folder / "config.yaml"
    again = build_run(parse_settings(["--config", str(saved), f"--run_root={tmp_path / 'again'}"]))
    repeated = train(again)
    timed = ("train_seconds", "examples_per_second")
    assert {k: v for k, v in repeated.items() if k not in timed} == {k: v for k, v in numbers.items() if k not in timed}
    assert again.folder.parent == tmp_path / "again" / "idx"
    assert first.settings.run_name == "first"
    assert again.settings.run_name is None  # or the second run could not have its folder
    two = [yaml.safe_load(path.read_text()) for path in (saved, again.folder / "config.yaml")]
    del two[0]["run_root"], two[1]["run_root"]
    assert two[0] == two[1]


@pytest.fixture
def help_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stopped:
        parse_settings(["--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_fits_on_two_screens(help_text: str) -> None:
    lines = help_text.splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("section", ["model", "data", "diagnostics"])
def test_help_lists_every_setting_with_its_default_and_choices(help_text: str, section: str) -> None:
    hints = get_type_hints(SECTIONS[section])
    for setting in fields(SECTIONS[section]):
        entry = re.search(rf"^  --{section}\.{setting.name}\b(.*?)(?=^  --|^\S|\Z)", help_text, re.M | re.S)
        assert entry, f"{section}.{setting.name} is not in the help"
        text = " ".join(entry[1].split())
        if setting.default is not None:
            assert f"[{str(setting.default).lower()}]" in text.lower(), setting.name
        assert len(re.sub(r"\[.*?\]|\{.*?\}", "", text).split()) >= 3, f"{section}.{setting.name} is not explained"
        for choice in choices_of(hints[setting.name]):
            assert re.search(rf"\b{choice}\b", text), f"{choice} is missing for {section}.{setting.name}"


def test_help_leaves_lightnings_settings_one_step_away(
    help_text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--trainer.profiler" not in help_text
    assert "--help.trainer" in help_text
    with pytest.raises(SystemExit):
        parse_settings(["--help.trainer"])
    text = capsys.readouterr().out
    for name in ("profiler", "max_epochs", "strategy", "precision"):
        assert f"--trainer.{name}" in text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--model.dpth", "model.depth"),
        ("--model.widht", "model.width"),
        ("--model.lr", "model.learning_rate"),
        ("--mode.depth", "model.depth"),
        ("--depth", "model.depth"),
        ("--learning_rate", "model.learning_rate"),
        ("--lr", "model.learning_rate"),
        ("--data.bs", "data.batch_size"),
        ("--data.batchsize", "data.batch_size"),
        ("--trainer.max_epoch", "trainer.max_epochs"),
        ("--run-name", "run_name"),
        ("--seed", "seed_everything"),
    ],
)
def test_a_misspelt_flag_gets_the_nearest(small_run: list[str], typed: str, meant: str) -> None:
    for args in ([f"{typed}=3"], [typed, "3"]):
        with pytest.raises(InputError) as caught:
            parse_settings([*small_run, *args])
        assert repr(typed[2:]) in caught.value.cause
        assert f" {meant}?" in caught.value.remedy


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("model", "dept", "model.depth"),
        ("modle", "depth", "model.depth"),
        ("data", "batch_sice", "data.batch_size"),
        ("trainer", "max_epoch", "trainer.max_epochs"),
    ],
)
def test_a_misspelt_key_in_a_file_gets_the_nearest(
    small_run: list[str], tmp_path: Path, section: str, key: str, meant: str
) -> None:
    path = write(tmp_path / "wrong.yaml", **{section: {key: 3}})
    with pytest.raises(InputError) as caught:
        parse_settings([*small_run, "--config", path])
    assert f"'{section}.{key}'" in caught.value.cause
    assert f" {meant}?" in caught.value.remedy


@pytest.mark.parametrize(
    ("setting", "value", "meant"),
    [
        ("model.activation", "leakyrelu", "leaky_relu"),
        ("model.optimizer", "adma", "adam"),
        ("model.schedule", "cosin", "cosine"),
        ("model.norm", "bacth", "batch"),
        ("model.loss", "crossentropy", "cross_entropy"),
        ("data.dataset", "fashion-mnist", "fashion_mnist"),
        ("data.augmentation", "cutmx", "cutmix"),
        ("data.normalization", "standardise", "standardize"),
    ],
)
def test_a_misspelt_choice_gets_the_nearest(
    small_run: list[str], tmp_path: Path, setting: str, value: str, meant: str
) -> None:
    section, _, name = setting.partition(".")
    path = write(tmp_path / "wrong.yaml", **{section: {name: value}})
    for args in ([f"--{setting}={value}"], ["--config", path]):
        with pytest.raises(InputError) as caught:
            parse_settings([*small_run, *args])
        assert caught.value.cause.startswith(f"{setting} is {value}, ")
        assert f" {meant}?" in caught.value.remedy
        for choice in choices_of(get_type_hints(SECTIONS[section])[name]):
            assert choice in caught.value.remedy


@pytest.mark.parametrize("name", ["model.dep", "data.batch", "seed_every", "trainer.max_ep"])
def test_abbreviations_are_refused(small_run: list[str], name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}'"):
        parse_settings([*small_run, f"--{name}=3"])


def test_no_class_can_be_named(small_run: list[str]) -> None:
    for flag in ("--model.class_path=os.system", "--model.activation=torch.nn.ReLU", "--model=os.path"):
        with pytest.raises(InputError):
            parse_settings([*small_run, flag])


def test_nearest_name() -> None:
    names = ["model.depth", "model.width", "data.root", "run_root"]
    assert nearest_name("model.dpth", names) == "model.depth"
    assert nearest_name("root", names) == "data.root"
    assert nearest_name("zzz", names) is None
    assert nearest_name("anything", []) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("val_acc", "validation/accuracy"), ("val_loss", "validation/loss"), ("accuracy", "train/accuracy"), ("f1", None)],
)
def test_a_misspelt_metric_gets_the_nearest(typed: str, meant: str | None) -> None:
    for given in (lambda: parse_settings([f"--monitor={typed}"]), lambda: RunSettings(monitor=typed)):
        with pytest.raises(InputError) as caught:
            given()
        assert re.findall(r"([\w/]+)\?", caught.value.remedy) == ([meant] if meant else [])
        assert "validation/accuracy" in caught.value.remedy


@pytest.mark.parametrize(
    ("outcome", "status", "said"),
    [
        (None, 0, ""),
        (3, 3, ""),
        (InputError("cause", "remedy"), 2, "error: cause\n  fix: remedy\n"),
        (RunError("cause", "remedy"), 1, "error: cause\n  fix: remedy\n"),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_exit_status(
    outcome: Any, status: int, said: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int | None:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as stopped:
        run_command(command)
    assert stopped.value.code == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said is None or printed.err == said


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:

    def command() -> None:
        raise InputError("cause", "remedy")

    for flags, raised in ((["--debug"], InputError), ([], SystemExit)):
        monkeypatch.setattr(sys, "argv", ["train.py", *flags])
        with pytest.raises(raised):
            run_command(command)


def test_debug_is_a_switch(quick_run: list[str], tmp_path: Path) -> None:
    assert parse_settings([*quick_run, "--debug"]).debug is True
    assert parse_settings(quick_run).debug is False
    assert parse_settings([*quick_run, "--config", write(tmp_path / "a.yaml", debug=True)]).debug is True


def test_what_the_terminal_shows(small_run: list[str], tmp_path: Path) -> None:
    """The real command: two lines for a mistake; results, verdict, run folder and what to type next for a run."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *small_run]
    # from another folder: nothing may depend on where one stands
    wrong = subprocess.run([*command, "--model.dpth=3"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert len(wrong.stderr.splitlines()) == 2
    right = subprocess.run([*command, "--run_name=here"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert right.returncode == 0, right.stderr
    folder = tmp_path / "runs" / "idx" / "here"
    verdict = " ".join(json.loads((folder / "metrics.json").read_text())["verdict"].split()[:5])
    for part in ("accuracy", verdict, str(folder), f"tensorboard --logdir {tmp_path / 'runs'}"):
        assert part in right.stdout
    assert "epoch 2 of 2" in right.stderr
    for noise in ("Warning", "Traceback", "GPU available", "litlogger"):
        assert noise not in right.stderr + right.stdout
