"""Files from a stranger are data: whatever a run folder, checkpoint or IDX file holds, nothing in it is run."""

import ast
import contextlib
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT
from finished import finish, small_flags

from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.train import train
from project.serving.restore import restore

MODULE = "planted_by_a_stranger"


class Trap:
    """Traces that code from a file leaves when it is imported or run."""

    def __init__(self, folder: Path) -> None:
        self.sign = folder / "sprung"
        # importing it is enough; so is making anything that it defines
        code = f"from pathlib import Path\nPath({str(self.sign)!r}).touch()\n"
        code += "from pytorch_lightning import Callback\nclass Thing(Callback):\n    pass\n"
        (folder / f"{MODULE}.py").write_text(code)

    @property
    def sprung(self) -> bool:
        return self.sign.exists() or MODULE in sys.modules

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, this object touches the file when it is loaded."""
        return Path.touch, (self.sign,)

    @property
    def pickled_system_call(self) -> bytes:
        class Call:
            def __init__(self, sign: Path) -> None:
                self.sign = sign

            def __reduce__(self) -> tuple[Any, ...]:
                import os

                return os.system, (f"touch {self.sign}",)

        return pickle.dumps(Call(self.sign))


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return Trap(folder)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Path:
    """A run that ended early, so that it can be resumed."""
    root = tmp_path_factory.mktemp("honest")
    folder = finish(*small_flags(idx_folder, root), "--trainer.max_epochs=1", "--run_name=x")
    (folder / "metrics.json").unlink()
    return folder


@pytest.fixture
def run_folder(honest: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "idx" / "x"
    shutil.copytree(honest, folder)
    return folder


def evaluate_it(folder: Path) -> None:
    _ = restore(folder).datamodule.data


def resume_it(folder: Path) -> None:
    train(
        build_run(parse_settings(["--resume", str(folder), "--trainer.max_epochs=2", "--trainer.log_every_n_steps=2"]))
    )


USES: list[Callable[[Path], None]] = [evaluate_it, resume_it]


def test_the_trap_works(trap: Trap, tmp_path: Path) -> None:
    """Loaded carelessly, each kind of file would spring it."""
    torch.save({"x": trap}, tmp_path / "x.ckpt")
    careless: list[Callable[[], object]] = [
        lambda: pickle.loads(trap.pickled_system_call),  # noqa: S301
        lambda: torch.load(tmp_path / "x.ckpt", weights_only=False),
        lambda: yaml.unsafe_load(f"!!python/object/apply:os.system ['touch {trap.sign}']"),
    ]
    for load in careless:
        load()
        assert trap.sign.exists()
        trap.sign.unlink()


def test_what_you_type_is_trusted(trap: Trap, small_run: list[str]) -> None:
    """A class named on the command line is imported: that the same name in a run folder is not, is no accident."""
    build_run(parse_settings([*small_run, f"--trainer.callbacks+={MODULE}.Thing"]))
    assert trap.sprung


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize("kind", ["bare pickle", "object in the state", "pickle inside an archive", "legacy tar"])
def test_hostile_checkpoint(run_folder: Path, trap: Trap, use: Callable[[Path], None], kind: str) -> None:
    good = torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True)
    for path in (run_folder / "checkpoints").glob("*.ckpt"):
        path.unlink()
        if kind == "bare pickle":
            path.write_bytes(trap.pickled_system_call)
        elif kind == "object in the state":
            torch.save(good | {"state_dict": good["state_dict"] | {"x": trap}}, path)
        elif kind == "legacy tar":
            torch.save(good | {"callbacks": trap}, path, _use_new_zipfile_serialization=False)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", trap.pickled_system_call)
                archive.writestr("archive/version", "3\n")
    with pytest.raises(InputError, match=r"\.ckpt"):
        use(run_folder)
    assert not trap.sprung


def _class(**arguments: Any) -> dict[str, Any]:
    return {"class_path": f"{MODULE}.Thing", "init_args": arguments}


HOSTILE_SETTINGS: dict[str, Any] = {
    "trainer.callbacks": [_class()],
    "trainer.plugins": _class(),
    "trainer.logger": [_class()],
    "trainer.strategy": _class(),
    "trainer.accelerator": _class(),
    "trainer.profiler": f"{MODULE}.Thing",
    "trainer.default_root_dir": _class(),
    "trainer.precision": [f"{MODULE}.Thing"],
    "model.class_path": f"{MODULE}.Thing",
    "model.optimizer": f"{MODULE}.Thing",
    "model.activation": _class(),
    "model.loss": f"!!python/name:{MODULE}.Thing",
    "data.class_path": f"{MODULE}.Thing",
    "data.augmentation": [f"{MODULE}.Thing"],
    "data.normalization": _class(),
    "monitor": f"{MODULE}.Thing",
    "seed_everything": _class(),
    "unheard_of": _class(),
}


@pytest.mark.parametrize("name", HOSTILE_SETTINGS)
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_hostile_settings(run_folder: Path, trap: Trap, use: Callable[[Path], None], name: str) -> None:
    """Refused, or without effect; in no case imported."""
    settings = yaml.safe_load((run_folder / "config.yaml").read_text())
    section, _, key = name.rpartition(".")
    (settings[section] if section else settings)[key] = HOSTILE_SETTINGS[name]
    (run_folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with contextlib.suppress(InputError):
        use(run_folder)
    assert not trap.sprung


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {sign}']",
        "model: !!python/object/apply:pathlib.Path.touch [{sign}]",
        "trainer: !!python/module:planted_by_a_stranger\n",
        "model: config.yaml\ntrainer: /etc/passwd\n",
        "trainer:\n  callbacks: planted_by_a_stranger.Thing\n",
    ],
)
def test_hostile_yaml(run_folder: Path, trap: Trap, use: Callable[[Path], None], text: str) -> None:
    (run_folder / "config.yaml").write_text(text.format(sign=trap.sign))
    with pytest.raises(InputError):
        use(run_folder)
    assert not trap.sprung


HOSTILE_DATA: dict[str, Callable[[bytes], bytes]] = {
    "a web page": lambda content: b"<html>not found</html>",
    "a pickle": lambda content: pickle.dumps(print),
    "sizes of petabytes": lambda content: content[:4] + b"\xff" * 12 + content[16:],
    "cut off": lambda content: content[:-1],
    "bytes at the end": lambda content: content + b"0",
    "one flipped bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "empty": lambda content: b"",
}


# data of honest form may be scored; to resume, they must be those of the run
@pytest.mark.parametrize(
    ("use", "kind"),
    [(use, kind) for use in USES for kind in HOSTILE_DATA if use is resume_it or kind != "one flipped bit"],
    ids=lambda part: getattr(part, "__name__", part),
)
def test_hostile_data(
    run_folder: Path, tmp_path: Path, idx_folder: Path, use: Callable[[Path], None], kind: str
) -> None:
    """IDX files in the place of those that the run was trained with."""
    data = tmp_path / "data"
    shutil.copytree(idx_folder, data)
    images = data / "train-images-idx3-ubyte"
    images.write_bytes(HOSTILE_DATA[kind](images.read_bytes()))
    settings = yaml.safe_load((run_folder / "config.yaml").read_text())
    settings["data"]["root"] = str(data)
    (run_folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(InputError):
        use(run_folder)


@pytest.mark.parametrize("name", ["metrics.json", "provenance.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b'{"status": {"a": 1}}'])
def test_damaged_json(run_folder: Path, name: str, content: bytes) -> None:
    """Refused, or without effect; nothing but the project's own error."""
    (run_folder / name).write_bytes(content)
    with contextlib.suppress(InputError):
        resume_it(run_folder)


