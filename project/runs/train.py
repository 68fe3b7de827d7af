"""One run from start to end: train, go back to the best epoch, validate, test, write down what happened."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from project.data.datamodule import ImageDataModule
from project.errors import InputError, RunError
from project.network.layer_table import format_layer_table
from project.runs.cli import CLI
from project.runs.command import is_first_process
from project.runs.saving.checkpointing import DivergenceError, load_checkpoint
from project.runs.saving.files import read_json, write_json, write_text
from project.runs.saving.provenance import provenance
from project.runs.saving.signals import Interrupted, end_other_processes, stop_signals
from project.training.epoch_loop import mend
from project.training.module import MLPModule

log = logging.getLogger("project")


def train(cli: CLI) -> dict[str, Any]:
    """Train and test what the settings describe, from the start or from where a run was left.

    Returns:
        The content of metrics.json; an empty dict on every process but the first.

    Raises:
        Interrupted: If a signal asked for it; the run is saved and can be resumed.
        DivergenceError: If the loss becomes NaN or infinite.
        RunError: If the disk is full, or another process of the run died.
        InputError: If the checkpoint to go on from does not fit the run's settings.
    """
    folder = cli.run_folder if is_first_process() else None

    def note(status: str) -> dict[str, Any]:
        metrics = _summary(cli) | {"status": status, "verdict": _unfinished(cli, status)}
        if folder is not None:
            write_json(folder / "metrics.json", metrics)
        return metrics

    def leave() -> None:
        note("interrupted")
        end_other_processes(cli.trainer)

    stop_signals.last_words = leave
    try:
        if folder is not None:
            start_run_folder(cli, folder)
        with log_file(folder):
            return _train(cli)
    except BaseException as error:
        if isinstance(error, Interrupted):
            log.warning("%s: %s", error.name, note("interrupted")["verdict"])
        elif isinstance(error, DivergenceError):
            note("diverged")
        end_other_processes(cli.trainer)
        failure = explain_failure(error, cli)
        if failure is None:
            raise
        raise failure from error
    finally:
        stop_signals.last_words, stop_signals.holding = None, False


def explain_failure(error: BaseException, cli: CLI) -> InputError | RunError | None:
    """A failure that has nothing to do with the program, as cause and remedy; None for any other."""
    remedy = f"then go on from the last checkpoint with --resume {cli.run_folder}"
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return RunError(
            f"a file of the run cannot be written: {error.strerror or error}{where}", f"make room, {remedy}"
        )
    if isinstance(error, RuntimeError) and cli.trainer.world_size > 1 and "gloo" in str(error).lower():
        return RunError("another process of this run died", f"see what it said, {remedy}")
    resumed = cli.resumption.checkpoint if cli.resumption else None
    known = isinstance(error, InputError | RunError | Interrupted) or not isinstance(error, Exception)
    if resumed and not known and not cli.epoch_log.begun:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        return InputError(
            f"{resumed} does not fit the run's settings: {reason[0].strip()[:200]}",
            "restore the run's own checkpoint and config.yaml, or start a new run",
        )
    return None


def _train(cli: CLI) -> dict[str, Any]:
    trainer, module, datamodule = cli.trainer, cli.model, cli.datamodule
    mend(trainer)
    start = cli.resumption.checkpoint if cli.resumption else None
    trainer.fit(module, datamodule=datamodule, ckpt_path=start, weights_only=True)
    if not cli.epoch_log.ended:
        # resumed after its last step: Lightning then skips the training, and with it this hook
        progress = trainer.fit_loop.epoch_progress.current
        progress.completed = progress.processed  # type: ignore[attr-defined]
        module.to(trainer.strategy.root_device)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_train_end(trainer, module)
    if best := cli.checkpoint.best_path if cli.checkpoint else None:
        module.load_state_dict(load_checkpoint(best)["state_dict"])
    results: dict[str, Any] = {}
    if datamodule.num_validation:
        trainer.validate(module, datamodule=datamodule, verbose=False)
        loss = float(trainer.callback_metrics["validation/loss"])
        results |= {"validation/loss": loss} | _named("validation", module.metrics())
    trainer.test(module, datamodule=datamodule, verbose=False)
    loss = float(trainer.callback_metrics["test/loss"])
    results |= {"test/loss": loss} | _named("test", module.metrics())
    if not is_first_process():
        return {}
    metrics = _summary(cli) | results
    observers = cli.observers
    metrics["verdict"] = _outcome(metrics, module) if observers is None else observers.verdict(metrics)
    metrics["findings"] = [] if observers is None else observers.findings
    if cli.run_folder is not None:
        write_json(cli.run_folder / "metrics.json", metrics)
    return metrics


class RunLog(logging.FileHandler):
    """A log file whose disk, when full, stops the run as any other file's does."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        raise  # logging calls this where it handles the error


