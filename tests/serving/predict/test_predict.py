"""Predictions from files and from Python: the same as evaluation's, whatever form the pictures come in."""

import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, RealSet, write_idx
from finished import Said, call, finish, small_flags
from PIL import Image

import project
from benchmarks.picture_cases.paper import as_read
from benchmarks.picture_cases.strange import face
from benchmarks.pictures import drawn_digits, seen_by
from project import load_run
from project.data.sources.idx import read_idx
from project.data.sources.load import load_dataset
from project.errors import InputError
from project.serving.evaluation import evaluate
from project.serving.predict import Preparation
from project.serving.predict.picture_reader import PictureBatch, PictureReader, find_files, suitable_threads
from project.serving.predict.predict import Prediction, predict_files
from project.serving.predict.sheet import MAX_SHOWN, Shown, kept, sheet
from project.serving.restore import RestoredRun, restore

TASKS = {
    "multiclass": ["--data.normalization=feature_standardize"],
    "binary": ["--model.task=binary", "--data.classes=[2, 0]"],
    "regression": ["--model.task=regression"],
}


@pytest.fixture(scope="module")
def runs(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each task on the small data set."""
    root = tmp_path_factory.mktemp("runs")
    return {task: finish(*small_flags(idx_folder, root), *flags) for task, flags in TASKS.items()}


@pytest.fixture(scope="module")
def pictures(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data set's 57 test pictures as PNG files."""
    folder = tmp_path_factory.mktemp("pictures") / "png"
    folder.mkdir()
    for number, image in enumerate(read_idx(idx_folder / "t10k-images-idx3-ubyte", (None, None, None)).numpy()):
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The script as a command."""
    return partial(call, capsys, "predict")


def evaluated(run: RestoredRun) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and positions in the test file, by the evaluation's own way."""
    evaluate(run, "test", "cpu")
    assert run.module.evaluated is not None
    return run.module.evaluated[0], run.datamodule.splits["test"]


@pytest.mark.parametrize("task", TASKS)
def test_the_files_predictions_are_evaluations(
    task: str, runs: dict[str, Path], pictures: Path, script: Callable[..., Said]
) -> None:
    outputs, positions = evaluated(load_run(runs[task]))
    files = [pictures / f"{position:02d}.png" for position in positions.tolist()]
    found = script(runs[task], *files, "--format=json").json
    if task == "regression":
        assert [set(one) for one in found] == [{"file", "value", "unlike"}] * len(outputs)
        assert [one["value"] for one in found] == pytest.approx(outputs[:, 0].tolist(), abs=1e-5)
        return
    logits = outputs.double().numpy()
    if task == "binary":  # one output: the second class's log odds
        logits = np.concatenate([np.zeros_like(logits), logits], 1)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names = ["2", "0"] if task == "binary" else ["0", "1", "2"]
    for one, row in zip(found, shares, strict=True):
        assert list(one) == ["file", "class", "name", "probability", "unlike", "top"]
        order = np.argsort(-row).tolist()
        assert [top["class"] for top in one["top"]] == order
        assert [top["name"] for top in one["top"]] == [names[index] for index in order]
        assert [top["probability"] for top in one["top"]] == pytest.approx(row[order].tolist(), abs=1e-6)
        assert {"class": one["class"], "name": one["name"], "probability": one["probability"]} == one["top"][0]


def test_from_python(runs: dict[str, Path], pictures: Path, idx_folder: Path) -> None:
    run = load_run(str(runs["multiclass"]))
    assert run.metrics == json.loads((runs["multiclass"] / "metrics.json").read_text())
    assert run.class_names == ("0", "1", "2")
    assert run.normalization is run.module.normalization
    assert not run.model.training
    images = read_idx(idx_folder / "t10k-images-idx3-ubyte", (None, None, None))
    assert torch.equal(run.read(pictures / "07.png"), images[7])
    assert torch.equal(run.read(str(pictures / "07.png"), "invert"), 255 - images[7])
    logits = run.model(images)
    assert torch.equal(run.model(images.float()), logits)
    assert run.predict(images).numpy() == pytest.approx(torch.softmax(logits.double(), 1).detach().numpy(), abs=1e-6)
    assert torch.allclose(run.predict(images[7]), run.predict(images)[7:8], atol=1e-6)
    assert run.predict(images[:0]).shape == (0, 3)
    many = images.repeat(50, 1, 1)  # more than one forward pass takes
    assert torch.allclose(run.predict(many), run.predict(images).repeat(50, 1), atol=1e-6)
    for wrong in (torch.zeros(28, 28), torch.zeros(2, 9, 8), torch.zeros(1, 1, 8, 9)):
        with pytest.raises(InputError, match=r"\(n, 8, 9\)"):
            run.predict(wrong)


def test_the_pages_example(runs: dict[str, Path], pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = code.replace("runs/fashion_mnist/NAME", str(runs["multiclass"])).replace(
        "shoe.png", str(pictures / "11.png")
    )
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the page's own
    run = names["run"]
    assert names["image"].shape == (8, 9)
    assert names["logits"].requires_grad
    decided = run.class_names[int(run.predict(names["test"].images[11]).argmax())]
    printed = capsys.readouterr().out.splitlines()
    assert printed[1] == decided
    assert float(re.sub(r"[^\d.]", "", printed[-1])) == pytest.approx(run.metrics["test/accuracy"], abs=1e-4)


def test_a_run_without_metrics(runs: dict[str, Path], tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(runs["binary"], moved)
    (moved / "metrics.json").unlink()
    assert restore(moved).metrics == {}


def test_importing_the_package_stays_cheap() -> None:
    code = "import sys, project; print(sorted({'torch', 'numpy', 'pytorch_lightning', 'PIL'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
    assert all(getattr(project, name) for name in project.__all__)
    assert load_run is restore
    with pytest.raises(AttributeError, match="load_runs"):
        _ = project.load_runs


def test_csv(runs: dict[str, Path], pictures: Path, script: Callable[..., Said], tmp_path: Path) -> None:
    awkward = tmp_path / 'a "b", c.png'
    shutil.copy(pictures / "03.png", awkward)
    given = (runs["multiclass"], awkward, pictures / "04.png", "--top=2")
    objects = script(*given, "--format", "json").json
    rows = list(csv.DictReader(script(*given, "--format=csv").out.splitlines()))
    assert list(rows[0]) == ["file", "class", "name", "probability", "class_2", "name_2", "probability_2", "unlike"]
    for row, one in zip(rows, objects, strict=True):
        assert row["file"] == one["file"]
        assert int(row["class"]) == one["class"]
        assert float(row["probability"]) == one["probability"]
        assert (int(row["class_2"]), row["name_2"]) == (one["top"][1]["class"], one["top"][1]["name"])
    (number,) = csv.DictReader(script(runs["regression"], awkward, "--format", "csv").out.splitlines())
    assert list(number) == ["file", "value", "unlike"]
    assert float(number["value"]) == script(runs["regression"], awkward, "--format=json").json[0]["value"]


def test_table(
    runs: dict[str, Path], pictures: Path, script: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    (one,) = script(runs["multiclass"], pictures / "05.png", "--format", "json").json
    (line,) = [line for line in script(runs["multiclass"], pictures / "05.png").out.splitlines() if "05.png" in line]
    then = ", ".join(f"{other['name']} {other['probability']:.1%}" for other in one["top"][1:])
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == [
        str(pictures / "05.png"),
        one["name"],
        f"{one['probability']:.1%}",
        then,
        "yes" if one["unlike"] else "no",
    ]
    (value,) = script(runs["regression"], pictures / "05.png", "--format", "json").json
    assert f"{value['value']:.4g} │" in script(runs["regression"], pictures / "05.png").out


def test_whatever_names_the_files(
    runs: dict[str, Path], pictures: Path, idx_folder: Path, script: Callable[..., Said], tmp_path: Path
) -> None:
    run, packed = runs["multiclass"], tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress((idx_folder / "t10k-images-idx3-ubyte").read_bytes()))

    def predicted(*words: object, **more: Any) -> tuple[list[str], list[float]]:
        found = script(run, *words, "--format=json", **more).json
        return [Path(one["file"]).name for one in found], [one["probability"] for one in found]

    names, shares = predicted(*sorted(pictures.glob("*.png")))
    assert names == [f"{number:02d}.png" for number in range(57)]
    for words, chosen in (
        ([pictures], list(range(57))),
        ([pictures / "*.png"], list(range(57))),
        ([pictures.parent / "**" / "1?.png"], list(range(10, 20))),
        ([pictures / "30.png", pictures / "0[5-7].png", pictures / "01.png"], [30, 5, 6, 7, 1]),
    ):
        found = predicted(*words)
        assert found[0] == [names[number] for number in chosen]
        assert found[1] == pytest.approx([shares[number] for number in chosen], abs=1e-6)
    for path in (idx_folder / "t10k-images-idx3-ubyte", packed):
        found = predicted(path, "--batch_size", "10")
        assert found[0] == [f"{path.name}[{number}]" for number in range(57)]
        assert found[1] == pytest.approx(shares, abs=1e-6)
    given = {"stdin": (pictures / "04.png").read_bytes()}
    assert predicted("-", **given) == (["-"], [pytest.approx(shares[4], abs=1e-6)])
    mixed = predicted(pictures / "02.png", packed, "-", pictures / "03.png", **given)
    assert mixed[1] == pytest.approx([shares[2], *shares, shares[4], shares[3]], abs=1e-6)


def test_which_files_of_a_folder(tmp_path: Path) -> None:
    names = "b.PNG a.jpeg in/c.tif in/x-images-idx3-ubyte.gz .d.png .in/e.png f.txt labels-idx1-ubyte"
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(Path(file).relative_to(tmp_path)) for file in find_files([str(tmp_path)])]
    assert found == ["a.jpeg", "b.PNG", "in/c.tif", "in/x-images-idx3-ubyte.gz"]
    (tmp_path / "[1].png").touch()  # a file's own name goes before a pattern
    assert find_files([str(tmp_path / "[1].png")]) == [str(tmp_path / "[1].png")]


@pytest.mark.parametrize("batch_size", [1, 7, 256])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_batches_and_threads_change_nothing(
    batch_size: int, num_threads: int, runs: dict[str, Path], pictures: Path
) -> None:
    run, files = load_run(runs["multiclass"]), find_files([str(pictures)])
    answered = list(predict_files(run, files, PictureReader(8, 9, "as_is"), 3, batch_size, num_threads))
    assert max(len(predictions) for predictions, _ in answered) <= batch_size
    assert sum(batch.num_files for _, batch in answered) == len(files)
    found = [prediction for predictions, _ in answered for prediction in predictions]
    expected = run.predict(torch.stack([run.read(file) for file in files]))
    assert [prediction.file for prediction in found] == files
    assert [prediction.top[0].index for prediction in found] == expected.argmax(1).tolist()
    assert [prediction.top[0].probability for prediction in found] == pytest.approx(expected.amax(1).tolist(), abs=1e-6)


def test_threads_for_large_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    for name, size in (("small", 500), ("large", 100_000)):
        (tmp_path / name).write_bytes(bytes(size))
    small, large = str(tmp_path / "small"), str(tmp_path / "large")
    assert suitable_threads([small] * 1000) == 1
    assert suitable_threads([large] * 1000 + [small] * 1000) == 6
    assert suitable_threads(["-"]) == suitable_threads([]) == 1


def test_a_broken_picture_is_told_and_the_rest_goes_on(
    runs: dict[str, Path], pictures: Path, script: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "cut.png").write_bytes((pictures / "00.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "bad-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03\x00\x00")
    bad = [tmp_path / name for name in ("cut.png", "text.png", "bad-idx3-ubyte")]
    result = script(runs["multiclass"], bad[0], pictures / "01.png", *bad[1:], pictures / "02.png", "--format=json")
    assert result.status == 1
    assert [Path(one["file"]).name for one in json.loads(result.out)] == ["01.png", "02.png"]
    for path in bad:
        assert f"error: {path} " in result.err
    assert result.err.count("  fix: ") == 3
    assert re.search(r"\b3\b.*\b5\b", result.err.splitlines()[-1])
    assert "Traceback" not in result.err
    nothing = script(runs["multiclass"], bad[0], "--format=json")
    assert (nothing.status, json.loads(nothing.out)) == (1, [])
    assert script(runs["multiclass"], "-", "--format=csv", stdin=b"").status == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("- -", "(-)"),
        ("- --batch_size=0", "batch_size is 0"),
        ("- --num_threads=-1", "num_threads is -1"),
        ("- --polarity inverted", "as_is"),
        ("- --prepar", "prepare"),
    ],
)
def test_bad_input(words: str, named: str, runs: dict[str, Path], script: Callable[..., Said]) -> None:
    """What tests/whole/test_bad_input.py does not ask."""
    result = script(runs["multiclass"], *words.split())
    assert (result.status, result.out) == (2, "")
    assert named in result.err


def test_polarity_of_ones_own_data_is_left_as_it_is(
    runs: dict[str, Path], pictures: Path, script: Callable[..., Said], tmp_path: Path
) -> None:
    levels = np.array(Image.open(pictures / "00.png"))
    Image.fromarray(255 - levels).save(tmp_path / "inverted.png")
    as_is = script(runs["multiclass"], tmp_path / "inverted.png", "--format=json")
    assert "--polarity" in as_is.err
    assert "inverted.png" not in as_is.err
    again = script(runs["multiclass"], tmp_path / "inverted.png", "--format=json", "--polarity=invert")
    assert "inverted.png" in again.err
    first = script(runs["multiclass"], pictures / "00.png", "--format=json").json[0]
    assert again.json[0]["probability"] == first["probability"]
    assert abs(as_is.json[0]["probability"] - first["probability"]) > 1e-3


def test_an_idx_file_has_one_polarity(tmp_path: Path) -> None:
    images = np.full((40, 8, 9), 250)
    images[:, 3:5, 2:6] = 5
    images[7] = 255 - images[7]  # the one that looks otherwise is treated like all
    write_idx(tmp_path / "dark-on-light", images)
    batches = list(PictureReader(8, 9).read_idx(str(tmp_path / "dark-on-light"), 16))
    assert torch.equal(torch.cat([batch.images for batch in batches]), torch.from_numpy(255 - images).byte())
    assert torch.cat([batch.inverted for batch in batches]).all()


def learned(root: Path, name: str, data: Path, *flags: str) -> Path:
    given = [f"--data.dataset={name}", f"--data.root={data}", f"--run_root={root}", "--trainer.max_epochs=2"]
    return finish(*given, "--data.num_train=20000", *flags)


@pytest.fixture(scope="module")
def real_run(real_set: RealSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned something of a real set, in seconds."""
    root = tmp_path_factory.mktemp(real_set.name)
    return learned(root, real_set.name, real_set.root, "--model.width=256")


VARIANTS: dict[str, tuple[Callable[[Image.Image], Image.Image], str, dict[str, Any], float]] = {
    "PNG": (lambda image: image, "PNG", {}, 1.0),
    "inverted": (lambda image: Image.eval(image, lambda level: 255 - level), "PNG", {}, 1.0),
    "RGB JPEG": (lambda image: image.convert("RGB"), "JPEG", {"quality": 90}, 0.99),
    **{
        f"280 × 280, {kind.name}": (partial(Image.Image.resize, size=(280, 280), resample=kind), "PNG", {}, 0.99)
        for kind in (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    },
    "all of it": (
        lambda image: Image.eval(image, lambda level: 255 - level).resize((280, 280)).convert("RGB"), "JPEG", {}, 0.99
    ),
}  # fmt: skip


@pytest.mark.slow
def test_a_thousand_pictures_in_every_form(real_run: Path, tmp_path: Path) -> None:
    run = load_run(real_run)
    outputs, positions = evaluated(run)
    assert torch.equal(positions, torch.arange(10_000))
    expected = outputs[:1000].argmax(1)
    images = run.datamodule.source("test").images[:1000].numpy()
    for name, (change, kind, options, least) in VARIANTS.items():
        folder = tmp_path / name
        folder.mkdir()
        for number, image in enumerate(images):
            change(Image.fromarray(image)).save(folder / f"{number:03d}.{kind.lower()}", kind, **options)
        reader = PictureReader(28, 28, run.polarity)
        answered = list(predict_files(run, find_files([str(folder)]), reader))
        found = torch.tensor([one.top[0].index for predictions, _ in answered for one in predictions])
        inverted = sum(one.inverted for predictions, _ in answered for one in predictions)
        assert inverted == (1000 if name in ("inverted", "all of it") else 0)
        same = (found == expected).double().mean().item()
        assert same >= least, f"{name}: {same:.1%}"


@pytest.mark.slow
def test_drawn_and_photographed_digits_and_what_is_none(real_mnist: Path, tmp_path: Path) -> None:
    """The benchmark's own pictures, answered by a network of a few seconds: what docs/predict.md says, less some."""
    run = load_run(learned(tmp_path, "mnist", real_mnist))
    originals, drawn = drawn_digits("report", real_mnist, 120)
    expected = run.predict(originals).argmax(1)
    shares = [(run.predict(seen_by(run, drawn, way)).argmax(1) == expected).double().mean() for way in (True, False)]
    assert shares[0] >= 0.92
    assert shares[1] < 0.5
    random = np.random.default_rng(2)
    faces = seen_by(run, [as_read(face("report", random)) for _ in range(60)])
    for pictures, low, high in ((faces, 0.8, 1), (seen_by(run, drawn), 0, 0.15)):
        unlike = run.unlike(pictures)
        assert unlike is not None
        assert low <= unlike.double().mean() <= high


def test_the_figure_shows_what_was_given_beside_what_was_seen(
    runs: dict[str, Path], pictures: Path, script: Callable[..., Said], tmp_path: Path
) -> None:
    Image.new("RGB", (900, 700), "red").save(tmp_path / "large.png")
    for task in TASKS:
        target = tmp_path / "folder" / f"{task}.png"
        said = script(runs[task], tmp_path / "large.png", pictures, "--figure", target, "--format=csv")
        assert said.status == 0, said.err
        with Image.open(target) as image:
            assert image.format == "PNG"
    refused = script(runs["multiclass"], pictures, "--figure", pictures, "--format=csv")
    assert refused.status == 2


def test_a_sheet_has_a_pair_for_each_picture() -> None:
    small = torch.zeros(4, 4).byte()
    shown = [
        Shown(
            Prediction(f"{number}.png", False, value=1.0, unlike=bool(number)),
            torch.zeros(9, 5).byte(),
            torch.zeros(4, 4).byte(),
        )
        for number in range(6)
    ]
    sizes = [axis.images[0].get_size() for axis in sheet(shown).axes]
    assert sizes == [(9, 5), (4, 4)] * 6
    batch = PictureBatch(["a"], small[None], torch.zeros(1).bool(), [torch.zeros(9, 5).byte()], 1, [])
    collected: list[Shown] = []
    answered = [([Prediction("a", False, value=1.0)], batch)] * 70
    assert len(list(kept(answered, collected))) == 70
    assert len(collected) == MAX_SHOWN


@pytest.mark.slow
def test_digits_drawn_anywhere(real_mnist: Path, tmp_path: Path) -> None:
    """On a sheet, off its middle, dark on light: centered, they are recognized like the test set's own."""
    run = load_run(learned(tmp_path, "mnist", real_mnist))
    test = load_dataset("mnist", real_mnist).test
    images, labels = test.images[:500], test.labels[:500]
    (tmp_path / "sheets").mkdir()
    for number, image in enumerate(images.numpy()):
        sheet = Image.new("L", (300, 220), 255)
        sheet.paste(Image.fromarray(255 - image).resize((120, 120)), (10 + number % 160, 95 - number % 90))
        sheet.save(tmp_path / "sheets" / f"{number:03d}.png")

    def accuracy(preparation: Preparation) -> float:
        reader = PictureReader(28, 28, run.polarity, preparation)
        answered = predict_files(run, find_files([str(tmp_path / "sheets")]), reader)
        found = torch.tensor([one.top[0].index for predictions, _ in answered for one in predictions])
        return float((found == labels).double().mean())

    untouched = float((run.predict(images).argmax(1) == labels).double().mean())
    assert accuracy("auto") >= untouched - 0.01
    assert accuracy("never") < 0.7