def test_a_checkpoint_names_no_other_file(run_folder: Path, tmp_path: Path) -> None:
    """The best epoch is read from the run folder, whatever path a checkpoint holds."""
    elsewhere = tmp_path / "elsewhere.ckpt"
    for path in (run_folder / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content["callbacks"]["RunCheckpoint"]["best_model_path"] = str(elsewhere)
        torch.save(content, path)
    resume_it(run_folder)
    assert (run_folder / "metrics.json").is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"global_step": "many"},
        {"history": None},
        {"loops": {}},
        {"callbacks": []},
        {"optimizer_states": [{}]},
        {"state_dict": {"network.output.weight": torch.zeros(2)}},
        {"epoch_sums": "none"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_plain_but_senseless_checkpoint(run_folder: Path, change: dict[str, Any]) -> None:
    for path in (run_folder / "checkpoints").glob("*.ckpt"):
        torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(InputError):
        resume_it(run_folder)


def test_every_load_is_of_plain_data() -> None:
    """In the whole program: torch.load with weights_only=True, yaml.safe_load, and no pickle."""
    paths = [*(ROOT / "project").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    assert len(paths) >= 80
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"} & set(names), path
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called == "torch.load":
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"
            assert called not in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"), f"{path}:{node.lineno}"
            if called in ("np.load", "numpy.load"):
                assert keywords.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
            if (
                called in ("trainer.fit", "trainer.test", "trainer.validate", "trainer.predict")
                and "ckpt_path" in keywords
            ):
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"
