"""What happens inside a network while it answers one picture: every layer's outputs, and which pixels mattered.

Both are pure functions of a network in evaluation mode and of gray levels; nothing is compiled, trained or stored.
"""

from typing import Literal, cast

import torch
from torch import Tensor

from project.network.layers import recorded_signals
from project.serving.packages import require
from project.training.module import ImageModule

AttributionName = Literal["integrated_gradients", "gradient_times_input"]
NUM_STEPS = 24
"""Points between black and the picture at which integrated gradients computes the gradient (Gauss-Legendre)."""


def layer_outputs(module: ImageModule, images: Tensor) -> list[Tensor]:
    """Each hidden layer's outputs after its activation, (n, units), then the logits, (n, outputs); all float32.

    Of a layer of channels it is each channel's mean over its places.

    Args:
        module: The network, in evaluation mode.
        images: Gray levels 0–255, uint8 or float32, (n, height, width).

    Raises:
        ValueError: If the network is in training mode, where dropout would make the answer random.
    """
    if module.training:
        raise ValueError("the network is in training mode: call module.eval() first")
    with recorded_signals(module.network) as signals:
        logits = module.network.forward(module.normalization(images))
    hidden = [activations.float() for _, activations in signals]
    return [*(one.flatten(2).mean(2) if one.ndim > 2 else one for one in hidden), logits.float()]


def evidence(module: ImageModule, images: Tensor, decision: int) -> Tensor:
    """The number that a picture's pixels explain, (n,).

    It is the decided class's logit; for the binary task the one logit, or its negative if the decision is class 0; for
    regression the output in the target's unit.

    Args:
        module: The network, in evaluation mode.
        images: Gray levels 0–255, float32, (n, height, width).
        decision: The class's index; regression ignores it.
    """
    logits = layer_outputs(module, images)[-1]
    if module.task == "multiclass":
        return logits[:, decision]
    if module.task == "binary":
        return logits[:, 0] if decision == 1 else -logits[:, 0]
    return module.spec.in_target_unit(logits[:, 0])


def pixel_attribution(
    module: ImageModule, images: Tensor, decision: int, method: AttributionName = "integrated_gradients"
) -> Tensor:
    """How much each pixel added to the `evidence`, or took from it, float32 (n, height, width).

    The shares of a pixel's channels are added up. A black pixel's share is 0 by both methods, because the picture is
    compared with an all-black one. The shares of integrated gradients add up to the difference between the two
    pictures' evidence.

    Args:
        module: The network, in evaluation mode.
        images: Levels 0–255, uint8 or float32, (n, height, width) or (n, height, width, channels).
        decision: The class's index; regression ignores it.
        method: gradient_times_input takes the gradient at the picture alone (Shrikumar et al. 2016, arXiv:1605.01713);
            integrated_gradients takes its mean on the way from black to the picture (Sundararajan et al. 2017,
            arXiv:1703.01365, equation 1).

    Raises:
        InputError: If captum is not installed.
    """
    captum = require("captum.attr", "demo")

    def explained(pictures: Tensor) -> Tensor:
        return evidence(module, pictures, decision)

    pictures = images.detach().float()
    if method == "gradient_times_input":
        shares = captum.InputXGradient(explained).attribute(pictures.requires_grad_())
    else:
        shares = captum.IntegratedGradients(explained).attribute(
            pictures, torch.zeros_like(pictures), n_steps=NUM_STEPS, method="gausslegendre"
        )
    shares = cast(Tensor, shares).detach()
    return shares if shares.ndim == 3 else shares.sum(3)
