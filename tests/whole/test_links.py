"""No link in a stranger's folder leads anything out of it: not what is read, and not what is written.

The names are those that a run with an export and a study really leave: each in turn becomes a link to a place outside.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from finished import call, finish, small_flags, stop

from project.errors import InputError
from project.inside import check_contained, open_inside
from project.runs.build import build_run
from project.runs.parser import parse_settings
from project.runs.saving import run_folder as folders
from project.runs.train import train
from project.serving.export.export import export
from project.serving.restore import restore

STUDY = """
question: Is there a difference?
base: {{data.dataset: idx, data.root: {root}, data.num_validation: 40, data.batch_size: 32, model.width: 4,
  trainer.max_epochs: 1, trainer.accelerator: cpu}}
arms: {{a: {{}}, b: {{model.width: 5}}}}
seeds: 1
"""
opened: list[str] | None = None


def note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    """Note the files that are opened by their paths: `open_inside` first says the name, and then opens otherwise."""
    if opened is None or event != "open" or sys._getframe(1).f_code is open_inside.__code__:
        return
    if isinstance(arguments[0], str) and not (arguments[2] or 0) & getattr(os, "O_NOFOLLOW", 0):
        opened.append(os.path.realpath(arguments[0]))


sys.addaudithook(note_opened)


@contextmanager
def nothing_leaves(outside: Path) -> Iterator[None]:
    """Nothing outside is opened, changed, made or removed meanwhile."""
    global opened
    before = content_of(outside)
    opened = []
    try:
        yield
    finally:
        found, opened = opened, None
    assert content_of(outside) == before
    assert not [path for path in found if Path(path).is_relative_to(outside.resolve()) and Path(path).is_file()]


def content_of(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def names_in(folder: Path) -> list[str]:
    """All files and folders, and the unfinished file of each file."""
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        names += [name] if path.is_dir() or name.endswith(".part") else [name, f"{name}.part"]
    return names


def plant(folder: Path, name: str, outside: Path) -> None:
    """Move what has this name outside, and put a link to it in its place; where nothing has it, a file of its own."""
    outside.mkdir()
    path, target = folder / name, outside / "it"
    if path.exists():
        shutil.move(path, target)
    else:
        target.write_bytes(b"precious")
    path.symlink_to(target.resolve())


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Path:
    """A run that was stopped in its second epoch, with an export."""
    flags = [*small_flags(idx_folder, tmp_path_factory.mktemp("links")), "--model.width=4", "--run_name=x"]
    folder = stop([*flags, "--trainer.accelerator=cpu", "--checkpoint_every_n_steps=2"], 9)
    export(restore(folder), "torch_export")
    return folder


@pytest.fixture(scope="module")
def names(unfinished: Path, idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every name that a run leaves, when it is resumed and finished too."""
    root = tmp_path_factory.mktemp("whole")
    folder = finish(*small_flags(idx_folder, root), "--model.width=4", "--run_name=x", "--trainer.profiler=simple")
    found = dict.fromkeys([*names_in(unfinished), *names_in(folder)])
    return [name for name in found if "events.out.tfevents" not in name or not name.endswith(".part")]


def resume_it(folder: Path) -> None:
    train(build_run(parse_settings(["--resume", str(folder)])))


def serve_it(folder: Path) -> None:
    run = restore(folder)
    _ = run.metrics
    export(run, "torch_export", overwrite=True)


def is_known(name: str) -> bool:
    """Whether the project itself opens a file of this name, and no library."""
    return "tfevents" not in name and not name.startswith("hparams.yaml")


@pytest.mark.parametrize("use", [resume_it, serve_it], ids=lambda use: use.__name__)
@pytest.mark.parametrize("trusting", [False, True], ids=["checked", "unchecked"])
def test_no_link_in_a_run_folder_is_followed(
    unfinished: Path,
    names: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[Path], None],
    trusting: bool,
) -> None:
    """Both by the check of the whole folder, and by each single opening, without that check."""
    if trusting:
        monkeypatch.setattr(folders, "check_contained", lambda _: None)
        monkeypatch.setattr("project.serving.export.export.check_contained", lambda _: None)
    assert len(names) > 25
    refused = []
    for number, name in enumerate(names):
        if trusting and not (is_known(name) and (use is resume_it or not name.startswith("export"))):
            continue
        folder, outside = tmp_path / str(number) / "idx" / "x", tmp_path / f"outside{number}"
        shutil.copytree(unfinished, folder)
        (folder / name).parent.mkdir(exist_ok=True)
        plant(folder, name, outside)
        with nothing_leaves(outside):
            try:
                use(folder)
            except InputError as error:
                refused += [name] if "link" in error.cause else [f"{name}: {error.cause}"]
    assert {"config.yaml", "provenance.json", "checkpoints"} <= set(refused) <= set(names)
    assert trusting or use is serve_it or set(refused) == set(names)


