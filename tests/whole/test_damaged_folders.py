"""Thousands of damaged run folders and studies, read by everything that reads them.

Each mutation changes one file, in its bytes or in one of its values; then every script's reading functions get the
folder. They read it, or refuse it with an error of the project's own: no other exception, no hang, no memory without
bound. The mutations are drawn from fixed seeds.
"""

import copy
import io
import json
import random
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from finished import finish, small_flags, stop
from optuna.trial import TrialState

from project.diagnosis.tensorboard.tabs import provenance_markdown
from project.errors import InputError, RunError
from project.pages import terminal
from project.plain_data import parse_json
from project.runs.parser import full_parser, run_parser, settings_of
from project.runs.saving.resumption import check_same_data, find_resumption, plain_settings, resumed_settings
from project.runs.tables import confusion_table, results_table
from project.serving.demo.app import Contender
from project.serving.evaluation import scored_metrics
from project.serving.export.export import _describe
from project.serving.export.model_card import Check, model_card
from project.serving.restore import RestoredRun, restore
from project.settings import flatten
from project.studies.explain.candidates import candidates
from project.studies.read_study import read_study, stored_study
from project.studies.reporting.report import make_report
from project.studies.reporting.run_comparison import compare_runs
from project.studies.reporting.write import print_report, to_csv, to_html, to_markdown
from project.studies.running import search
from project.studies.running.checks import check_settings
from project.studies.running.engine import study_records
from project.studies.running.kept import freeze, write_result
from project.studies.running.plan import Plan
from project.studies.running.search import best_of
from project.studies.study import Study
from project.training.internals import quieten_lightning

NUM_MUTATIONS = 720
"""Of each of the seven files; a part of them is always tried, the rest in the slow tests."""
MAX_SECONDS = 10.0
MAX_MEMORY_BYTES = 200 * 2**20
NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 256, 10**6, 2**31, 2**63, 10**12, 10**22, 10**29, -(10**18),
    0.0, -0.5, 1e-300, 1e300, float("nan"), float("inf"), "", " ", "x", "auto", "1:30", "null", "\x1b[31m\n", "../x",
    "[red]", "x" * 5000, [], [[]], [None], [[0], [1, 2]], {}, {"": {}}, {"x": {"y": [1]}}, "completed",
    "nan", "$\\frac{$",
]  # fmt: skip


def reports(study: Study, records: Any) -> None:
    report = make_report(study, records)
    to_markdown(report)
    to_html(report, {})
    to_csv(report)
    print_report(report, terminal(file=io.StringIO()))


def read_settings(folder: Path) -> None:
    run_parser().read(["--config", str(folder / "config.yaml")])


def read_to_serve(folder: Path) -> None:
    for path in (folder, folder / "checkpoints" / "last.ckpt"):
        use_restored(restore(path))


def use_restored(run: RestoredRun) -> None:
    repr(run)
    run.predict(torch.zeros(1, *run.module.spec.shape))
    Contender(run, "x").description  # noqa: B018
    console, metrics = terminal(file=io.StringIO()), scored_metrics(run)
    console.print(results_table(metrics))
    if "test/confusion_matrix" in metrics:
        console.print(confusion_table(metrics, "test"))
    metadata = _describe(run, "torch_export", "float32")
    _ = run.datamodule.data
    model_card(run, "model.pt2", "torch_export", metadata, Check(0.0, 1, 1, "test", (1,)))


def read_to_resume(folder: Path) -> None:
    given = full_parser().parse_args(["--resume", str(folder), "--trainer.max_epochs=9"], defaults=False)
    resumed_settings(full_parser(), find_resumption(folder), given)
    check_same_data(folder, restore(folder).datamodule)


def read_to_diagnose(folder: Path) -> None:
    settings = settings_of(plain_settings(folder / "config.yaml")[0])
    remedies = [finding["remedy"] for finding in restore(folder).metrics.get("findings", [])]
    candidates(flatten(settings.as_dict()), remedies, 10)


def read_to_compare(folder: Path) -> None:
    reports(*compare_runs([folder, folder.with_name("other")], "test/accuracy"))
    path = folder / "provenance.json"
    provenance_markdown(parse_json(path.read_text(encoding="utf-8")))


