"""The direct way through an epoch against Lightning's own: the same weights, the same calls, the same counts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness import compare
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from project.runs.build import Run, build_run
from project.runs.parser import parse_settings
from project.runs.train import train
from project.training.internals import STEP_HOOKS, EpochLoop, NoProfiler
from project.training.module import ImageModule

DIRECT: dict[str, list[str]] = {
    "default": [],
    "clipped by norm": ["--trainer.gradient_clip_val=0.1"],
    "clipped by value": ["--trainer.gradient_clip_val=0.01", "--trainer.gradient_clip_algorithm=value"],
    "muon": ["--model.optimizer=muon", "--model.warmup_fraction=0.3"],
    "no weight decay": ["--model.weight_decay=0", "--model.optimizer=momentum", "--model.schedule=constant"],
    "validated twice an epoch": ["--trainer.val_check_interval=0.5"],
    "a few batches": ["--trainer.limit_train_batches=3", "--checkpoint_every_n_steps=2"],
    "until a step": ["--trainer.max_steps=8"],
    "augmented regression": ["--model.task=regression", "--data.augmentation=mixup"],
}
INDIRECT: dict[str, list[str]] = {
    "accumulated": ["--trainer.accumulate_grad_batches=2"],
    "half precision": ["--trainer.precision=bf16-mixed"],
    "double precision": ["--trainer.precision=64-true"],
    "profiled": ["--trainer.profiler=simple"],
    "fast_dev_run": ["--trainer.fast_dev_run=2"],
}


class Witness(Callback):
    """Write down every call during a step, with the loss, gradients and what the module stores as the running hook."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []


def _note(name: str) -> Any:
    def hook(self: Witness, trainer: Any, module: Any, *arguments: Any) -> None:
        gradients = [None if p.grad is None else p.grad.double().sum().item() for p in module.parameters()]
        seen = [argument.item() for argument in arguments if isinstance(argument, Tensor)]
        if arguments and isinstance(arguments[0], dict):
            loss = arguments[0]["loss"]
            assert not loss.requires_grad
            seen.append(loss.item())
        self.calls.append((name, trainer.global_step, module._current_fx_name, gradients, seen))
        if name == "on_train_batch_end":
            module.log("witness/step", float(trainer.global_step), on_step=True, on_epoch=True, batch_size=1)

    return hook


for _name in STEP_HOOKS:
    setattr(Witness, _name, _note(_name))


def trained(flags: list[str]) -> tuple[Run, list[tuple[Any, ...]]]:
    run, witness = build_run(parse_settings(flags)), Witness()
    run.trainer.callbacks.append(witness)  # type: ignore[attr-defined]
    train(run)
    return run, witness.calls


