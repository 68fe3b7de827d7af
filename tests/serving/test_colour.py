"""Networks that take colours: read, predicted, exported, explained and shown as they were trained."""

import importlib
import importlib.util
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished import call, finish
from PIL import Image

from project import load_run
from project.data.sources.picture_files import read_image
from project.errors import InputError
from project.serving.export.export import export, load_network
from project.serving.predict.image_files import fit_image
from project.serving.predict.picture_reader import PictureReader
from project.serving.restore import RestoredRun


def save_arrays(folder: Path, channels: int) -> Path:
    """Three classes whose pictures differ in nothing except which channel is bright, with one gray level for all."""
    generator = np.random.default_rng(0)
    parts: dict[str, Any] = {}
    for part, num in (("train", 120), ("test", 60)):
        labels = np.arange(num) % 3
        images = generator.integers(0, 60, (num, 7, 6, channels))
        for index, label in enumerate(labels):
            images[index, :, :, label % channels] += 150
        parts |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": labels}
    np.savez(folder / "data.npz", **parts, class_names=["red", "green", "blue"])
    return folder / "data.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on small pictures in colour."""
    root = tmp_path_factory.mktemp("colour")
    data = save_arrays(root, 3)
    flags = [f"--data.root={data}", "--data.dataset=arrays", "--data.batch_size=20", "--model.width=16"]
    return finish(*flags, "--trainer.max_epochs=5", f"--run_root={root / 'runs'}")


@pytest.fixture(scope="module")
def run(folder: Path) -> RestoredRun:
    return load_run(folder)