@contextmanager
def log_file(folder: Path | None) -> Iterator[None]:
    """Keep what is logged meanwhile in the run folder's train.log too, if there is a folder."""
    if folder is None:
        yield
        return
    handler = RunLog(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def start_run_folder(cli: CLI, folder: Path) -> None:
    """Write down settings, origin and network before anything can go wrong, or that the run goes on."""
    datamodule: ImageDataModule = cli.datamodule
    run = cli.resumption
    if run is not None and run.metrics.get("status") in ("completed", "early_stopped"):
        write_json(folder / "metrics.json", run.metrics | {"status": "interrupted"})  # it is being trained longer
    data = {
        "name": datamodule.data.name,
        "source": datamodule.data.source,
        "sha256": datamodule.data.sha256,
        "split_sha256": datamodule.split_sha256,
    }
    origin = provenance(cli.config["seed_everything"], datamodule.split_seed, data)
    first = read_json(folder / "provenance.json") if run else {}
    if first:
        now = {name: origin[name] for name in ("command", "started", "git_commit", "versions", "hardware")}
        origin = first | {"resumed": [*first.get("resumed", []), now]}
    write_json(folder / "provenance.json", origin)
    write_text(folder / "model.txt", format_layer_table(cli.model.mlp))
    write_text(folder / "config.yaml", cli.saved_config())  # the last: a folder that has it is a run


def _named(split: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {f"{split}/{name}": value for name, value in metrics.items()}


def _summary(cli: CLI) -> dict[str, Any]:
    trainer, module, seconds = cli.trainer, cli.model, cli.epoch_log.train_seconds
    stopped = trainer.should_stop and len(module.history) < (trainer.max_epochs or 0)
    best: dict[str, Any] = {}
    if module.history and cli.checkpoint and cli.checkpoint.best_score is not None:
        monitor, mode = cli.checkpoint.monitor, cli.checkpoint.mode
        judged = [record for record in module.history if monitor in record]
        chosen = (max if mode == "max" else min)(judged, key=lambda record: record[monitor])
        best = {"epoch": int(chosen["epoch"]) + 1} | {k: v for k, v in chosen.items() if k.startswith("validation/")}
    num_examples = trainer.global_step * cli.datamodule.batch_size
    return {
        "status": "early_stopped" if stopped else "completed",
        "epochs": len(module.history),
        "steps": trainer.global_step,
        "train_seconds": seconds,
        "examples_per_second": num_examples / seconds if seconds else 0.0,
        "parameters": sum(p.numel() for p in module.parameters()),
        "best": best,
    }


def _unfinished(cli: CLI, status: str) -> str:
    """Where a run stands that stopped before its end."""
    done = f"after {cli.trainer.global_step} steps and {len(cli.model.history)} whole epochs"
    if status == "diverged":
        return f"The training diverged {done}: the loss is no number any more. A smaller learning rate may help."
    return f"The run was interrupted {done}. To go on: python scripts/train.py --resume {cli.run_folder}"


def _outcome(metrics: dict[str, Any], module: MLPModule) -> str:
    """What was reached, where nothing was looked at that could explain it."""
    spec = module.spec
    if module.task == "regression":
        error, share = metrics["test/rmse"], metrics["test/r2"]
        return f"On the test set the error is {error:.3g} (rmse); the network explains {share:.1%} of the variance."
    chance = 1 / len(spec.class_names)
    accuracy = metrics["test/accuracy"]
    return f"The network recognizes {accuracy:.2%} of the test set; guessing would get about {chance:.0%}."