def read_a_study(folder: Path) -> None:
    check_settings(read_study(folder / "study.yaml"))
    reports(*study_records(stored_study(folder), folder))


def read_a_search(folder: Path) -> None:
    study = stored_study(folder)
    if (found := best_of(study, folder)) is not None:
        check_settings(replace(study, search=None, arms={"best": found}))
    read_a_study(folder)


RUN_READERS = (read_settings, read_to_serve, read_to_resume, read_to_diagnose, read_to_compare)
"""The readers of train --config; evaluate, predict, export and demo; train --resume; diagnose; report."""
READERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    "config.yaml": RUN_READERS,
    "metrics.json": RUN_READERS[1:],
    "provenance.json": RUN_READERS[1:],
    "checkpoints/last.ckpt": RUN_READERS[1:],
    "study.yaml": (read_a_study,),
    "claims.json": (read_a_study,),
    "results/RESULT.json": (read_a_study,),
    "search.journal": (read_a_search,),
}


def in_bytes(content: bytes, draw: random.Random) -> bytes:
    """Change a few bytes, cut, repeat or insert some."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5))):
        position, length = draw.randrange(len(data) + 1), draw.choice((1, 1, 2, 7, 60))
        match draw.randrange(7):
            case 0 if data:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            case 1:
                del data[position:]
            case 2:
                data[position:position] = draw.randbytes(length)
            case 3:
                del data[position : position + length]
            case 4:
                data[position:position] = data[: draw.randrange(len(data) + 1)]
            case 5:
                deep = [b"[" * 9000, b"{a: " * 9000, b"9" * 9000]
                word = draw.choice([*deep, b"&a [*a]", b"*a", b"!!int x", b"\0", b"~"])
                data[position:position] = word
            case 6:
                data[position:position] = draw.choice([b":", b",", b"\n", b"- ", b"]", b"}", b'"', b"'", b"#", b"\t"])
    return bytes(data)


def in_values(content: Any, draw: random.Random) -> Any:
    """Change one value somewhere in plain data, remove it, or give it another name."""
    content = copy.deepcopy(content)
    places: list[tuple[Any, Any]] = []
    level = [content]
    while level:
        part = level.pop()
        for key in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
            places.append((part, key))
            level.append(part[key])
    for _ in range(draw.choice((1, 1, 1, 3))):
        place, key = draw.choice(places)
        if isinstance(place, list) and key >= len(place):
            continue
        match draw.randrange(6):
            case 0:
                place.pop(key, None) if isinstance(place, dict) else place.pop(key)
            case 1 if isinstance(place, dict):
                place[draw.choice(["x", "", None, 3, "*", "model.depth"])] = place.pop(key, None)
            case 2:
                other, name = draw.choice(places)
                with_it = other.get(name) if isinstance(other, dict) else other[name] if name < len(other) else None
                place[key] = copy.deepcopy(with_it)
            case _:
                place[key] = copy.deepcopy(draw.choice(NASTY))
    return content


def mutated(path: Path, content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.4:
        return in_bytes(content, draw)
    if path.suffix == ".yaml":
        return yaml.safe_dump(in_values(yaml.safe_load(content), draw), sort_keys=False).encode()
    if path.suffix == ".journal":  # a line of JSON for each event
        lines = in_values([json.loads(line) for line in content.splitlines()], draw)
        return "".join(json.dumps(line) + "\n" for line in lines).encode()
    if path.suffix == ".json":
        return json.dumps(in_values(json.loads(content), draw)).encode()
    changed = in_values(torch.load(io.BytesIO(content), weights_only=True), draw)
    if draw.random() < 0.3:
        state = changed.get("state_dict")
        if isinstance(state, dict) and state:
            tensors = [
                torch.tensor(1.0), torch.zeros(0), torch.zeros(1).expand(10**9), torch.full((4,), float("nan")),
                torch.zeros(3, dtype=torch.int64), torch.zeros(2, 2).to_sparse(), torch.zeros(2, device="meta"),
            ]  # fmt: skip
            state[draw.choice(list(state))] = draw.choice(tensors)
    packed = io.BytesIO()
    torch.save(changed, packed)
    return packed.getvalue()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, idx_folder: Path) -> Path:
    """`run`, which was stopped, `other`, and `study`."""
    root = tmp_path_factory.mktemp("damaged")
    flags = [*small_flags(idx_folder, root), "--model.width=4", "--trainer.accelerator=cpu", "--model.norm=none"]
    finish(*flags, "--run_name=other", "--seed_everything=1")
    run = finish(*flags, "--run_name=run")
    stopped = stop([*flags, "--run_name=stopped"], 8)
    shutil.copy(stopped / "checkpoints" / "last.ckpt", run / "checkpoints" / "last.ckpt")
    home = root / "home"
    for name in ("run", "other"):
        shutil.copytree(root / "idx" / name, home / name)
    make_study(
        home / "study",
        "base: {model.depth: 1}\nvary: {model.width: [4, 8]}\n"
        "expect: [width=8 > width=4 by 0.01]\nnotes: [N1]\nlesson: Wider is better.\n",
    )
    make_study(
        home / "search",
        "search:\n  trials: 4\n"
        "  settings: {model.width: [4, 8], model.learning_rate: {low: 0.001, high: 0.1, log: true}}\n",
    )
    return home


def make_study(folder: Path, content: str) -> None:
    """A study with all its results, made up, after its search if it has one."""
    folder.mkdir()
    folder.with_suffix(".yaml").write_text(f"question: Why?\nseeds: 4\n{content}")
    study = read_study(folder.with_suffix(".yaml"))
    freeze(study, folder)
    if study.search is not None:
        trials = search._open(study, folder)
        for number in range(study.search.trials):
            trial = search._ask(trials, study.search)
            trial.report(0.5, 1)
            trials.tell(trial, number / 10) if number else trials.tell(trial, state=TrialState.PRUNED)
    origin: dict[str, Any] = {
        "commit": "c", "extensions": {}, "uncommitted change": None, "versions": {"torch": "2"}, "processor": "p",
        "gpus": [], "data": {"train": "1"}, "split": {"test": "2"},
    }  # fmt: skip
    for number, cell in enumerate(Plan(study, best_of(study, folder)).due()):
        metrics = {"test/accuracy": 0.5 + 0.01 * number, "train_seconds": 1.0, "parameters": 9.0, "seconds": 2.0}
        history = [{"epoch": 0.0, "steps": 3.0, "train/loss": 1.0, "validation/loss": 1.0}]
        found = {"metrics": metrics, "history": history, "num_classes": 3, "origin": origin, "correct": "f0"}
        write_result(folder, cell, {**found, "num_test": 4, "layers": {"start": [], "end": []}})


def damaged(folders: Path, name: str, seeds: range, tmp_path: Path) -> tuple[int, int]:
    """Read so many damaged folders. Returns how many readings there were, and how many were refused."""
    home = tmp_path / "home"
    shutil.copytree(folders, home)
    folder = home / ("run" if name in RUN_FILES else "search" if name == "search.journal" else "study")
    path = next(folder.glob(name.replace("RESULT", "*").replace("search.", "search-*.")))
    good = path.read_bytes()
    quieten_lightning()
    for reader in READERS[name]:
        reader(folder)  # what is whole is read
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    readings = refused = 0
    for seed in seeds:
        path.write_bytes(mutated(path, good, random.Random(f"{name} {seed}")))  # noqa: S311
        for reader in READERS[name]:
            readings, started = readings + 1, time.monotonic()
            try:
                reader(folder)
            except (InputError, RunError):
                refused += 1
            except BaseException as error:
                raise AssertionError(f"mutation {seed} of {name}, {reader.__name__}: {error!r}") from error
            assert time.monotonic() - started < MAX_SECONDS, (name, seed, reader.__name__)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    assert grown < MAX_MEMORY_BYTES
    return readings, refused


RUN_FILES = ("config.yaml", "metrics.json", "provenance.json", "checkpoints/last.ckpt")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused(folders: Path, name: str, tmp_path: Path) -> None:
    readings, refused = damaged(folders, name, range(NUM_MUTATIONS // 24), tmp_path)
    assert 0 < refused < readings


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(folders: Path, name: str, tmp_path: Path) -> None:
    assert NUM_MUTATIONS * len(READERS) >= 5000
    readings, refused = damaged(folders, name, range(NUM_MUTATIONS // 24, NUM_MUTATIONS), tmp_path)
    assert 0 < refused < readings
