"""Every place that uses private parts of Lightning or torch, which may change in any release.

Each place says why it does so, since which version the private part is as described, and which test fails when it
changes. setup.cfg allows no Lightning after the minor release that this module was written for.
"""

import csv
import inspect
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_type_hints

from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import LearningRateFinder, Timer
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loops.fetchers import _DataFetcher, _PrefetchDataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.tuner import lr_finder
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from project.data.datamodule import ImageDataModule
from project.data.loaders import TrainLoader
from project.inside import open_inside

STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
"""The hooks of callbacks that a step calls, in this order."""
# fmt: off
MODULE_HOOKS = (
    *STEP_HOOKS,
    "backward", "configure_gradient_clipping", "lr_scheduler_step", "optimizer_step", "optimizer_zero_grad",
)
# fmt: on
"""The hooks of the module that Lightning's loop calls; a module that has written one is trained by Lightning's loop."""
BATCH_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class NoProfiler(PassThroughProfiler):
    """Measure nothing, as Lightning's own does, but without making a new context some forty times a step.

    Since Lightning 2.0; `test_only_hooks_that_somebody_wrote_are_called`.
    """

    _nothing = nullcontext()

    def profile(self, action_name: str) -> "nullcontext[None]":  # type: ignore[override]
        return self._nothing


class EpochLoop(_TrainingEpochLoop):
    """Train on batch after batch, calling the hooks that somebody wrote and no others.

    Lightning's own loop calls every callback, the module and the strategy at some forty places of each step, each time
    with a profiler around it, which takes longer than the step of a small network. The direct way here makes the same
    calls in the same order, but leaves out the hooks that are empty. It is taken on one device in full precision,
    without accumulation, profiler or hooks of the module; everything else, also several devices, goes Lightning's way.

    Since Lightning 2.0; `test_both_ways_are_the_same` and `test_everything_else_goes_lightnings_way`.
    """

    def __init__(self, trainer: Trainer) -> None:
        replaced = trainer.fit_loop.epoch_loop
        super().__init__(trainer, replaced.min_steps, replaced.max_steps)
        self._hooks: dict[str, list[Callable[..., None]]] = {}  # those to call; empty where Lightning goes its own way
        self._parameters: list[Parameter] = []

    def _broadcast_sigterm_tensor(self) -> None:
        """Do nothing: `RunCheckpoint` shares signals without a wait (since 2.6; the tests of signals)."""

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
            and _returns_a_loss(module)
            and len(trainer.optimizers) == 1
            and _steps_without_closure(trainer.optimizers[0])
            and isinstance(trainer.train_dataloader, TrainLoader)  # its batches are on the device already
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
        loss = module.training_step(batch, batch_idx)
        if not isinstance(loss, Tensor):  # it said so: see _returns_a_loss
            raise TypeError(f"training_step is annotated to return a Tensor, but returned {type(loss).__name__}")
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
    """Whether somebody wrote this hook, so that it is not the empty one of the base class."""
    hook = getattr(owner, name)
    return callable(hook) and getattr(hook, "__func__", None) is not getattr(base, name)


def _returns_a_loss(module: LightningModule) -> bool:
    """Whether `training_step(batch, batch_idx)` says that it returns a tensor, not a dict or None."""
    try:
        hints = get_type_hints(module.training_step)
    except NameError:  # an annotation that only a type checker can read
        return False
    parameters = list(inspect.signature(module.training_step).parameters)
    return hints.get("return") is Tensor and parameters == ["batch", "batch_idx"]


def _steps_without_closure(optimizer: Optimizer) -> bool:
    """Whether `step()` after the backward pass is the same as `step(closure)`, as in most of torch's optimizers.

    LBFGS calls its closure several times, and what an optimizer from elsewhere does with one is not known.
    """
    known = type(optimizer).__module__.startswith(("torch.optim.", "project.network."))
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return known and (closure is None or closure.default is None)


def quieten_lightning() -> None:
    """Stop Lightning's messages about devices and products: its import sets its loggers to INFO (since before 2.0).

    MLflow reports every table of its new database, and Lightning that it makes an experiment.
    """
    for library in ("pytorch_lightning", "lightning_fabric", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)


def adapt_trainer(trainer: Trainer) -> None:
    """Give Lightning the project's loop over batches, and switch off two things that lose or repeat work.

    It handles SIGTERM without a checkpoint, and in several processes with a deadlock (since before 2.0; the tests of
    signals). And with `max_steps` it treats every resumption as one in the middle of an epoch, and runs the saved
    epoch's end once more (seen in 2.6; the tests of resumption that stop at a step).

    A Timer, that of `max_time` too, would stop in the middle of an epoch, whose other batches a resumed run would never
    see: here it stops after the epoch (since before 2.0; `test_a_limit_on_time_ends_after_a_whole_epoch`).
    """
    for callback in cast(Any, trainer).callbacks:
        if isinstance(callback, Timer):
            callback._interval = "epoch"
    trainer.fit_loop.epoch_loop = EpochLoop(trainer)
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]


def range_test(finder: LearningRateFinder, trainer: Trainer, module: LightningModule) -> float | None:
    """The learning rate that Lightning's range test suggests; the run is afterwards as it was before.

    The test counts its steps within the training's last epoch, so that a short training would cut it off, and changes
    the rate in the optimizer alone (seen in 2.6; `test_the_learning_rate_finder`).
    """
    loop = trainer.fit_loop
    max_epochs, loop.max_epochs, finder._update_attr = loop.max_epochs, -1, False
    cast(Any, lr_finder).tqdm = partial(Tqdm, disable=None, leave=False)  # as any bar: only on a terminal
    try:
        finder.lr_find(trainer, module)
    finally:
        loop.max_epochs = max_epochs
    return None if finder.optimal_lr is None else finder.optimal_lr.suggestion()


