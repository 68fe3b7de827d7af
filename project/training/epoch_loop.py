"""Lightning's loop over an epoch's batches, without what a small network waits for."""

from collections.abc import Callable
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loops.fetchers import _DataFetcher, _PrefetchDataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.nn import Parameter

from project.data.datamodule import ImageDataModule
from project.data.loaders import TrainLoader
from project.training.callbacks import NoProfiler

STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""What callbacks are asked during a step, in this order."""
MODULE_HOOKS = (
    *STEP_HOOKS,
    "backward",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "optimizer_step",
    "optimizer_zero_grad",
)
"""What Lightning asks the module besides `training_step`; a module with one of its own is trained Lightning's way."""
BATCH_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class EpochLoop(_TrainingEpochLoop):
    """Train on batch after batch, calling the hooks that somebody wrote and no others.

    Lightning's own loop asks every callback, the module and the strategy at some forty places of each step, each time
    with a profiler around it, which takes longer than the step of a small network. The direct way here makes the same
    calls in the same order without asking. It is taken on one device in full precision, without accumulation, profiler
    or hooks of the module; everything else, several devices too, goes Lightning's way.

    Args:
        trainer: Whose loop this replaces.
    """

    def __init__(self, trainer: Trainer) -> None:
        replaced = trainer.fit_loop.epoch_loop
        super().__init__(trainer, replaced.min_steps, replaced.max_steps)
        self._hooks: dict[str, list[Callable[..., None]]] = {}  # those to call; empty where Lightning goes its own way
        self._parameters: list[Parameter] = []

    def _broadcast_sigterm_tensor(self) -> None:
        """Nothing: `RunCheckpoint` asks all processes about signals without making them wait for each other."""

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        self._hooks = {}
        if self._may_go_directly(data_fetcher):
            self._parameters = list(self.trainer.lightning_module.parameters())
            callbacks: list[Callback] = self.trainer.callbacks
            self._hooks = {
                name: [getattr(callback, name) for callback in callbacks if _is_own(callback, name, Callback)]
                for name in STEP_HOOKS
            }

    def _may_go_directly(self, data_fetcher: _DataFetcher) -> bool:
        trainer, module = self.trainer, self.trainer.lightning_module
        datamodule = cast(Any, trainer).datamodule
        return (
            type(trainer.strategy) is SingleDeviceStrategy
            and type(trainer.precision_plugin) is Precision
            and type(data_fetcher) is _PrefetchDataFetcher
            and isinstance(trainer.profiler, NoProfiler)
            and trainer.accumulate_grad_batches == 1
            and not trainer.fast_dev_run
            and module.automatic_optimization
            and isinstance(trainer.train_dataloader, TrainLoader)  # whose batches are on the device already
            and not any(_is_own(module, name, LightningModule) for name in (*MODULE_HOOKS, *BATCH_HOOKS))
            and not any(_is_own(datamodule, name, ImageDataModule) for name in BATCH_HOOKS)
            and all(
                config.interval == "step" and not config.reduce_on_plateau for config in trainer.lr_scheduler_configs
            )
        )

    def _call(self, name: str, *arguments: Any) -> None:
        if hooks := self._hooks[name]:
            module = self.trainer.lightning_module
            module._current_fx_name = name
            for hook in hooks:
                hook(self.trainer, module, *arguments)
            module._current_fx_name = None

    def advance(self, data_fetcher: _DataFetcher) -> None:
        if not self._hooks or self.restarting:
            super().advance(data_fetcher)
            return
        trainer, module = self.trainer, self.trainer.lightning_module
        self.val_loop.restarting = False
        batch, _, _ = next(data_fetcher)
        batch_idx = self.batch_idx + 1
        self.batch_progress.is_last_batch = data_fetcher.done
        self.batch_progress.increment_ready()
        trainer._logger_connector.on_batch_start(batch)
        self._call("on_train_batch_start", batch, batch_idx)
        self.batch_progress.increment_started()
        loss = self._step(module, batch, batch_idx)
        self.batch_progress.increment_processed()
        for config in trainer.lr_scheduler_configs:
            if (batch_idx + 1) % config.frequency == 0:
                self.scheduler_progress.increment_ready()
                config.scheduler.step()
                self.scheduler_progress.increment_completed()
        self._call("on_train_batch_end", {"loss": loss}, batch, batch_idx)
        trainer._logger_connector.on_batch_end()
        self.batch_progress.increment_completed()
        trainer._logger_connector.update_train_step_metrics()

    def _step(self, module: LightningModule, batch: Any, batch_idx: int) -> Tensor:
        """One forward and backward pass and one optimizer step; the loss, detached."""
        optimizer, progress = self.trainer.optimizers[0], self.automatic_optimization.optim_progress.optimizer
        progress.step.increment_ready()
        module._current_fx_name = "training_step"
        loss = cast(Tensor, module.training_step(batch, batch_idx))
        module._current_fx_name = None
        progress.zero_grad.increment_ready()
        self._call("on_before_zero_grad", optimizer)
        progress.zero_grad.increment_started()
        for parameter in self._parameters:
            parameter.grad = None
        progress.zero_grad.increment_completed()
        self._call("on_before_backward", loss)
        loss.backward()  # type: ignore[no-untyped-call]
        self._call("on_after_backward")
        self._call("on_before_optimizer_step", optimizer)
        if self.trainer.gradient_clip_val:
            module.clip_gradients(optimizer, self.trainer.gradient_clip_val, self.trainer.gradient_clip_algorithm)
        optimizer.step()
        progress.step.increment_completed()
        return loss.detach()


def _is_own(owner: object, name: str, base: type) -> bool:
    """Whether a hook was written by somebody, and is not the empty one that Lightning gives."""
    hook = getattr(owner, name)
    return callable(hook) and getattr(hook, "__func__", None) is not getattr(base, name)


def mend(trainer: Trainer) -> None:
    """Give Lightning the project's loop over batches, and keep it from two things that would undo what is promised.

    It handles SIGTERM, without a checkpoint, and on several processes with a deadlock. And with `max_steps` it takes
    every resumption for one in mid-epoch, and runs the epoch's end that was saved once more.
    """
    trainer.fit_loop.epoch_loop = EpochLoop(trainer)
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
