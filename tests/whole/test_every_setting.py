"""Every setting of every script with twelve kinds of bad value: refused, or accepted because it means something.

docs/bad_input.md has a table of the second kind.
"""

import contextlib
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_values import ACCEPTED, KINDS, SCRIPTS, options, run_settings
from conftest import ROOT, make_idx_folder
from finished import finish, small_flags
from PIL import Image

from project.errors import InputError
from project.runs.build import build_run
from project.runs.parser import parse_settings


class Accepted(Exception):  # noqa: N818 - what a script would then do takes too long
    pass


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, two runs, a picture and a study."""
    folder = tmp_path_factory.mktemp("good")
    flags = [*small_flags(make_idx_folder(folder / "data"), folder / "runs"), "--trainer.max_epochs=1"]
    for seed in (0, 1):
        shutil.move(finish(*flags, f"--seed_everything={seed}"), folder / f"run{seed}")
    Image.new("L", (9, 8), 99).save(folder / "a.png")
    (folder / "study.yaml").write_text(
        f"question: Why?\nbase: {{data.dataset: idx, data.root: {folder / 'data'}}}\nvary: {{model.depth: [1, 2]}}\n"
    )
    return folder


@pytest.fixture
def place(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where one is, which is empty, as what is written there would be found."""
    monkeypatch.chdir(tmp_path)
    return good


def explained(error: InputError) -> None:
    assert error.cause
    assert error.remedy


@pytest.mark.parametrize("name", run_settings())
def test_a_runs_setting(name: str, place: Path) -> None:
    flags = [*small_flags(place / "data", Path("runs")), "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    accepted = set()
    for kind, value in KINDS.items():
        os.environ.pop("MLP_RUN_FOLDER", None)
        try:
            build_run(parse_settings([*flags, f"--{name}={value}"])).unlock()
        except InputError as error:  # anything else would be a traceback
            explained(error)
            assert not list(Path().glob("runs/idx/*")), f"{kind} leaves a folder"
        else:
            accepted.add(kind)
            for made in Path().iterdir():
                shutil.rmtree(made)
    assert accepted == set(ACCEPTED.get(name, ()))


def words(script: str, name: str, value: str, good: Path) -> list[str]:
    """A good command but for one value."""
    run = str(good / "run0")
    usual = {
        "evaluate": {"run": run, "--accelerator": "cpu"},
        "predict": {"run": run, "images": str(good / "a.png")},
        "export": {"run": run, "--to": "safetensors"},
        "demo": {"runs": run, "--port": "0"},
        "study": {"studies": str(good / "study.yaml")},
        "report": {"paths": str(good / "run1")},
        "diagnose": {"--data.dataset": "idx", "--data.root": str(good / "data")},
    }[script] | {name: value}
    first = [run] if script == "report" else []
    return [*first, *(f"{flag}={given}" if flag.startswith("--") else given for flag, given in usual.items())]


@contextlib.contextmanager
def stubs() -> Iterator[None]:
    """What an accepted value would begin, and what takes long or has no end, is left out."""
    import project.diagnosis.before_training as before_training
    import project.serving.demo.app as app
    import project.studies.running.engine as engine
    from project.studies.running.cluster import connect as usual_connect

    def accept(*_: Any, **__: Any) -> None:
        raise Accepted

    @contextlib.contextmanager
    def serving(_: Any, host: str, port: int) -> Iterator[str]:
        app._free_port(host, port)
        yield "an address"

    @contextlib.contextmanager
    def connect(workers: int, scheduler: str, insecure: bool) -> Iterator[None]:
        if scheduler:
            with usual_connect(workers, scheduler, insecure):
                pass
        raise Accepted
        yield

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(before_training, "examine", accept)
        patched.setattr(app, "serving", serving)
        patched.setattr(app, "wait", lambda: None)
        patched.setattr(engine, "connect", connect)
        yield


@pytest.mark.parametrize(
    ("script", "name"),
    [*((script, name) for script in SCRIPTS for name in options(script)), ("diagnose", "--figure")],
)
def test_another_scripts_option(
    script: str, name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accepted = set()
    for kind, value in KINDS.items():
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *words(script, name, value, place)])
        with stubs(), pytest.raises((SystemExit, Accepted)) as ended:
            runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
        status = 0 if ended.type is Accepted else ended.value.code  # type: ignore[attr-defined]
        error = capsys.readouterr().err
        assert status in (0, 2), (kind, error)
        if status == 2:
            assert "error: " in error
            assert "\n  fix: " in error
        else:
            accepted.add(kind)
        for made in [*Path().iterdir(), *place.glob("run0/export")]:
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    assert accepted == set(ACCEPTED.get(f"{script}.py {name}", ()))


def test_the_table_names_settings_that_there_are() -> None:
    others = {f"{script}.py {name}" for script in SCRIPTS for name in options(script)} | {"diagnose.py --figure"}
    assert set(ACCEPTED) <= set(run_settings()) | others
    assert (len(run_settings()) + len(others)) * len(KINDS) >= 350
