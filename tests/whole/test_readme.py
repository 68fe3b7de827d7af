"""Every command in the README and the docs does what it says: run here with less data and fewer epochs."""

import importlib.util
import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, make_picture_folder
from PIL import Image

import project
from project.studies.read_study import read_study

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHORT = [
    "--data.num_train=1024",
    "--data.num_validation=256",
    "--trainer.max_epochs=1",
    "--trainer.log_every_n_steps=2",
    "--trainer.accelerator=cpu",
]
"""What makes a training run take a second."""


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) for every line of a bash block and every `python scripts/…` in running text, each once."""
    seen = set()
    for page in PAGES:
        if page.name == "adapt.md":  # its commands need its files: tests/whole/test_adapt.py has both
            continue
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        lines = [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        inline = re.findall(
            r"`((?:python|make|tensorboard|torchrun) [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        )
        for command in itertools.chain(lines, inline):
            if command and not command.startswith("#") and command not in seen:
                seen.add(command)
                yield page.name, command


def is_training(command: str) -> bool:
    return command.startswith("python scripts/train.py")


ALL = list(commands())
TRAINING = [command for _, command in ALL if is_training(command)]
OTHERS = [command for _, command in ALL if not is_training(command)]


def run_script(command: str, monkeypatch: pytest.MonkeyPatch, extra: list[str]) -> int:
    """Run `python scripts/NAME.py …` in this process and return its exit status."""
    words = shlex.split(command)[1:]
    monkeypatch.setattr(sys, "argv", words + extra)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    return int(leaving.value.code or 0)


def short_flags(words: list[str], real_data: Path, idx_folder: Path, folder: Path) -> list[str]:
    extra = [*SHORT, f"--run_root={folder}", f"--data.root={idx_folder if 'idx' in words else real_data}"]
    if "idx" in words:
        extra = [flag for flag in extra if "num_" not in flag] + ["--data.num_validation=40", "--data.batch_size=32"]
    if "folder" in words:
        extra = [flag for flag in extra if "num_" not in flag] + ["--data.batch_size=8"]
        extra += [f"--data.root={make_picture_folder(folder / 'photographs', 60)}"]
    if "--explain" in words:
        extra += ["--explain_seconds=10"]
    if "5000" in words:
        extra = [flag for flag in extra if "num_train" not in flag]
    return extra


@pytest.mark.filterwarnings("ignore:.*noload.*")  # MLflow's database and the newest SQLAlchemy
@pytest.mark.parametrize("command", TRAINING)
def test_training_commands(
    command: str,
    real_data: Path,
    idx_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    words = shlex.split(command)
    if re.search(r"(?<!fashion_)mnist", command):
        real_data = request.getfixturevalue("real_mnist")
    if "--resume" in words:
        pytest.skip("a run to resume: tests/runs/saving/test_resumption.py does this")
    if "--help" in words:
        extra: list[str] = []
    else:
        extra = short_flags(words, real_data, idx_folder, tmp_path)
    for package in ("mlflow", "wandb"):
        if f"configs/logger/{package}.yaml" in words:
            pytest.importorskip(package)
            monkeypatch.setenv("WANDB_MODE", "offline")
    if "--trainer.devices" in words and words[words.index("--trainer.devices") + 1] != "1":
        pytest.skip("several processes: tests/whole/test_distributed.py runs this")
    assert run_script(command, monkeypatch, extra) == 0


def test_the_notebooks_example(idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    data = {"dataset": "idx", "root": str(idx_folder), "num_validation": 40, "batch_size": 32}
    more = {"trainer": {"max_epochs": 2, "accelerator": "cpu", "log_every_n_steps": 2}, "data": data}
    names: dict[str, Any] = {}
    exec(code.replace('"trainer": {"max_epochs": 2}', f"**{more | {'run_root': str(tmp_path)}!r}"), names)  # noqa: S102
    metrics, run = names["metrics"], project.load_run(names["run"].folder)
    assert (run.module.settings.depth, metrics["epochs"], run.metrics) == (3, 2, metrics)
    assert str(metrics["test/accuracy"]) in capsys.readouterr().out


def quick_run(name: str, real_data: Path, folder: Path, *flags: str) -> Path:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("MLP_RUN_FOLDER", raising=False)
        extra = [*SHORT, f"--data.root={real_data}", f"--run_root={folder}", f"--run_name={name}", *flags]
        assert run_script("python scripts/train.py", monkeypatch, extra) == 0
    return folder / "fashion_mnist" / name


@pytest.fixture(scope="module")
def finished_run(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_run("NAME", real_data, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's own study file, with less to do."""
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    study = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    study["base"] |= {"data.num_train": 512, "data.num_validation": 128, "trainer.max_epochs": 1}
    study["seeds"] = 2
    path = tmp_path_factory.mktemp("study") / "dropout.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.fixture(scope="module")
