"""Look inside a network while it trains: when it is probed, what is kept of it, and the judgement at the end."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from project.data.datamodule import ImageDataModule
from project.diagnosis.examples import chance_loss, layer_tags, probe_examples, spread
from project.diagnosis.judgement.data import judge_data, summarise_data
from project.diagnosis.judgement.findings import Finding, by_severity
from project.diagnosis.judgement.network import judge_network
from project.diagnosis.judgement.training import judge_training
from project.diagnosis.probe import LayerProbe, Probe, linear_layers, probe, update_to_weight_ratio
from project.network.mlp import HiddenLayer
from project.training.callbacks import stopped_early
from project.training.module import ImageModule

MAX_DATA_EXAMPLES = 4096
"""Training examples on which the data are judged."""


class DiagnosticsCallback(Callback):
    """Probe a fixed batch of the validation split every so many steps and at each epoch's end; judge at the end.

    Only the first process probes: the weights are the same on all, so there is nothing to reduce and nothing to wait
    for. What is measured before step n (counted from 0), and by how much step n changed the weights, is logged at n;
    what is measured at an epoch's end, at the epoch's last step.

    Args:
        settings: The run's settings by their flags' names, such as `model.activation`.
        every_n_steps: How many optimizer steps lie between two probes.

    Attributes:
        steps: The steps at which the network was probed, ascending.
        gradient_norms: For each of them, every layer's pre-activation gradient norm, the output layer's last.
        update_ratios: For every `every_n_steps`th step, ‖change‖/‖weights‖ of every layer's weights, None where they
            were zero.
        findings: What was found in network, training and data, the most severe first; filled when the training ends.
    """

    def __init__(self, settings: Mapping[str, Any], every_n_steps: int) -> None:
        self.settings, self.every_n_steps = dict(settings), every_n_steps
        self.steps: list[int] = []
        self.gradient_norms: list[list[float]] = []
        self.update_ratios: list[list[float | None]] = []
        self.findings: list[Finding] = []
        self._first: Probe | None = None
        self._examples: tuple[Tensor, Tensor] | None = None
        self._before: list[Tensor] = []  # the weights before a step whose change is measured

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": list(self.steps),
            "gradient_norms": list(self.gradient_norms),
            "update_ratios": list(self.update_ratios),
            "first": asdict(self._first) if self._first else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.gradient_norms = list(state["steps"]), list(state["gradient_norms"])
        self.update_ratios = list(state["update_ratios"])
        if first := state["first"]:
            layers = {
                "hidden": [LayerProbe(**layer) for layer in first["hidden"]],
                "output": LayerProbe(**first["output"]),
            }
            self._first = Probe(**{**first, **layers})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # before the clock starts
            self._examples = probe_examples(cast(ImageModule, pl_module), datamodule_of(trainer))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        # with accumulated parts, several batches belong to one step
        if not trainer.is_global_zero or step % self.every_n_steps or step in self.steps[-1:]:
            return
        module = cast(ImageModule, pl_module)
        measured = self.probe(module)
        self._first = self._first or measured
        self._remember(measured, step)
        _log(trainer, scalars(measured, module), step)
        self._before = [linear.weight.detach().clone() for linear in linear_layers(module.mlp)]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._before or trainer.global_step == self.steps[-1]:
            return
        after = [linear.weight for linear in linear_layers(cast(ImageModule, pl_module).mlp)]
        ratios = update_to_weight_ratio(self._before, after)
        self._before = []
        self.update_ratios.append(ratios)
        tagged = zip(layer_tags(len(ratios) - 1), ratios, strict=True)
        values = {f"layer_update_ratio/{tag}": ratio for tag, ratio in tagged if ratio is not None}
        _log(trainer, values, self.steps[-1])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        module, step = cast(ImageModule, pl_module), trainer.global_step - 1
        measured = self.probe(module, with_effective_rank=True)
        values = scalars(measured, module)
        if step in self.steps[-1:]:  # probed before this very step: only what is new
            values = {tag: value for tag, value in values.items() if tag.startswith("layer_effective_rank/")}
        else:
            self._remember(measured, step)
        _log(trainer, values, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.findings = self._judge(trainer, cast(ImageModule, pl_module))

    def examples(self, module: ImageModule) -> tuple[Tensor, Tensor]:
        """Inputs, normalized and of the weights' type, and targets that every probe of this run looks at."""
        assert self._examples is not None
        inputs, targets = self._examples
        return inputs.to(module.mlp.output.weight.dtype), targets

    def probe(self, module: ImageModule, with_effective_rank: bool = False) -> Probe:
        """Probe the network as it is, on the examples that every probe of this run looks at."""
        return probe(module.mlp, *self.examples(module), module.loss, with_effective_rank=with_effective_rank)

    def _judge(self, trainer: Trainer, module: ImageModule) -> list[Finding]:
        """Judge network, training and data as they are now."""
        datamodule, spec = datamodule_of(trainer), module.spec
        indices = datamodule.splits["train"]
        targets = datamodule.targets("train")[indices]
        counts = targets.bincount(minlength=len(spec.class_names)) if spec.class_names else None
        shares = [] if counts is None else (counts / len(targets)).tolist()
        loss = chance_loss(self.settings, spec)
        network = judge_network(
            self.probe(module, with_effective_rank=True),
            self.settings,
            trained=True,
            chance_loss=loss,
            earlier=[self._first] if self._first else (),
        )
        training = judge_training(
            module.history,
            self.settings,
            "early_stopped" if stopped_early(trainer, module) else "completed",
            chance_accuracy=max(shares, default=None),
            chance_loss=loss,
            update_ratios=[ratio for ratios in self.update_ratios for ratio in ratios[:-1]],
        )
        images = datamodule.source("train").images[indices[spread(len(targets), MAX_DATA_EXAMPLES)]]
        with torch.no_grad():
            inputs = module.normalization(images.to(module.device))
        return by_severity([*network, *training, *judge_data(summarise_data(inputs, shares), spec.class_names)])

    def _remember(self, measured: Probe, step: int) -> None:
        self.steps.append(step)
        self.gradient_norms.append([layer.pre_activation_gradient_norm for layer in measured.layers])