@pytest.fixture(scope="module")
def pictures(run: RestoredRun, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The test pictures as files."""
    place = tmp_path_factory.mktemp("pictures")
    files = []
    for number, image in enumerate(run.datamodule.data.test.images):
        files.append(place / f"{number:02d}.png")
        Image.fromarray(image.numpy()).save(files[-1])
    return files


def test_the_colours_reach_the_network(run: RestoredRun) -> None:
    assert run.module.spec.shape == (7, 6, 3)
    assert run.metrics["test/accuracy"] == 1
    test = run.datamodule.data.test
    assert run.predict(test.images).argmax(1).tolist() == test.labels.tolist()
    assert run.predict(test.images[0]).shape == (1, 3)
    with pytest.raises(InputError, match=r"\(n, 7, 6, 3\)"):
        run.predict(test.images[..., 0])


def test_files_are_answered_as_arrays_are(
    folder: Path, run: RestoredRun, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    found = call(capsys, "predict", folder, *pictures, "--format=json").json
    shares = run.predict(run.datamodule.data.test.images)
    expected = run.datamodule.data.test.labels.tolist()
    assert [one["class"] for one in found] == expected
    assert [one["probability"] for one in found] == pytest.approx(shares.amax(1).tolist(), abs=1e-6)
    assert torch.equal(run.read(pictures[0]), run.datamodule.data.test.images[0])


def test_larger_and_gray_pictures_and_idx_files(run: RestoredRun, tmp_path: Path) -> None:
    large = Image.fromarray(run.datamodule.data.test.images[1].numpy()).resize((60, 70), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.jpg", quality=95)
    assert int(run.predict(run.read(tmp_path / "large.jpg")).argmax()) == 1
    Image.new("L", (6, 7), 90).save(tmp_path / "gray.png")
    assert run.read(tmp_path / "gray.png").tolist() == [[[90] * 3] * 6] * 7
    header = bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 6))
    (tmp_path / "sheet-idx3-ubyte").write_bytes(header + bytes(range(84)))
    (batch,) = PictureReader(7, 6, "as_is", channels=3).read_idx(str(tmp_path / "sheet-idx3-ubyte"), 10)
    assert batch.images.shape == (2, 7, 6, 3)
    assert batch.images[1, 0, 1].tolist() == [43, 43, 43]


def test_transparent_pictures_are_laid_over_what_shows_them(tmp_path: Path) -> None:
    for level, background in ((20, 255), (230, 0)):
        pixels = np.zeros((4, 5, 4), np.uint8)
        pixels[1:3, 1:4] = (level, level, 0 if level < 100 else 255, 255)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        found = read_image(tmp_path / "a.png", 3)
        assert found[0, 0].tolist() == [background] * 3
        assert found[1, 1].tolist() == pixels[1, 1, :3].tolist()


def test_a_wide_picture_is_framed_by_its_own_background() -> None:
    image = torch.zeros(4, 8, 3, dtype=torch.uint8)
    image[..., 0], image[1:3, 2:6] = 200, torch.tensor([0, 9, 9], dtype=torch.uint8)
    fitted, inverted = fit_image(image, 8, 8, "as_is")
    assert not inverted
    assert torch.equal(fitted[2:6], image)
    assert fitted[:2].reshape(-1, 3).unique(dim=0).tolist() == [[200, 0, 0]]
    assert torch.equal(fit_image(image, 8, 8, "invert")[0], 255 - fitted)


def test_what_colours_do_not_have() -> None:
    with pytest.raises(InputError, match="ink"):
        PictureReader(7, 6, preparation="always", channels=3)
    with pytest.raises(InputError, match="5 channels"):
        read_image(io.BytesIO(), 5)


@pytest.mark.parametrize("to", ["onnx", "torch_export", "safetensors"])
def test_exports_answer_as_the_run_does(to: Any, run: RestoredRun, tmp_path: Path) -> None:
    needed = {"onnx": ["onnx", "onnxscript", "onnxruntime"], "safetensors": ["safetensors"]}.get(to, [])
    if not all(map(importlib.util.find_spec, needed)):
        pytest.skip("pip install -e '.[export]'")
    made = export(run, to, tmp_path)
    images = run.datamodule.data.test.images[:9]
    if to == "onnx":
        onnxruntime = importlib.import_module("onnxruntime")
        session = onnxruntime.InferenceSession(made.path.read_bytes(), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        assert session.get_modelmeta().custom_metadata_map["input"].startswith("images: uint8 (batch, 7, 6, 3)")
    else:
        network = load_network(made.path) if to == "safetensors" else torch.export.load(made.path).module()
        found = network(images)
    torch.testing.assert_close(found, run.predict(images), atol=1e-5, rtol=0)


def test_the_demo_sees_colours(folder: Path, run: RestoredRun) -> None:
    pytest.importorskip("captum")
    from project.serving.demo.app import Drawing, load_contenders
    from project.serving.demo.attribution import evidence, pixel_attribution
    from project.serving.demo.page import answer_page, png_url

    (contender,) = load_contenders([folder])
    image, truth = contender.example(random.Random(0))  # noqa: S311 - chooses a picture
    message = json.dumps({"picture": png_url(image.numpy()), "kind": "example", "paper": "black", "truth": truth})
    answer = contender.answer(Drawing.from_page(message), True, "integrated_gradients")
    assert torch.equal(answer.image, image)
    assert answer.words == truth
    assert answer.attribution.shape == (7, 6)
    assert not answer.prepared
    page = answer_page([answer], truth, 0.1)
    assert "7 × 6 pixels" in page
    module, one = contender.run.module, image[None].float().requires_grad_()
    (gradient,) = torch.autograd.grad(evidence(module, one, answer.decision).sum(), one)
    shares = pixel_attribution(module, image[None], answer.decision, "gradient_times_input")
    torch.testing.assert_close(shares, (gradient * one.detach()).sum(3))


def test_other_numbers_of_channels_train_and_predict_from_arrays(tmp_path: Path) -> None:
    flags = [f"--data.root={save_arrays(tmp_path, 5)}", "--data.dataset=arrays", "--data.batch_size=20"]
    folder = finish(*flags, "--model.width=16", "--trainer.max_epochs=3", f"--run_root={tmp_path / 'runs'}")
    run = load_run(folder)
    test = run.datamodule.data.test
    assert run.predict(test.images).argmax(1).tolist() == test.labels.tolist()
    with pytest.raises(InputError, match="5 channels"):
        run.read(io.BytesIO())
    from project.serving.demo.app import load_contenders

    with pytest.raises(InputError, match="5 channels"):
        load_contenders([folder])
