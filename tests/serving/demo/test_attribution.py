"""Which pixels matter, held against closed forms, numerical integrals and the sums that theory demands."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's usual name

from project.data.normalization import Normalization
from project.errors import InputError
from project.serving.demo.attribution import AttributionName, evidence, layer_outputs, pixel_attribution
from project.task import DataSpec
from project.training.module import ImageModule
from project.training.settings import ModelSettings

HEIGHT, WIDTH = 5, 4
TASKS = ("multiclass", "binary", "regression")

if importlib.util.find_spec("captum") is None and os.environ.get("CI") != "true":
    pytest.skip("captum is not installed (pip install -e '.[demo]')", allow_module_level=True)


def network(task: Any = "multiclass", **settings: Any) -> ImageModule:
    """A network with random weights, a different normalization for each pixel, and norms that have seen data."""
    torch.manual_seed(0)
    names = {"multiclass": ("a", "b", "c"), "binary": ("a", "b"), "regression": ()}[task]
    spec = DataSpec(HEIGHT, WIDTH, len(names) if task == "multiclass" else 1, task, names, 3.0, 7.0)
    normalization = Normalization(torch.rand(HEIGHT * WIDTH) * 99, torch.rand(HEIGHT * WIDTH) / 50)
    model = ModelSettings(task=task, **{"width": 6, "dropout": 0.3} | settings)
    module = ImageModule(spec, normalization, model)
    with torch.no_grad():
        for _ in range(3):
            module(pictures(16))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.7)
    return module.eval()


def pictures(num: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(num)
    return torch.randint(0, 256, (num, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)


def test_layer_outputs_are_the_forward_pass_step_by_step() -> None:
    module = network(norm="none", depth=2)
    x = (pictures().flatten(1).float() - module.normalization.shift) * module.normalization.scale
    state = module.network.state_dict()
    first = F.linear(x, state["hidden.0.linear.weight"], state["hidden.0.linear.bias"]).clamp(min=0)
    second = F.linear(first, state["hidden.1.linear.weight"], state["hidden.1.linear.bias"]).clamp(min=0)
    logits = F.linear(second, state["output.weight"], state["output.bias"])
    with torch.no_grad():
        outputs = layer_outputs(module, pictures())
    for found, expected in zip(outputs, (first, second, logits), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "settings", [{}, {"norm": "layer", "activation": "gelu", "depth": 5}, {"depth": 0, "width": []}]
)
def test_the_last_outputs_are_what_the_network_answers(settings: dict[str, Any]) -> None:
    module = network(**settings)
    with torch.no_grad():
        *hidden, logits = layer_outputs(module, pictures())
        assert torch.equal(logits, module(pictures()))
    assert len(hidden) == len(module.network.hidden)


def test_a_network_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match="eval"):
        layer_outputs(network().train(), pictures())


@pytest.mark.parametrize("method", get_args(AttributionName))
@pytest.mark.parametrize("task", TASKS)
def test_without_hidden_layers_a_pixel_adds_its_weight_times_its_gray_level(task: str, method: Any) -> None:
    module = network(task, depth=0, width=[])
    # logit = Σ weight · (x − shift) · scale + bias: a pixel's part that is not there in a black picture is the first
    slope = module.network.output.weight.detach() * module.normalization.scale  # (outputs, pixels)
    images = pictures()
    for decision, row in {"multiclass": [(0, 0), (2, 2)], "binary": [(1, 0)], "regression": [(0, 0)]}[task]:
        expected = (slope[row] * images.flatten(1)).view(2, HEIGHT, WIDTH) * (7.0 if task == "regression" else 1.0)
        torch.testing.assert_close(pixel_attribution(module, images, decision, method), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["gelu", "tanh", "relu"])
@pytest.mark.parametrize("task", TASKS)
def test_integrated_gradients_add_up_to_the_difference_from_a_black_picture(task: str, activation: Any) -> None:
    """The completeness axiom of Sundararajan et al. 2017, proposition 1, to what so few steps leave of it."""
    module, images = network(task, activation=activation), pictures(3)
    with torch.no_grad():
        ends = [evidence(module, picture.float(), 1) for picture in (images, torch.zeros_like(images))]
    difference = ends[0] - ends[1]
    sums = pixel_attribution(module, images, 1).sum((1, 2))
    tolerance = {"gelu": 0.02, "tanh": 0.02, "relu": 0.05}[activation]
    assert (sums - difference).abs().max() <= tolerance * difference.abs().max()


def test_integrated_gradients_are_the_integral_in_their_definition() -> None:
    module, images = network(activation="gelu"), pictures(1).float()
    steps = (torch.arange(4000) + 0.5) / 4000  # the midpoint rule
    path = (steps[:, None, None] * images).requires_grad_()
    (slopes,) = torch.autograd.grad(module(path)[:, 2].sum(), path)
    expected = images[0] * slopes.mean(0)
    found = pixel_attribution(module, images, 2)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01 * expected.abs().max().item())


def test_gradient_times_input_is_the_slope_along_each_pixel() -> None:
    module, image = network(activation="tanh"), pictures(1).double()
    found = pixel_attribution(module, image, 0, "gradient_times_input")[0]
    module.double()
    step = 1e-3
    for row, column in ((0, 0), (3, 2), (4, 3)):
        ends = []
        for sign in (1, -1):
            moved = image.clone()
            moved[0, row, column] += sign * step
            with torch.no_grad():
                ends.append(module.network(module.normalization(moved))[0, 0])
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(found[row, column].double(), slope * image[0, row, column], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", get_args(AttributionName))
def test_what_speaks_for_one_of_two_classes_speaks_against_the_other(method: Any) -> None:
    module, images = network("binary"), pictures()
    torch.testing.assert_close(
        pixel_attribution(module, images, 0, method), -pixel_attribution(module, images, 1, method)
    )


@pytest.mark.parametrize("method", get_args(AttributionName))
def test_black_pixels_do_not_matter(method: Any) -> None:
    images = pictures()
    images[:, 1:3] = 0
    assert not pixel_attribution(network(), images, 1, method)[:, 1:3].any()


def test_a_compiled_network_is_asked_without_its_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    module = network()
    monkeypatch.setattr(module.network, "_compiled_call_impl", lambda *_: pytest.fail("compiled"))
    pixel_attribution(module, pictures(), 0)


def test_captum_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InputError) as refusal:
        pixel_attribution(network(), pictures(), 0)
    assert "captum" in refusal.value.cause
    assert ".[demo]" in refusal.value.remedy


def test_nothing_is_left_behind() -> None:
    module, images = network(), pictures()
    before: Sequence[Tensor] = [tensor.clone() for tensor in module.state_dict().values()]
    shares = pixel_attribution(module, images, 0)
    assert shares.dtype == torch.float32
    assert not shares.requires_grad
    assert torch.equal(images, pictures())
    assert all(torch.equal(old, new) for old, new in zip(before, module.state_dict().values(), strict=True))
    assert all(parameter.grad is None for parameter in module.parameters())
