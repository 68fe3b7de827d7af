"""`scripts/diagnose.py` names what is wrong before training and a remedy that works; a healthy network is fine."""

import runpy
import shlex
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from project.diagnosis.before_training import Examined, diagnosis_figure, examine, theory_lines
from project.runs.build import build_run
from project.runs.parser import parse_settings, run_parser
from project.runs.settings import settings_from
from project.runs.train import train

SIGMOID = "--model.activation sigmoid --model.depth 20 --model.width 256 --model.norm none"
NARROW = "--model.depth 20 --model.width 3 --model.norm none"


def examined(flags: str, data: Path) -> Examined:
    settings = settings_from(run_parser().read([*shlex.split(flags), f"--data.root={data}"]).as_dict())
    return examine(settings.model, settings.data, settings.seed_everything)


def test_deep_sigmoid_vanishes(real_data: Path) -> None:
    found = examined(SIGMOID, real_data)
    worst = found.diagnosis.findings[0]
    assert (worst.code, worst.severity) == ("vanishing_gradient", "severe")
    ratio = found.diagnosis.probe.gradient_ratio
    # the slope of a sigmoid is at most 1/4: 19 layers with Xavier's weights of variance 1/n cannot pass more
    assert ratio is not None
    assert ratio < 0.25**19 * 1e3
    assert len(theory_lines(found)) == 3  # sigmoid units cannot be born dead


@pytest.mark.parametrize("seed", range(3))
def test_narrow_relu_is_born_dead(seed: int, real_data: Path) -> None:
    found = examined(f"{NARROW} --seed_everything {seed}", real_data)
    assert found.diagnosis.born_dead_probability is not None
    assert found.diagnosis.born_dead_probability > 0.6  # Lu et al. 2019: 10 layers of 3 are dead in 60 % of draws
    assert "born_dead" in {finding.code for finding in found.diagnosis.findings}


def test_zeros_leave_only_the_last_bias(real_data: Path) -> None:
    found = examined("--model.init zeros", real_data)
    assert found.diagnosis.findings[0].code == "zero_weights"
    output = found.diagnosis.probe.output
    assert output.weight_gradient_norm == 0
    assert output.bias_gradient_norm > 0


@pytest.mark.parametrize(
    "flags", ["", "--seed_everything 1", "--config configs/mnist.yaml --data.dataset fashion_mnist"]
)
def test_the_default_network_is_healthy(flags: str, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert examined(flags, real_data).findings == []


def test_the_script_prints_saves_and_leaves_no_run(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = f"--data.dataset idx --data.root {idx_folder} --data.num_validation 40 --data.batch_size 32"
    script = str(ROOT / "scripts" / "diagnose.py")
    monkeypatch.setattr(sys, "argv", [script, *shlex.split(f"{flags} {SIGMOID} --figure picture.png")])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(script, run_name="__main__")
    assert leaving.value.code == 0
    assert "--model.activation relu" in capsys.readouterr().out
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "runs").exists()


def test_the_figure_shows_measurement_and_theory(real_data: Path) -> None:
    found = examined(NARROW, real_data)
    figure = diagnosis_figure(found)
    assert len(figure.axes) == 3
    drawn = figure.axes[0].lines[0].get_ydata()
    assert list(drawn) == [layer.activation_sd for layer in found.diagnosis.probe.hidden]


@pytest.mark.slow
def test_the_remedy_for_deep_sigmoid_trains(real_data: Path, tmp_path: Path) -> None:
    worst = examined(SIGMOID, real_data).diagnosis.findings[0]
    flags = shlex.split(f"{SIGMOID} {' '.join(worst.remedy)} --trainer.max_epochs 3 --trainer.accelerator cpu")
    run = build_run(parse_settings([*flags, f"--data.root={real_data}", f"--run_root={tmp_path}"]))
    assert train(run)["test/accuracy"] >= 0.85