def tensorboard_tag(name: str) -> str | None:
    """TensorBoard's name of a value; None of one that it does not show.

    TensorBoard opens on the first two groups of names, a group being what comes before the first slash. So the curves
    of training and validation are in a group that comes before all others: train/loss is curves/loss/train, and
    validation/accuracy is curves/accuracy/validation. The epoch, which Lightning adds to everything, is no curve.
    """
    if name == "epoch":
        return None
    if name == "learning_rate":
        return "curves/optimizer/learning_rate"
    split, _, quantity = name.partition("/")
    curve = quantity.removesuffix("_step")
    if split in ("train", "validation") and curve in ("loss", "accuracy", "rmse"):
        return f"curves/{curve}/{split}{quantity.removeprefix(curve)}"
    return name


def prepare_logger(logger: Logger, step: int | None) -> None:
    """Let a logger begin in a run's folder, or go on where a resumed run goes on, which logs again from this step on.

    TensorBoard gets names of its own: see `tensorboard_tag`.

    TensorBoard, which reads event files in the order of their names, hides the old values, and a CSV file loses them:
    Lightning's logger would warn of a folder that is not empty, and delete the whole file. MLflow and Weights & Biases
    go on with the same run, but keep the old values beside the new ones, which are the same (since before 2.0;
    `test_a_resumed_run_logs_what_an_unbroken_one_does`).
    """
    if isinstance(logger, TensorBoardLogger):
        log_metrics = logger.log_metrics

        def log_by_tag(metrics: Mapping[str, Any], step: int | None = None) -> None:
            tags = {tensorboard_tag(name): value for name, value in metrics.items()}
            log_metrics({tag: value for tag, value in tags.items() if tag is not None}, step)

        logger.log_metrics = log_by_tag  # type: ignore[method-assign]
        logger._kwargs["purge_step"] = step
        with next_event_file(Path(logger.log_dir)):
            writer: Any = logger.experiment
        begin = writer._get_file_writer

        def begin_in_order() -> Any:
            """Torch's writer begins another file when something is logged after Lightning has closed it."""
            if writer.file_writer is not None:
                return begin()
            with next_event_file(Path(writer.log_dir)):
                return begin()

        writer._get_file_writer = begin_in_order
    elif isinstance(logger, CSVLogger):
        folder, rows = Path(logger.log_dir), []
        if step is not None and (folder / "metrics.csv").is_file():
            with open_inside(folder, "metrics.csv", "r", newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) < step]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Previous log files in this directory will be deleted.*")
            cast(Any, logger.experiment).metrics = [{k: v for k, v in row.items() if v} for row in rows]
    elif isinstance(logger, MLFlowLogger) and step is not None:
        experiment = logger._mlflow_client.get_experiment_by_name(logger._experiment_name)
        runs = logger._mlflow_client.search_runs([experiment.experiment_id], max_results=1) if experiment else []
        logger._run_id = runs[0].info.run_id if runs else None
    elif isinstance(logger, WandbLogger) and step is not None and not logger._wandb_init["id"]:
        kept = sorted(Path(logger._wandb_init["dir"], "wandb").glob("*run-*-*"))  # named by time, and last by id
        logger._wandb_init["id"] = kept[0].name.rpartition("-")[2] if kept else None


@contextmanager
def next_event_file(folder: Path) -> Iterator[None]:
    """Meanwhile an event file that is made in a folder gets a name that comes after the names of those that are there.

    TensorBoard reads them in the order of their names, which begin with the time: after the clock was set back, or
    within the same second, the file of a resumed run would come before the one that it continues (since before 2.0;
    `test_a_clock_that_was_set_back`).
    """
    names = [path.name.split(".") for path in folder.glob("events.out.tfevents.*")]
    newest = max((int(parts[3]) for parts in names if len(parts) > 3 and parts[3].isdigit()), default=0)
    # imported late: not every run has such a file
    from tensorboard.summary.writer import event_file_writer as module

    clock = module.time
    module.time = SimpleNamespace(time=lambda: max(clock.time(), newest + 1))
    try:
        yield
    finally:
        module.time = clock


def close_loggers(trainer: Trainer) -> None:
    """End what Weights & Biases has open, to which the next run of this process would log (since before 2.0)."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger._experiment.finish()


def finish_training(trainer: Trainer) -> None:
    """Do what the end of a training needs when it was resumed after its last step.

    Lightning then skips the training, and with it this hook, and counts the last epoch as unfinished (seen in 2.6; the
    tests that kill a run after its last step).
    """
    progress = trainer.fit_loop.epoch_progress.current
    progress.completed = progress.processed  # type: ignore[attr-defined]
    module = trainer.lightning_module
    module.to(trainer.strategy.root_device)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        callback.on_train_end(trainer, module)


def end_other_processes(trainer: Trainer) -> None:
    """End the processes that this one started, if any, whatever they wait for.

    Lightning's observer would treat their end as a crash, and end this process too (since 2.1; the tests of signals in
    several processes).
    """
    launcher = trainer.strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._run = lambda: True  # type: ignore[method-assign]
    # Windows has no SIGKILL; there nobody can handle SIGTERM
    launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))


def event_file_writer(writer: Any) -> Any:
    """The file behind torch's SummaryWriter, which accepts finished events.

    torch's own methods cannot write what TensorBoard's plugins need (seen in torch 2.15; the tests of TensorBoard's
    tabs).
    """
    return writer._get_file_writer()


class FastAttributes:
    """A LightningModule's base that stores which hook runs without nn.Module's search for parameters.

    Lightning stores it some forty times a step, which makes a small network's epoch 5 % longer (since before 2.0;
    `test_both_ways_are_the_same` compares what is stored).
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)
