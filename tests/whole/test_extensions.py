"""A user's own file adds rows to every table, from the command line to the saved run, and a bad one leaves nothing."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from project.errors import InputError
from project.extensions import TABLES, check_extensions, load_extension, load_named_extensions, loaded_extensions
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.train import train
from project.serving.restore import restore

LAB = """
import torch
from pytorch_lightning import Callback
from torch import nn

from project.diagnosis.measurement.quantities import DIAGNOSTICS
from project.network.activations import ACTIVATIONS, Activation
from project.network.initializers import INITIALIZERS
from project.network.layers import Layer, Network
from project.network.networks import NETWORKS, NetworkRow
from project.network.norms import NORMS, Norm
from project.network.optimization.losses import LOSSES, Loss
from project.network.optimization.optimizers import OPTIMIZERS
from project.network.optimization.schedules import SCHEDULES
from project.training.module import ImageModule  # reads the settings before the rows are added


class Snake(nn.Module):
    def forward(self, x):
        return x + x.sin().square()


class SmallConv(Network):
    def __init__(self, spec, settings):
        super().__init__()
        self.shape = (-1, spec.height, spec.width, 1)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.activation = nn.ReLU()
        self.output = nn.Linear(4 * spec.num_features, spec.num_outputs)

    def representation(self, x):
        return self.activation(self.norm(self.conv(x.view(self.shape).movedim(3, 1)))).flatten(1)

    def layers(self):
        hidden = Layer(
            name="hidden 1", linear=self.conv, norm=self.norm, norm_name="batch",
            activation=self.activation, activation_name="relu",
        )
        return [hidden, Layer(name="output", linear=self.output)]


class Witness(Callback):
    def on_train_end(self, trainer, pl_module):
        pl_module.was_seen = True


ACTIVATIONS["snake"] = Activation(
    build=lambda nn, _: Snake(), parameter=None, init="kaiming_normal", slope=0.0, saturation=None, can_die=False
)
NETWORKS["small_conv"] = NetworkRow(build=SmallConv)
NORMS["group"] = Norm(build=lambda nn, units: nn.GroupNorm(1, units), title="group norm", over="units")
LOSSES["brier"] = Loss(
    functions={"multiclass": lambda f, z, y, *_: (z.softmax(1) - f.one_hot(y, z.shape[1])).square().sum(1).mean()},
    probabilities=frozenset(), smoothing=frozenset(), rate_factors={},
)
OPTIMIZERS["adam_like"] = OPTIMIZERS["adam"]
SCHEDULES["like_linear"] = SCHEDULES["linear"]
DIAGNOSTICS["silent_share"] = lambda z, a: (a == 0).float().mean()
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    path = tmp_path / "my_lab.py"
    path.write_text(LAB)
    return path


@pytest.mark.usefixtures("clean_extensions")
class TestAGoodFile:
    def test_a_run_with_rows_of_every_kind(self, small_run: list[str], lab: Path) -> None:
        flags = ["--extensions", str(lab), "--model.network=small_conv", "--model.loss=brier"]
        flags += ["--model.optimizer=adam_like", "--model.schedule=like_linear", "--trainer.callbacks+=my_lab.Witness"]
        run = build_run(parse_settings([*small_run, *flags]))
        train(run)
        assert run.folder is not None
        assert run.module.was_seen
        assert [layer.num_units for layer in run.module.network.layers()] == [4, run.module.spec.num_outputs]
        assert json.loads((run.folder / "provenance.json").read_text())["extensions"] == {
            "my_lab.py": hashlib.sha256(LAB.encode()).hexdigest()
        }
        layer = json.loads((run.folder / "evidence.json").read_text())["last"]["hidden"][0]
        assert 0 < layer["own"]["silent_share"] < 1
        images = torch.randint(0, 256, (3, run.module.spec.height, run.module.spec.width), dtype=torch.uint8)
        assert torch.equal(restore(run.folder).model(images), run.module.eval()(images))

    def test_the_other_tables(self, small_run: list[str], lab: Path) -> None:
        flags = ["--model.activation=snake", "--model.norm=group", f"--extensions={lab}"]
        run = build_run(parse_settings([*small_run, *flags]))
        train(run)
        x = torch.linspace(-3, 3, 50)
        torch.testing.assert_close(run.module.network.layers()[0].activation(x), x + x.sin() ** 2)  # type: ignore[misc]

    def test_a_file_is_imported_once(self, tmp_path: Path) -> None:
        path = tmp_path / "counts.py"
        path.write_text("import sys\nsys.counted = getattr(sys, 'counted', 0) + 1\n")
        assert load_named_extensions(["a", "--extensions", str(path), f"--extensions={path}", "b"]) == ["a", "b"]
        assert sys.counted == 1  # type: ignore[attr-defined]
        del sys.counted  # type: ignore[attr-defined]

    def test_its_folder_may_be_on_the_path(self, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(lab.parent)
        load_extension(lab)
        assert "my_lab.py" in loaded_extensions()

    def test_worker_processes_load_it_too(self, lab: Path) -> None:
        load_extension(lab)
        code = "from project.extensions import load_inherited_extensions as load; load()\n"
        code += "from project.network.networks import NETWORKS; print('small_conv' in NETWORKS)"
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert answer.stdout == "True\n"

    def test_a_run_folder_asks_for_the_file_as_it_was(self, tmp_path: Path, lab: Path) -> None:
        origin = {"extensions": {"my_lab.py": hashlib.sha256(LAB.encode()).hexdigest()}}
        with pytest.raises(InputError, match=r"my_lab\.py"):
            check_extensions(tmp_path, origin, exactly=False)
        assert not loaded_extensions()
        load_extension(lab)
        check_extensions(tmp_path, origin, exactly=True)
        changed = {"extensions": {"my_lab.py": "0" * 64}}
        check_extensions(tmp_path, changed, exactly=False)  # with a warning
        with pytest.raises(InputError, match="changed"):
            check_extensions(tmp_path, changed, exactly=True)
        check_extensions(tmp_path, {}, exactly=True)


BAD = {
    "raises": "1 / 0",
    "leaves": "import sys; sys.exit(3)",
    "is no Python": "def (",
    "replaces a row": 'from project.network.activations import ACTIVATIONS as A\nA["relu"] = A["tanh"]',
    "removes a row": 'from project.network.networks import NETWORKS\nNETWORKS.pop("mlp")',
    "raises after a row": 'from project.network.norms import NORMS as N\nN["mine"] = N["batch"]\nraise KeyError("x")',
}


@pytest.mark.usefixtures("clean_extensions")
@pytest.mark.parametrize("what", sorted(BAD))
def test_a_bad_file_is_refused_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    from project import extensions

    before = {name: list(rows.items()) for name, rows in extensions._tables().items()}
    path = tmp_path / "bad_one.py"
    path.write_text(BAD[what])
    with pytest.raises(InputError, match=r"bad_one\.py"):
        load_extension(path)
    assert "bad_one" not in sys.modules
    assert not loaded_extensions()
    assert {name: list(rows.items()) for name, rows in extensions._tables().items()} == before
    assert set(before) == set(TABLES)


@pytest.mark.usefixtures("clean_extensions")
def test_files_that_cannot_be_named(tmp_path: Path) -> None:
    for name in ("missing.py", "json.py", "no-module.py", "text.txt"):
        if name != "missing.py":
            (tmp_path / name).write_text("x = 1")
        with pytest.raises(InputError):
            load_extension(tmp_path / name)
    for words in (["--extensions"], ["--extensions="], ["--extensions", "--debug"]):
        with pytest.raises(InputError):
            load_named_extensions(words)