def test_what_has_a_second_name_outside_is_not_changed(unfinished: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "idx" / "x", tmp_path / "outside"
    shutil.copytree(unfinished, folder)
    shutil.copytree(folder, outside, copy_function=os.link)
    with nothing_leaves(outside):
        with pytest.raises(InputError, match=r"train\.log.*hard link"):  # alone it is appended to
            resume_it(folder)
        (folder / "train.log").unlink()
        resume_it(folder)
        serve_it(folder)


@pytest.mark.slow
def test_no_link_in_a_study_is_followed(
    idx_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study with all its results, so that nothing has to run; each name of its folder in turn is a link."""
    (tmp_path / "s.yaml").write_text(STUDY.format(root=idx_folder))
    assert call(capsys, "study", tmp_path / "s.yaml", "--root", tmp_path / "good").status == 0
    good = tmp_path / "good" / "s"
    names = [name for name in names_in(good) if "/checkpoints" not in name]
    assert {"report", "report/report.html", "results", "study.lock", "study.yaml", "claims.json"} <= set(names)
    for number, name in enumerate(names):
        folder, outside = tmp_path / f"studies{number}" / "s", tmp_path / f"outside{number}"
        shutil.copytree(good, folder)
        plant(folder, name, outside)
        for words in (["study", tmp_path / "s.yaml", "--root", folder.parent], ["report", folder]):
            with nothing_leaves(outside):
                said = call(capsys, *words)
                replaced = not (folder / name).is_symlink()  # what is written anew takes the link's place
                assert said.status == 2 or replaced, (name, said)
                assert "Traceback" not in said.err


def test_what_is_typed_may_be_a_link(unfinished: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(unfinished)
    assert restore(tmp_path / "link").folder == tmp_path / "link"


def test_a_link_that_stays_inside_is_the_libraries_matter(tmp_path: Path) -> None:
    (tmp_path / "wandb" / "run").mkdir(parents=True)
    (tmp_path / "wandb" / "latest").symlink_to("run")
    check_contained(tmp_path)
    (tmp_path / "wandb" / "other").symlink_to("../..")
    with pytest.raises(InputError):
        check_contained(tmp_path)


@pytest.mark.parametrize("old_system", [False, True])
def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old_system: bool) -> None:
    """Also where the system opens nothing relative to a folder, as on Windows."""
    if old_system:
        monkeypatch.setattr(os, "supports_dir_fd", set())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "file").symlink_to(tmp_path / "elsewhere" / "a")
    (folder / "group").symlink_to(tmp_path / "elsewhere")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("file", "group/a", "group/b", "gone"):
        for mode in ("rb", "ab", "wb") if name != "group/a" else ("rb", "ab", "wb", "xb"):
            with pytest.raises(InputError, match="is a link"):
                open_inside(folder, name, mode)
    for name in ("../elsewhere/a", str(tmp_path / "elsewhere" / "a"), "group/../group/a"):
        with pytest.raises(InputError):
            open_inside(folder, name)
    with open_inside(folder, "file", "xb") as file:  # a new file in the link's place
        file.write(b"new")
    assert (folder / "file").read_text() == "new"
    with open_inside(folder, "new/group/a", "xb") as file:
        file.write(b"new")
    assert content_of(tmp_path / "elsewhere") == {"a": b"precious"}
    with pytest.raises(FileNotFoundError) as missing:
        open_inside(folder, "missing")
    assert missing.value.filename == str(folder / "missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """It would be waited for without end."""
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(InputError):
        open_inside(tmp_path, "config.yaml")
    with suppress(InputError, OSError):
        open_inside(tmp_path, "config.yaml", "ab")