def scalars(measured: Probe, module: ImageModule) -> dict[str, float]:
    """A probe's numbers for the Scalars tab: QUANTITY/LAYER, in a group for each quantity.

    For activations that saturate it gives the saturated share, for the others the share of silent units.
    """
    values: dict[str, float | None] = {
        "diagnostics/probe_loss": measured.loss,
        "diagnostics/gradient_ratio": measured.gradient_ratio,
    }
    for index, (layer, tag) in enumerate(zip(measured.layers, layer_tags(len(measured.hidden)), strict=True)):
        values |= {
            f"layer_pre_activation_sd/{tag}": layer.pre_activation_sd,
            f"layer_gradient_norm/{tag}": layer.pre_activation_gradient_norm,
            f"layer_weight_gradient_norm/{tag}": layer.weight_gradient_norm,
            f"layer_weight_norm/{tag}": layer.weight_norm,
            f"layer_effective_rank/{tag}": layer.effective_rank,
        }
        if index < len(measured.hidden):
            row = cast(HiddenLayer, module.mlp.hidden[index]).activation_row
            share = "dead_fraction" if row.saturation is None else "saturated_fraction"
            for quantity in ("activation_mean", "activation_sd", share):
                values[f"layer_{quantity}/{tag}"] = getattr(layer, quantity)
    return {tag: value for tag, value in values.items() if value is not None}


def datamodule_of(trainer: Trainer) -> ImageDataModule:
    return cast(ImageDataModule, cast(Any, trainer).datamodule)


def _log(trainer: Trainer, values: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step)