def check_both_ways(small_run: list[str], monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Train directly, then again after a change that sends the run Lightning's way, and compare everything."""
    taken, step = [], EpochLoop._step

    def noted(*arguments: Any) -> Any:
        taken.append(True)
        return step(*arguments)

    monkeypatch.setattr(EpochLoop, "_step", noted)
    ours, calls = trained([*small_run, "--run_name=ours"])
    assert taken
    taken.clear()
    change()
    theirs, expected_calls = trained([*small_run, "--run_name=theirs"])
    assert not taken
    assert calls == expected_calls
    assert {name for name, *_ in calls} == set(STEP_HOOKS)
    assert ours.folder is not None
    assert theirs.folder is not None
    assert compare(ours.folder, theirs.folder) == []
    assert ours.trainer.callback_metrics == theirs.trainer.callback_metrics


@pytest.mark.parametrize("flags", DIRECT.values(), ids=DIRECT)
def test_both_ways_are_the_same(flags: list[str], small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    never = lambda self, fetcher: False  # noqa: E731
    check_both_ways(
        [*small_run, *flags], monkeypatch, lambda: monkeypatch.setattr(EpochLoop, "_may_go_directly", never)
    )


training_step = ImageModule.training_step


def with_another_signature(self: ImageModule, batch: Any, index: int) -> Tensor:
    return training_step(self, batch, index)


def returning_a_dict(self: ImageModule, batch: Any, batch_idx: int) -> dict[str, Tensor]:
    return {"loss": training_step(self, batch, batch_idx)}


def returning_none_at_times(self: ImageModule, batch: Any, batch_idx: int) -> Tensor | None:
    return training_step(self, batch, batch_idx)


def unannotated(self, batch, batch_idx):  # type: ignore[no-untyped-def]
    return training_step(self, batch, batch_idx)


@pytest.mark.parametrize("step", [with_another_signature, returning_a_dict, returning_none_at_times, unannotated])
def test_another_training_step_goes_lightnings_way(
    step: Any, small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_both_ways(small_run, monkeypatch, lambda: monkeypatch.setattr(ImageModule, "training_step", step))


def test_a_training_step_that_returns_what_it_does_not_say_is_refused(
    small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def annotated_wrongly(self: ImageModule, batch: Any, batch_idx: int) -> Tensor:
        return returning_a_dict(self, batch, batch_idx)  # type: ignore[return-value]

    monkeypatch.setattr(ImageModule, "training_step", annotated_wrongly)
    with pytest.raises(TypeError, match="dict"):
        trained(small_run)


class SGDFromElsewhere(torch.optim.SGD):
    """An optimizer of which only its author knows what it does with a closure."""


@pytest.mark.parametrize("optimizer", [torch.optim.LBFGS, SGDFromElsewhere])
def test_an_optimizer_that_may_need_its_closure_goes_lightnings_way(
    optimizer: Any, small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[Tensor] = []

    def configured(self: ImageModule) -> Any:
        made = optimizer(self.parameters(), lr=0.05)
        schedule = LambdaLR(made, lambda _: 1.0)
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "learning_rate"}}

    def noted(self: ImageModule, batch: Any, batch_idx: int) -> Tensor:
        losses.append(training_step(self, batch, batch_idx))
        return losses[-1]

    monkeypatch.setattr(ImageModule, "configure_optimizers", configured)
    monkeypatch.setattr(ImageModule, "training_step", noted)
    monkeypatch.setattr(EpochLoop, "_step", pytest.fail)
    run, _ = trained([*small_run, "--diagnostics.enabled=false", "--trainer.enable_checkpointing=false"])
    num_steps = run.trainer.global_step
    assert num_steps == 2 * (200 // 32)
    # LBFGS calls its closure, and with it the training step, several times a step
    assert (len(losses) > num_steps) == (optimizer is torch.optim.LBFGS)
    assert all(p.isfinite().all() for p in run.module.parameters())


@pytest.mark.parametrize("flags", INDIRECT.values(), ids=INDIRECT)
def test_everything_else_goes_lightnings_way(
    flags: list[str], small_run: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EpochLoop, "_step", pytest.fail)
    trained([*small_run, *flags])


@pytest.mark.parametrize("hook", ["on_before_optimizer_step", "optimizer_step", "lr_scheduler_step"])
def test_a_hook_of_the_modules_own_is_called(hook: str, small_run: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    inherited = getattr(ImageModule, hook)

    def own(self: ImageModule, *arguments: Any, **options: Any) -> Any:
        called.append(hook)
        return inherited(self, *arguments, **options)

    monkeypatch.setattr(ImageModule, hook, own)
    trained(small_run)
    assert called


def test_only_hooks_that_somebody_wrote_are_called(small_run: list[str]) -> None:
    run = build_run(parse_settings(small_run))
    train(run)
    loop = run.trainer.fit_loop.epoch_loop
    assert isinstance(loop, EpochLoop)
    assert isinstance(run.trainer.profiler, NoProfiler)  # type: ignore[attr-defined]
    assert not loop._hooks["on_before_backward"]
    assert len(loop._hooks["on_train_batch_end"]) < len(run.trainer.callbacks)  # type: ignore[attr-defined]


def test_a_hook_given_to_an_instance_is_called(small_run: list[str]) -> None:
    run, steps = build_run(parse_settings(small_run)), []
    run.trainer.callbacks.append(  # type: ignore[attr-defined]
        LambdaCallback(on_before_optimizer_step=lambda trainer, *_: steps.append(trainer.global_step))
    )
    train(run)
    assert steps == list(range(run.trainer.global_step))


class NeverWaiting(Callback):
    """Make every wait for the GPU within a step an error, except where a step is probed or logged, or the last one."""

    num_steps = 0

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        logged = (trainer.global_step + 1) % trainer.log_every_n_steps == 0
        if trainer.global_step > 0 and not logged and not trainer.is_last_batch:
            torch.cuda.set_sync_debug_mode("error")
            self.num_steps += 1

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("flags", [[], ["--trainer.precision=bf16-mixed"], ["--data.augmentation=[shift, cutmix]"]])
def test_no_step_waits_for_a_gpu(flags: list[str], small_run: list[str]) -> None:
    flags = [*small_run, *flags, "--trainer.accelerator=gpu", "--trainer.log_every_n_steps=3"]
    run, watch = build_run(parse_settings(flags)), NeverWaiting()
    run.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    train(run)
    assert watch.num_steps
