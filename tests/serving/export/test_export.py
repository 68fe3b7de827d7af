"""An exported file answers like the checkpoint, holds what it needs, and is written whole or not at all."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
import yaml
from conftest import ROOT, make_idx_folder
from finished import call, finish, read_metrics, small_flags
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor, nn

import project.serving.export.export as exporting
from project.data.datamodule import ImageDataModule
from project.data.settings import DataSettings
from project.errors import InputError, RunError
from project.network.activations import ACTIVATIONS
from project.network.norms import NORMS
from project.serving.export import FormatName
from project.serving.export.export import export, load_network
from project.serving.restore import RestoredRun, restore
from project.training.module import ImageModule
from project.training.settings import ModelSettings

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime has no release for Python 3.15 yet")

FORMATS: tuple[FormatName, ...] = get_args(FormatName)
TASKS: dict[str, dict[str, Any]] = {
    "multiclass": {},
    "binary": {"data": {"classes": [2, 0]}},
    "regression": {"data": {"target": "rotation"}},
    "label_regression": {},
}
BATCHES = (57, 10, 1)


def make_run(folder: Path, idx_folder: Path, task: str = "multiclass", **model: Any) -> RestoredRun:
    """A run as training leaves it, but with weights and statistics by chance: no layer is trivial."""
    name = task.removeprefix("label_")
    data: dict[str, Any] = {"dataset": "idx", "root": str(idx_folder), "num_validation": 40, "batch_size": 32}
    data |= {"normalization": "standardize", **TASKS[task].get("data", {})}
    model = {"task": name, "depth": 2, "width": 16, **model}
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
    datamodule = ImageDataModule(DataSettings(**data), task=name)
    torch.manual_seed(0)
    module = ImageModule(datamodule.spec, datamodule.normalization, ModelSettings(**model))
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    for buffer_name, buffer in module.named_buffers():
        if "running" in buffer_name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return RestoredRun(folder, folder / "checkpoints" / "best.ckpt", module, datamodule, {})


def expected_answers(run: RestoredRun, images: Tensor) -> Tensor:
    """What the run's own module answers, by torch's functions."""
    module, spec = run.module.eval(), run.module.spec
    with torch.no_grad():
        logits = module.network(module.normalization(images))
    if spec.task == "regression":
        return logits[:, 0] * spec.target_sd + spec.target_mean
    if spec.task == "binary":
        return torch.cat((torch.sigmoid(-logits), torch.sigmoid(logits)), 1)
    return torch.softmax(logits, 1)


def load(path: Path) -> Callable[[Tensor], Tensor]:
    """Each format by its own library, apart from the project's way of reading it."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    return load_network(path)


def hold_against_the_run(run: RestoredRun, to: FormatName, **options: Any) -> None:
    exported = export(run, to, **options)
    answer, images = load(exported.path), run.datamodule.data.test.images
    expected = expected_answers(run, images)
    for size in BATCHES:
        with torch.no_grad():
            found = torch.cat([answer(chunk) for chunk in torch.split(images, size)])
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=0, atol=1e-5 * run.module.spec.target_sd)
    assert exported.check.max_difference <= 1e-5
    assert exported.check.num_pictures == len(run.datamodule.splits["test"])


ONNX = pytest.param("onnx", marks=pytest.mark.slow)
TORCH_EXPORT = pytest.param("torch_export", marks=pytest.mark.slow)
"""A second each: the fast tests take them only where it may differ from the other formats."""
FAST_FORMATS = pytest.mark.parametrize("to", [ONNX, "torch_export", "safetensors"])
NETWORKS: list[dict[str, Any]] = [
    *({"activation": name} for name in ACTIVATIONS),
    *({"activation": name, "activation_parameter": 1.7} for name in ("leaky_relu", "elu", "swish", "softplus")),
    *({"norm": name, "dropout": 0.5, "width": [9, 12]} for name in NORMS),
    {"depth": 0},
]


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("to", [ONNX, TORCH_EXPORT, "safetensors"])
def test_every_activation_and_norm_and_no_hidden_layer(
    model: dict[str, Any], to: FormatName, idx_folder: Path, tmp_path: Path
) -> None:
    hold_against_the_run(make_run(tmp_path, idx_folder, **model), to)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("to", FORMATS)
