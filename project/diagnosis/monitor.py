"""Looking inside while the network trains: when it is probed, what is kept of it, and the judgement at the end."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from project.data.datamodule import ImageDataModule
from project.diagnosis.examples import chance_loss, layer_tags, probe_examples, spread
from project.diagnosis.judgement.data import judge_data
from project.diagnosis.judgement.findings import Finding, by_severity
from project.diagnosis.judgement.network import judge_network
from project.diagnosis.judgement.training import judge_training
from project.diagnosis.probe import LayerProbe, Probe, probe, summarise_data, update_to_weight_ratio
from project.network.mlp import HiddenLayer
from project.training.callbacks import stopped_early
from project.training.module import ImageModule

DATA_EXAMPLES = 4096
"""Training examples on which the data are judged."""


class DiagnosticsCallback(Callback):
    """Probe a fixed batch of the validation split every so many steps and at each epoch's end; judge at the end.

    Only the first process probes: the weights are the same on all, so there is nothing to reduce and nothing to wait
    for. What is measured before step n (counted from 0), and by how much step n changed the weights, is logged at n;
    what is measured at an epoch's end, at the epoch's last step.

    Args:
        settings: The run's settings by their flags' names, such as `model.activation`.
        every_n_steps: Optimizer steps from one probe to the next.

    Attributes:
        steps: Steps at which the network was probed, ascending.
        gradient_norms: For each of them, every layer's pre-activation gradient norm, the output layer's last.
        update_ratios: ‖change‖/‖weights‖ of every layer's weights in one step, None where they were zero, for every
            `every_n_steps`th step.
        findings: The judgement of network, training and data, the severest first; filled at the end of the training.
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
        self._first = _probe_from_dict(state["first"]) if state["first"] else None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # before the clock starts
            self._examples = probe_examples(cast(ImageModule, pl_module), _datamodule(trainer))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        # with accumulated parts, several batches belong to one step
        if not trainer.is_global_zero or step % self.every_n_steps or (self.steps and self.steps[-1] == step):
            return
        module = cast(ImageModule, pl_module)
        measured = self.probe(module)
        self._first = self._first or measured
        self._remember(measured, step)
        self._log(trainer, scalars(measured, module), step)
        self._before = [weight.detach().clone() for weight in _weights(module)]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._before or trainer.global_step == self.steps[-1]:
            return
        ratios = update_to_weight_ratio(self._before, _weights(cast(ImageModule, pl_module)))
        self._before = []
        self.update_ratios.append(ratios)
        names = layer_tags(len(ratios) - 1)
        values = {f"layer_update_ratio/{name}": ratio for name, ratio in zip(names, ratios, strict=True)}
        self._log(trainer, {tag: ratio for tag, ratio in values.items() if ratio is not None}, self.steps[-1])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        module, step = cast(ImageModule, pl_module), trainer.global_step - 1
        measured = self.probe(module, with_effective_rank=True)
        values = scalars(measured, module)
        if self.steps and self.steps[-1] == step:  # probed before this very step: only what is new
            values = {tag: value for tag, value in values.items() if tag.startswith("layer_effective_rank/")}
        else:
            self._remember(measured, step)
        self._log(trainer, values, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            module = cast(ImageModule, pl_module)
            self.judge(trainer, module, "early_stopped" if stopped_early(trainer, module) else "completed")

    def examples(self, module: ImageModule) -> tuple[Tensor, Tensor]:
        """Inputs, normalized and of the weights' type, and targets that every probe of this run looks at."""
        assert self._examples is not None
        inputs, targets = self._examples
        return inputs.to(module.mlp.output.weight.dtype), targets

    def probe(self, module: ImageModule, with_effective_rank: bool = False) -> Probe:
        """Probe the network as it is, on the examples that every probe of this run looks at."""
        return probe(module.mlp, *self.examples(module), module.loss, with_effective_rank=with_effective_rank)

    def judge(self, trainer: Trainer, module: ImageModule, status: str) -> list[Finding]:
        """Judge network, training and data as they stand into `findings`.

        Args:
            trainer: With the data module.
            module: The network and its history.
            status: As in metrics.json: completed, early_stopped, diverged or interrupted.
        """
        datamodule, spec = _datamodule(trainer), module.spec
        targets = datamodule.targets("train")[datamodule.splits["train"]]
        classes = len(spec.class_names)
        chance_accuracy = float(targets.bincount(minlength=classes).max() / len(targets)) if classes else None
        loss = chance_loss(self.settings, spec)
        findings = judge_network(
            self.probe(module, with_effective_rank=True),
            self.settings,
            trained=True,
            chance_loss=loss,
            earlier=[self._first] if self._first else (),
        )
        findings += judge_training(
            module.history,
            self.settings,
            status,
            chance_accuracy=chance_accuracy,
            chance_loss=loss,
            update_ratios=[ratio for ratios in self.update_ratios for ratio in ratios[:-1]],
        )
        source = datamodule.source("train").images
        images = source[datamodule.splits["train"][spread(len(targets), DATA_EXAMPLES)]]
        with torch.no_grad():
            inputs = module.normalization(images.to(module.device))
        # all labels, but only some of the pictures: a rare class must not look like a missing one
        summary = summarise_data(inputs)
        if classes:
            shares = (targets.bincount(minlength=classes) / len(targets)).tolist()
            summary = type(summary)(**{**asdict(summary), "class_fractions": shares})
        self.findings = by_severity([*findings, *judge_data(summary, spec.class_names)])
        return self.findings

    def _remember(self, measured: Probe, step: int) -> None:
        self.steps.append(step)
        self.gradient_norms.append([layer.pre_activation_gradient_norm for layer in _layers(measured)])

    def _log(self, trainer: Trainer, values: dict[str, float], step: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(values, step)


def scalars(measured: Probe, module: ImageModule) -> dict[str, float]:
    """A probe's numbers for the Scalars tab: QUANTITY/LAYER, in a group for each quantity.

    For activations that saturate it gives the saturated share, for the others the share of silent units.
    """
    values: dict[str, float] = {"diagnostics/probe_loss": measured.loss}
    if measured.gradient_ratio is not None:
        values["diagnostics/gradient_ratio"] = measured.gradient_ratio
    layers = _layers(measured)
    for index, (layer, name) in enumerate(zip(layers, layer_tags(len(measured.hidden)), strict=True)):
        numbers: dict[str, float | None] = {
            "pre_activation_sd": layer.pre_activation_sd,
            "gradient_norm": layer.pre_activation_gradient_norm,
            "weight_gradient_norm": layer.weight_gradient_norm,
            "weight_norm": layer.weight_norm,
            "effective_rank": layer.effective_rank,
        }
        if index < len(measured.hidden):
            numbers |= {"activation_mean": layer.activation_mean, "activation_sd": layer.activation_sd}
            row = cast(HiddenLayer, module.mlp.hidden[index]).activation_row
            share = "dead_fraction" if row.saturation is None else "saturated_fraction"
            numbers[share] = getattr(layer, share)
        values |= {f"layer_{quantity}/{name}": number for quantity, number in numbers.items() if number is not None}
    return values


def _layers(measured: Probe) -> list[LayerProbe]:
    return [*measured.hidden, measured.output]


def _weights(module: ImageModule) -> list[Tensor]:
    return [*(cast(HiddenLayer, layer).linear.weight for layer in module.mlp.hidden), module.mlp.output.weight]


def _datamodule(trainer: Trainer) -> ImageDataModule:
    return cast(ImageDataModule, cast(Any, trainer).datamodule)


def _probe_from_dict(numbers: dict[str, Any]) -> Probe:
    hidden = [LayerProbe(**layer) for layer in numbers["hidden"]]
    return Probe(**{**numbers, "hidden": hidden, "output": LayerProbe(**numbers["output"])})