def finished_study(small_study: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("MLP_RUN_FOLDER", raising=False)
        command = f"python scripts/study.py {small_study}"
        assert run_script(command, monkeypatch, [f"--root={root}", f"--data_root={real_data}"]) == 0
    return root / "dropout"


STUDIES = [command for command in OTHERS if re.search(r"scripts/(study|report)\.py", command)]


@pytest.mark.parametrize("command", STUDIES)
def test_study_commands(
    command: str,
    small_study: Path,
    finished_study: Path,
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "--scheduler" in command:
        pytest.skip("needs a cluster: tests/studies/running/test_engine.py starts one")
    lesson = re.fullmatch(r"python scripts/study\.py (configs/(?:studies|notes)/\S+)(?: --workers 2)?", command)
    if lesson:  # up to minutes each; that study.py runs a study, the other commands show
        assert read_study(ROOT / lesson[1]).claims
        return
    if "study.py" in command:
        command = re.sub(r"\S+\.yaml", str(small_study), command).replace("--workers 4", "--workers 2")
        assert run_script(command, monkeypatch, [f"--root={tmp_path}", f"--data_root={real_data}"]) == 0
        return
    if "FIRST" in command:
        for name, flags in (("FIRST", ()), ("SECOND", ("--model.dropout=0",))):
            command = command.replace(f"runs/fashion_mnist/{name}", str(quick_run(name, real_data, tmp_path, *flags)))
    command = command.replace("runs/studies/NAME", str(finished_study))
    assert run_script(command, monkeypatch, [f"--out={tmp_path / 'report'}"]) == 0
    assert (tmp_path / "report" / "report.html").is_file()


NOTES = [command for command in STUDIES if "configs/notes/" in command]


def test_each_row_of_the_notes_has_its_study() -> None:
    files = {f"configs/notes/{path.name}" for path in (ROOT / "configs" / "notes").glob("*.yaml")}
    assert {command.split()[2] for command in NOTES} == files


@pytest.mark.slow
@pytest.mark.parametrize("command", NOTES)
def test_a_row_of_the_notes_is_seen_by_its_command(
    command: str, real_data: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if read_study(ROOT / command.split()[2]).base.get("data.dataset") == "mnist":
        real_data = request.getfixturevalue("real_mnist")
    monkeypatch.delenv("MLP_RUN_FOLDER", raising=False)
    assert run_script(command, monkeypatch, [f"--root={tmp_path}", f"--data_root={real_data}"]) == 0
    report = tmp_path / Path(command.split()[2]).stem / "report"
    assert (report / "results.png").is_file()
    # the claims are so coarse that they hold with any machine's arithmetic
    assert "supported" in (report / "report.md").read_text()


@pytest.mark.parametrize("command", [command for command in OTHERS if command not in STUDIES])
def test_other_commands(
    command: str, finished_run: Path, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = command.replace("runs/fashion_mnist/NAME", str(finished_run))
    if "predict.py" in command:
        photos = tmp_path / "photos"
        photos.mkdir()
        Image.new("L", (28, 28)).save(photos / "shoe.png")
        command = command.replace("--figure seen.png", f"--figure {tmp_path / 'seen.png'}")
        command = re.sub(r"\bphotos\b", str(photos), command).replace(" shoe.png", f" {photos / 'shoe.png'}")
    words = shlex.split(command)
    match words[:2]:
        case ["python", "scripts/demo.py"]:
            assert (ROOT / words[1]).is_file()  # that it serves its page, test_app.py shows
        case ["python", script] if script.startswith("scripts/"):
            extra = [f"--figure={tmp_path / 'd.png'}", "--explain_seconds=10"] if "diagnose" in script else []
            extra += [f"--data.root={real_data}"] if extra and str(finished_run) not in words else []
            extra += [f"--output={tmp_path}"] if "export" in script else []
            assert run_script(command, monkeypatch, extra) == 0
        case ["make", *_]:
            result = subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
        case ["pip", "install"] | ["uv", "pip"]:
            assert (ROOT / "constraints.txt").is_file()
            assert (ROOT / "setup.cfg").is_file()
        case ["uv", "venv"]:
            assert len(words) == 2
        case ["uv", "run"]:
            assert words[2] == "--no-sync"  # else uv would resolve the versions anew, without constraints.txt
            assert (ROOT / words[3]).is_file()
        case ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), f"there is no module {words[2]}"
        case [".", path]:
            assert path == ".venv/bin/activate"  # where the Makefile makes it
        case ["tensorboard", _]:
            assert shutil.which("tensorboard", path=str(Path(sys.executable).parent))
        case ["torchrun", *_]:
            # the script and its flags are a training command's; that torchrun runs it, test_distributed.py shows
            assert "scripts/train.py" in words
            assert (ROOT / "scripts" / "train.py").is_file()
        case _:
            pytest.fail(f"no test knows how to run: {command}")


def test_every_page_is_linked() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = {page.name for page in PAGES for _ in [0] if f"{page.name})" in readme or page == ROOT / "README.md"}
    texts = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [page.name for page in PAGES if page.name not in linked and f"{page.name})" not in texts]
    assert not missing, f"no page links to {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)  # code has brackets too
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