def test_every_task(task: str, to: FormatName, idx_folder: Path, tmp_path: Path) -> None:
    hold_against_the_run(make_run(tmp_path, idx_folder, task, depth=1), to)


def test_a_network_that_was_trained_compiled_is_not_compiled_again(idx_folder: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, idx_folder, compile=True)
    with torch.compiler.set_stance("fail_on_recompile"):
        assert export(run, "safetensors").check.max_difference <= 1e-5


def test_by_hand(idx_folder: Path, tmp_path: Path) -> None:
    """The file's tensors alone, in numpy and float64: normalization, linear map, batch norm, ReLU, softmax."""
    run = make_run(tmp_path, idx_folder, depth=1, norm="batch")
    onnx_file, tensors_file = export(run, "onnx").path, export(run, "safetensors").path
    t = {name: tensor.double().numpy() for name, tensor in safetensors.torch.load_file(tensors_file).items()}
    images = run.datamodule.data.test.images
    x = (images.numpy().reshape(len(images), -1).astype(np.float64) - t["normalization.shift"]) * t[
        "normalization.scale"
    ]
    z = x @ t["network.hidden.0.linear.weight"].T + t["network.hidden.0.linear.bias"]
    variance = t["network.hidden.0.norm.running_var"] + 1e-5
    z = (z - t["network.hidden.0.norm.running_mean"]) / np.sqrt(variance) * t["network.hidden.0.norm.weight"]
    a = np.maximum(z + t["network.hidden.0.norm.bias"], 0)
    powers = np.exp(a @ t["network.output.weight"].T + t["network.output.bias"])
    expected = powers / powers.sum(1, keepdims=True)
    for path in (onnx_file, tensors_file):
        with torch.no_grad():
            assert np.abs(load(path)(images).numpy() - expected).max() <= 1e-5


def test_names_shapes_and_types_in_onnx(exported: dict[FormatName, Path]) -> None:
    model = onnx.load(exported["onnx"])
    (images,), (answers,) = model.graph.input, model.graph.output

    def described(value: Any) -> tuple[str, int, list[Any]]:
        tensor = value.type.tensor_type
        return value.name, tensor.elem_type, [d.dim_param or d.dim_value for d in tensor.shape.dim]

    assert described(images) == ("images", onnx.TensorProto.UINT8, ["batch", 8, 9])
    assert described(answers) == ("probabilities", onnx.TensorProto.FLOAT, ["batch", 3])
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]


@FAST_FORMATS
def test_no_file_names_where_the_code_lies(to: FormatName, idx_folder: Path, tmp_path: Path) -> None:
    content = export(make_run(tmp_path, idx_folder), to).path.read_bytes()
    assert str(ROOT).encode() not in content
    assert str(idx_folder).encode() not in content


@FAST_FORMATS
def test_double_precision_where_rounding_decides(to: FormatName, idx_folder: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path, idx_folder)
    images = run.datamodule.data.test.images
    with torch.no_grad():
        expected = expected_answers(run, images)
        run.module.network.output.bias.add_(
            10_000.0
        )  # the same probabilities, from logits with 3 digits after the point
    with pytest.raises(RunError, match=to) as caught:
        export(run, to)
    assert "--precision float64" in caught.value.remedy
    exported = export(run, to, precision="float64")
    with torch.no_grad():
        assert torch.allclose(load(exported.path)(images), expected, rtol=0, atol=1e-3)  # the biases were rounded
    assert exported.check.max_difference <= 1e-7


def test_what_onnx_runtime_cannot_compute_in_double_precision(idx_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        export(make_run(tmp_path, idx_folder, activation="gelu", depth=1), "onnx", precision="float64")
    assert "--to torch_export" in caught.value.remedy
    assert not (tmp_path / "export").exists()


# a finished run


@pytest.fixture(scope="module")
def finished(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    return finish(*small_flags(idx_folder, root), "--run_name=first", "--seed_everything=3")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "first"))


@pytest.fixture(scope="module")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[FormatName, Path]:
    """The finished run in all formats."""
    folder = tmp_path_factory.mktemp("exported")
    return {to: export(restore(finished), to, folder).path for to in FORMATS}


def metadata_of(path: Path) -> dict[str, str]:
    if path.suffix == ".onnx":
        return dict(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map)
    if path.suffix == ".pt2":
        extra = {"metadata.json": ""}
        torch.export.load(path, extra_files=extra)
        return dict(json.loads(extra["metadata.json"]))
    with safetensors.safe_open(path, framework="numpy") as file:
        return dict(file.metadata())


