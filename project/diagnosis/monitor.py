"""Look inside a network while it trains: when it is probed, what is kept of it, and the judgement at the end."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from project.data.datamodule import ImageDataModule
from project.data.loaders import spread_examples
from project.diagnosis.judgement.data import summarise_data
from project.diagnosis.judgement.findings import Finding, by_severity
from project.diagnosis.judgement.training import judge
from project.diagnosis.measurement.evidence import Evidence, probe_from
from project.diagnosis.measurement.examples import layer_tags, probe_examples
from project.diagnosis.measurement.forces import ForceMeter, Forces, is_sampled
from project.diagnosis.measurement.probe import Probe, probe, update_to_weight_ratio
from project.diagnosis.measurement.reference import MAX_EXAMPLES, reference_error
from project.errors import DivergenceError
from project.network.layers import evaluating
from project.settings import flatten
from project.task import decide
from project.training.callbacks import how_it_ended
from project.training.metrics import score
from project.training.module import ImageModule


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
        forces: What acted on the weights at steps that are evenly spaced over the training.
        evidence: Everything that the judgement is made from; None before the training ends.
        findings: What was found in network, training and data, the most severe first; filled when the training ends,
            and again when the test is done.
    """

    def __init__(self, settings: Mapping[str, Any], every_n_steps: int) -> None:
        self.settings, self.every_n_steps = dict(settings), every_n_steps
        self.steps: list[int] = []
        self.gradient_norms: list[list[float]] = []
        self.forces: list[Forces] = []
        self.evidence: Evidence | None = None
        self.findings: list[Finding] = []
        self._first: Probe | None = None
        self._examples: tuple[Tensor, Tensor] | None = None
        self._before: list[Tensor] = []  # the weights before a step whose change is measured
        self._meter: ForceMeter | None = None
        self._num_steps = 0  # of the whole training: asked once, as it takes longer than a small network's step

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": list(self.steps),
            "gradient_norms": list(self.gradient_norms),
            "forces": [asdict(forces) for forces in self.forces],
            "first": asdict(self._first) if self._first else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.gradient_norms = list(state["steps"]), list(state["gradient_norms"])
        # a checkpoint of an older version has none
        self.forces = [Forces(**forces) for forces in state.get("forces", [])]
        self._first = probe_from(first) if (first := state["first"]) else None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:  # before the clock starts
            module = cast(ImageModule, pl_module)
            self._examples = probe_examples(module, datamodule_of(trainer))
            self._num_steps = module.num_steps

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        step, module = trainer.global_step, cast(ImageModule, pl_module)
        # with accumulated parts, several batches belong to one step
        if not trainer.is_global_zero or batch_idx % trainer.accumulate_grad_batches:
            return
        if is_sampled(step, self._num_steps) and step not in {forces.step for forces in self.forces[-1:]}:
            weights = [layer.weight for layer in module.network.layers()]
            by_value = trainer.gradient_clip_algorithm == "value"
            self._meter = ForceMeter(weights, cast("float | None", trainer.gradient_clip_val), by_value)
        if step % self.every_n_steps or step in self.steps[-1:]:
            return
        measured = self.probe(module)
        self._first = self._first or measured
        self._remember(measured, step)
        _log(trainer, scalars(measured, module), step)
        self._before = [layer.weight.detach().clone() for layer in module.network.layers()]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self._meter is not None:
            self._meter.see_gradients(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._meter is not None and (measured := self._meter.forces(trainer.global_step - 1, trainer.optimizers[0])):
            self.forces.append(measured)
            self._meter = None
        if not self._before or trainer.global_step == self.steps[-1]:
            return
        after = [layer.weight for layer in cast(ImageModule, pl_module).network.layers()]
        ratios = update_to_weight_ratio(self._before, after)
        self._before = []
        tagged = zip(layer_tags(len(ratios) - 1), ratios, strict=True)
        values = {f"layer_update_ratio_log10/{tag}": log10(ratio) for tag, ratio in tagged}
        _log(trainer, _known(values), self.steps[-1])

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
            self._conclude(self._collect(trainer, cast(ImageModule, pl_module)))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, DivergenceError) and trainer.is_global_zero and self._examples is not None:
            self._conclude(replace(self._collect(trainer, cast(ImageModule, pl_module)), status="diverged"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.evidence is not None and trainer.state.fn == TrainerFn.VALIDATING:  # after the training
            self._conclude(replace(self.evidence, validation_error=_error(cast(ImageModule, pl_module))))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.evidence is None:
            return
        self._conclude(replace(self.evidence, test_error=_error(cast(ImageModule, pl_module))))
        if any(finding.code == "test_differs" for finding in self.findings):
            # imported late: hardly any training needs what examines the data
            from project.diagnosis.data_examination.examination import explain_shift

            self.findings = by_severity([*self.findings, *explain_shift(datamodule_of(trainer))])

    def _conclude(self, evidence: Evidence) -> None:
        self.evidence, self.findings = evidence, judge(evidence)

    def examples(self, module: ImageModule) -> tuple[Tensor, Tensor]:
        """Inputs, normalized and of the weights' type, and targets that every probe of this run looks at."""
        assert self._examples is not None
        inputs, targets = self._examples
        return inputs.to(module.network.output.weight.dtype), targets

    def probe(self, module: ImageModule, with_effective_rank: bool = False) -> Probe:
        """Probe the network as it is, on the examples that every probe of this run looks at."""
        return probe(module.network, *self.examples(module), module.loss, with_effective_rank=with_effective_rank)

    def _collect(self, trainer: Trainer, module: ImageModule) -> Evidence:
        """Measure what is left to measure of the network as it is now."""
        datamodule, spec, task = datamodule_of(trainer), module.spec, module.task
        indices = datamodule.splits["train"]
        targets = datamodule.targets("train")[indices]
        counts = targets.bincount(minlength=len(spec.class_names)) if spec.class_names else None
        shares = [] if counts is None else (counts / len(targets)).tolist()
        validated = datamodule.settings.is_validated
        known = spread_examples(datamodule.evaluation_loader("train"), MAX_EXAMPLES)
        held = spread_examples(datamodule.evaluation_loader("validation" if validated else "test"), MAX_EXAMPLES)
        with evaluating(module):
            logits, inputs, held_inputs = module(known.images), *map(module.normalization, (known.images, held.images))
        known_targets, held_targets = known.targets, held.targets
        if task == "regression":
            known_targets, held_targets = spec.standardized(known_targets), spec.standardized(held_targets)
            train_error = float((logits[:, 0] - known_targets).square().mean().sqrt())
        else:
            decided = decide(logits, task)
            train_error = float((decided != known_targets).float().mean())
        return Evidence(
            # with the numbers that the module really has
            settings=self.settings | flatten({"model": asdict(module.settings)}),
            status=how_it_ended(trainer, module),
            history=module.history,
            num_steps=module.num_steps,
            num_train=len(indices),
            num_validation=datamodule.num_validation,
            num_test=len(datamodule.splits["test"]),
            steps_per_epoch=datamodule.num_steps_per_epoch,
            num_classes=len(spec.class_names),
            first=self._first,
            last=self.probe(module, with_effective_rank=True),
            forces=self.forces,
            train_error=train_error,
            reference_error=reference_error(inputs, known_targets, held_inputs, held_targets, task),
            chance_error=1.0 if counts is None else 1 - max(shares),
            decided_classes=[]
            if counts is None
            else (decided.bincount(minlength=len(spec.class_names)) / len(decided)).tolist(),
            data=summarise_data(inputs, shares, spec.class_names),
        )

    def _remember(self, measured: Probe, step: int) -> None:
        self.steps.append(step)
        self.gradient_norms.append([layer.pre_activation_gradient_norm for layer in measured.layers])


def scalars(measured: Probe, module: ImageModule) -> dict[str, float]:
    """A probe's numbers for the loggers: QUANTITY/LAYER, in a group for each quantity.

    Gradients differ by powers of ten, so their decimal logarithms are given: a chart with a linear axis shows nothing
    of the small ones. For activations that saturate it gives the saturated share, for the others the share of silent
    units.
    """
    values: dict[str, float | None] = {
        "diagnostics/probe_loss": measured.loss,
        "diagnostics/gradient_ratio_log10": log10(measured.gradient_ratio),
    }
    tags = layer_tags(len(measured.hidden))
    for layer, tag, described in zip(measured.layers, tags, module.network.layers(), strict=True):
        values |= {
            f"layer_pre_activation_sd/{tag}": layer.pre_activation_sd,
            f"layer_gradient_norm_log10/{tag}": log10(layer.pre_activation_gradient_norm),
            f"layer_weight_gradient_norm_log10/{tag}": log10(layer.weight_gradient_norm),
            f"layer_weight_norm/{tag}": layer.weight_norm,
            f"layer_effective_rank/{tag}": layer.effective_rank,
        }
        values |= {f"layer_{name}/{tag}": value for name, value in layer.own.items()}
        if described.activation is not None:
            share = "dead_fraction" if described.activation_row.saturation is None else "saturated_fraction"
            for quantity in ("activation_mean", "activation_sd", share):
                values[f"layer_{quantity}/{tag}"] = getattr(layer, quantity)
    return _known(values)


def log10(value: float | None) -> float | None:
    """The decimal logarithm; None of what has none, such as the gradient 0 of a dead layer."""
    return math.log10(value) if value is not None and value > 0 else None


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {tag: value for tag, value in values.items() if value is not None}


def _error(module: ImageModule) -> float | None:
    """The error of the last evaluation, as `Evidence` counts it; None where nothing was evaluated."""
    if module.evaluated is None:
        return None
    value = score(*module.evaluated, module.task)
    return value / module.spec.target_sd if module.task == "regression" else 1 - value


def datamodule_of(trainer: Trainer) -> ImageDataModule:
    return cast(ImageDataModule, cast(Any, trainer).datamodule)


def _log(trainer: Trainer, values: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step)