@pytest.mark.parametrize("to", FORMATS)
def test_metadata(to: FormatName, exported: dict[FormatName, Path], finished: Path) -> None:
    found = metadata_of(exported[to])
    assert all(isinstance(value, str) for value in found.values())
    origin, metrics = json.loads((finished / "provenance.json").read_text()), read_metrics(finished)
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert json.loads(found["class_names"]) == ["0", "1", "2"]
    assert (found["run"], found["checkpoint"], found["task"]) == ("first", "best.ckpt", "multiclass")
    assert json.loads(found["data"]) == origin["data"]
    provenance = json.loads(found["provenance"])
    for name in ("command", "git_commit", "versions", "hardware", "seeds", "started"):
        assert provenance[name] == origin[name]
    settings = json.loads(found["settings"])
    assert settings["model"] == config["model"]
    assert settings["data"] == {name: config["data"][name] for name in config["data"].keys() - {"root", "download"}}
    assert json.loads(found["metrics"])["test/accuracy"] == metrics["test/accuracy"]
    assert json.loads(found["exported_with"])["torch"] == version("torch")


def section(card: str, title: str) -> str:
    found = re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def printed_by(page: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What each block of Python on a page prints."""
    printed = []
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "page", "exec"), {})  # noqa: S102
        printed.append(capsys.readouterr().out)
    return printed


def answer_by_the_card(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], Tensor]:
    """What the code on a file's card prints for a black picture, and what the file answers to it."""
    monkeypatch.chdir(path.parent)
    (printed,) = printed_by(path.with_name(path.name + ".md").read_text(), capsys)
    with torch.no_grad():
        return printed.split(), load(path)(torch.zeros(1, 8, 9, dtype=torch.uint8))[0]


@pytest.mark.parametrize("to", FORMATS)
def test_the_cards_own_code_loads_the_file(
    to: FormatName,
    exported: dict[FormatName, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (name, probability), expected = answer_by_the_card(exported[to], monkeypatch, capsys)
    assert int(name) == int(expected.argmax())
    assert float(probability) == pytest.approx(float(expected.max()), abs=1e-6)


def test_the_card_says_what_the_run_folder_knows(exported: dict[FormatName, Path], finished: Path) -> None:
    card = exported["onnx"].with_name("model.onnx.md").read_text()
    origin, metrics = json.loads((finished / "provenance.json").read_text()), read_metrics(finished)
    results = section(card, "Results")
    assert f"| accuracy | {metrics['validation/accuracy']:.4f} | {metrics['test/accuracy']:.4f} |" in results
    hits = round(metrics["test/accuracy"] * 57)
    low, high = proportion_confint(hits, 57, method="wilson")
    assert f"{low:.2%}" in results
    assert f"{high:.2%}" in results
    for name, share in metrics["test/class_accuracy"].items():
        assert f"| {name} | 19 | {share:.1%} |" in results
    rows = re.findall(r"\| ([\d,]+) \| (\d+)·(\d+) \+ (\d+) \|", section(card, "Architecture"))
    assert [int(count.replace(",", "")) for count, *_ in rows] == [int(n) * int(m) + int(b) for _, n, m, b in rows]
    assert len(rows) == 3
    assert re.search(r"\| total \| *\| ([\d,]+) \|", card)[1].replace(",", "") == str(metrics["parameters"])
    for line in (finished / "model.txt").read_text().splitlines()[1:]:
        assert line.split("(B")[0].strip().split("  ")[0] in section(card, "Architecture")
    for sha256 in (*origin["data"]["sha256"].values(), *origin["data"]["split_sha256"].values()):
        assert sha256 in section(card, "Data")
    for split, count in (("train", 200), ("validation", 40), ("test", 57)):
        assert f"| {split} | {count} |" in section(card, "Data")
    assert "| model.width | 16 |" in section(card, "Settings")
    assert "| seed_everything | 3 |" in section(card, "Settings")
    provenance = section(card, "Provenance")
    assert origin["command"] in provenance
    assert origin["hardware"]["processor"] in provenance
    assert {"57", "1", "37", "2048"} <= set(re.findall(r"\b\d+\b", section(card, "The exported file")))


def test_what_the_run_did_not_record_is_left_out(run: Path) -> None:
    for name in ("metrics.json", "provenance.json"):
        (run / name).unlink()
    card = export(restore(run), "safetensors").card.read_text()
    assert not section(card, "Results")
    assert not section(card, "Provenance")
    assert "SHA-256" not in card
    assert "None" not in card
    assert section(card, "Intended use and limits")


@pytest.mark.parametrize("why", ["another checkpoint", "still being trained"])
def test_results_that_are_not_this_networks_are_left_out(why: str, run: Path) -> None:
    if why == "still being trained":
        (run / "metrics.json").write_text(json.dumps(read_metrics(run) | {"status": "interrupted"}))
        exported = export(restore(run), "safetensors")
    else:
        exported = export(restore(run / "checkpoints" / "last.ckpt"), "safetensors")
    assert not section(exported.card.read_text(), "Results")
    assert json.loads(metadata_of(exported.path)["metrics"]) == {}


def test_the_split_sizes_of_other_data_are_left_out(run: Path, tmp_path: Path) -> None:
    other = make_idx_folder(tmp_path / "other", num_train=300)
    card = export(restore(run, other), "safetensors").card.read_text()
    assert "| train |" not in section(card, "Data")


@pytest.mark.parametrize(
    ("task", "loss", "warned"),
    [("multiclass", "hinge", True), ("binary", "mse", True), ("multiclass", "auto", False), ("binary", "auto", False)],
)
def test_the_card_warns_of_a_loss_that_trains_no_probabilities(
    task: str, loss: str, warned: bool, idx_folder: Path, tmp_path: Path
) -> None:
    card = export(make_run(tmp_path, idx_folder, task, loss=loss), "safetensors").card.read_text()
    assert bool(re.search(rf"\b{loss}\b", section(card, "Intended use and limits"))) == warned


@FAST_FORMATS
def test_a_card_for_regression(
    to: FormatName,
    idx_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exported = export(make_run(tmp_path, idx_folder, "regression"), to)
    assert "degrees" in exported.card.read_text()
    printed, expected = answer_by_the_card(exported.path, monkeypatch, capsys)
    assert float(*printed) == pytest.approx(float(expected), abs=1e-4)


# whole or not at all


def spoil(monkeypatch: pytest.MonkeyPatch, to: FormatName, value: float) -> None:
    """Let the writer of a format get one weight wrong."""
    write = exporting.FORMATS[to].write

    def write_wrongly(network: Any, metadata: dict[str, str]) -> bytes:
        with torch.no_grad():
            network.network.output.bias[0] += value
        return write(network, metadata)

    monkeypatch.setitem(exporting.FORMATS, to, exporting.FORMATS[to]._replace(write=write_wrongly))


@FAST_FORMATS
@pytest.mark.parametrize("value", [1e-3, float("nan")])
def test_a_wrong_file_is_not_kept(to: FormatName, value: float, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, to, value)
    with pytest.raises(RunError, match=to):
        export(restore(run), to)
    assert not (run / "export").exists()


def test_a_wrong_file_does_not_replace_a_good_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = export(restore(run), "safetensors")
    before = {path: path.read_bytes() for path in (good.path, good.card)}
    spoil(monkeypatch, "safetensors", 0.1)
    with pytest.raises(RunError, match="safetensors"):
        export(restore(run), "safetensors", overwrite=True)
    assert {path: path.read_bytes() for path in good.path.parent.iterdir()} == before


def test_no_file_is_overwritten_unasked(run: Path) -> None:
    good = export(restore(run), "safetensors")
    before = good.path.stat()
    for _ in range(2):  # the second time only the card is there
        with pytest.raises(InputError) as caught:
            export(restore(run), "safetensors")
        assert "--overwrite" in caught.value.remedy
        assert not good.path.exists() or good.path.stat() == before
        good.path.unlink(missing_ok=True)
    assert export(restore(run), "safetensors", overwrite=True).path.stat().st_size == before.st_size


def test_a_full_disk(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(part: Path, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "replace_durably", fail)
    with pytest.raises(InputError, match=r"model\.safetensors"):
        export(restore(run), "safetensors")
    assert not (run / "export").exists()


def test_where_the_file_goes(run: Path, tmp_path: Path) -> None:
    restored, folder = restore(run), tmp_path / "folder"
    folder.mkdir()
    named = tmp_path / "new" / "mine.safetensors"
    name = "model.safetensors"
    for output, path in ((None, run / "export" / name), (named, named), (folder, folder / name)):
        exported = export(restored, "safetensors", output)
        assert (exported.path, exported.card) == (path, path.with_name(f"{path.name}.md"))
        assert path.name in exported.card.read_text()


@pytest.mark.parametrize("output", ["mine.bin", "mine", "no/such/folder/mine.safetensors", "a_file/mine.safetensors"])
def test_where_no_file_can_go(output: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(InputError) as caught:
        export(restore(run), "safetensors", tmp_path / output)
    assert str(tmp_path) in caught.value.cause
    assert "--output" in caught.value.remedy


# bad input


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime", "safetensors"])
def test_a_package_that_is_missing(package: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=package) as caught:
        export(restore(run), "safetensors" if package == "safetensors" else "onnx")
    assert ".[export]" in caught.value.remedy
    assert not (run / "export").exists()


def test_data_that_cannot_be_used(run: Path, idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="nowhere") as caught:
        export(restore(run, tmp_path / "nowhere"), "safetensors")
    assert "--data_root" in caught.value.remedy
    with pytest.raises(InputError, match=r"10×11.* 8×9"):
        export(restore(run, make_idx_folder(tmp_path / "large", side=10)), "safetensors")
    without = make_run(tmp_path / "run", idx_folder)
    without.datamodule.splits["validation"] = torch.arange(0)
    with pytest.raises(InputError, match="validation"):
        export(without, "safetensors", split="validation")
    monkeypatch.setattr(exporting, "MAX_ONNX_BYTES", 1000)
    with pytest.raises(InputError, match="GiB"):
        export(restore(run), "onnx")


def test_foreign_files(run: Path, tmp_path: Path) -> None:
    good = export(restore(run), "safetensors").path
    state, metadata = safetensors.torch.load_file(good), metadata_of(good)
    settings = json.loads(metadata["settings"])
    models = ({"activation": "os"}, {"import": "os"}, {"width": 17})
    bad = [
        None,
        {name: value for name, value in metadata.items() if name != "settings"},
        *(metadata | {"settings": json.dumps({"model": settings["model"] | model})} for model in models),
        metadata | {"spec": "{"},
        metadata | {"precision": "bool"},
    ]
    path = tmp_path / "bad.safetensors"
    contents = [safetensors.torch.save(state, content) for content in bad]
    for content in (None, *contents, b"", b"\x00" * 100, good.read_bytes()[:-10]):
        if content is not None:  # at first there is no file
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.safetensors"):
            load_network(path)


# the command and the page


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "export", run, "--to", "safetensors", "--split", "validation")
    path = run / "export" / "model.safetensors"
    assert f"{path} ({path.stat().st_size:,} bytes)" in said.out
    assert f"{path}.md" in said.out
    assert re.search(r"\d\.\de-\d\d\b.*\b40\b.*\bvalidation\b", said.out)
    assert (said.status, said.err) == (0, "")
    assert call(capsys, "export", run, "--to", "safetensors").status == 2
    assert call(capsys, "export", run, "--to=safetensors", "--overwrite", "--precision=float64").status == 0
    assert metadata_of(path)["precision"] == "float64"


def test_the_pages_own_code(
    idx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", idx_folder)
    for to in FORMATS:
        export(run, to, tmp_path)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8").replace("28, 28", "8, 9")
    expected = run.module.spec.class_names[int(expected_answers(run, torch.zeros(1, 8, 9)).argmax())]
    assert printed_by(page, capsys) == [str([expected] * 5) + "\n"] * len(FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("to", FORMATS)
def test_real_pictures(to: FormatName, real_data: Path, tmp_path: Path) -> None:
    flags = ["--data.dataset=fashion_mnist", f"--data.root={real_data}", "--data.download=false"]
    run = restore(finish(*flags, "--trainer.max_steps=30", "--model.width=64", f"--run_root={tmp_path}"))
    exported = export(run, to)
    assert exported.check.num_pictures == 10_000
    assert exported.check.max_difference <= 1e-5
    with torch.no_grad():
        decided = load(exported.path)(run.datamodule.data.test.images).argmax(1)
    hits = (decided == run.datamodule.data.test.labels).double().mean().item()
    assert hits == pytest.approx(run.metrics["test/accuracy"], abs=1e-4)  # except for a tie
