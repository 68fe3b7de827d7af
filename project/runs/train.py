"""One run from start to end: train, go back to the best epoch, validate, test, write down what happened."""

import logging
import shlex
import shutil
from typing import Any

import torch

from project.errors import DivergenceError, counted
from project.extensions import extension_flags
from project.runs.build import Run
from project.runs.command import is_first_process
from project.runs.saving.checkpointing import load_checkpoint, save_familiarity
from project.runs.saving.files import write_history, write_json, write_text
from project.runs.saving.run_folder import log_file, start_run_folder
from project.runs.saving.signals import Interrupted, stop_signals
from project.runs.tables import profile_text
from project.runs.trainer_checks import SETUP_ERRORS, explain_failure
from project.training.callbacks import how_it_ended
from project.training.familiarity import fit_familiarity
from project.training.internals import adapt_trainer, close_loggers, end_other_processes, finish_training

log = logging.getLogger("project")


def train(run: Run) -> dict[str, Any]:
    """Train and test a run, from the start or from where it was left.

    Returns:
        The content of metrics.json; an empty dict on every process but the first.

    Raises:
        Interrupted: If a signal asked for it; the run is saved and can be resumed.
        DivergenceError: If the loss becomes NaN or infinite.
        RunError: If the disk is full, or another process of the run died.
        InputError: If the checkpoint to go on from does not fit the run's settings.
    """
    folder = run.folder if is_first_process() else None

    def note(status: str) -> dict[str, Any]:
        metrics = _summary(run) | {"status": status, "verdict": _unfinished(run, status)}
        if status == "diverged" and run.observers and run.observers.findings:
            metrics |= {"verdict": run.observers.verdict(metrics), "findings": run.observers.findings}
        if folder is not None:
            write_json(folder / "metrics.json", metrics)
            write_history(folder / "history.csv", run.module.history)
            if status == "diverged" and run.observers:
                write_json(folder / "evidence.json", run.observers.evidence)
        return metrics

    def leave() -> None:
        note("interrupted")
        end_other_processes(run.trainer)

    stop_signals.last_words = leave
    torch.set_num_threads(run.num_threads)  # before it is written down
    try:
        if folder is not None:
            start_run_folder(folder, run.settings, run.datamodule, run.module.network, run.resumption)
        with log_file(folder):
            _fit(run)
            metrics = run.metrics = _evaluate(run)
            if folder is not None:
                if profile := profile_text(run.trainer.profiler):  # type: ignore[attr-defined]
                    write_text(folder / "profile.txt", profile)
                if run.checkpoint and (found := fit_familiarity(run.module, run.datamodule)):
                    save_familiarity(folder, found)
                write_json(folder / "metrics.json", metrics)
                write_history(folder / "history.csv", run.module.history)
                if run.observers:
                    write_json(folder / "evidence.json", run.observers.evidence)
            return metrics
    except BaseException as error:
        if isinstance(error, Interrupted):
            log.warning("%s: %s", error.name, note("interrupted")["verdict"])
            error.explained = True
        elif isinstance(error, DivergenceError):
            note("diverged")
        end_other_processes(run.trainer)
        resumed = run.resumption.checkpoint if run.resumption and not run.epoch_log.begun else None
        failure = explain_failure(error, run.folder, run.trainer.world_size, resumed)
        if failure is None:
            raise
        if isinstance(error, SETUP_ERRORS) and folder is not None and run.resumption is None:
            shutil.rmtree(folder, ignore_errors=True)  # nothing was trained
        raise failure from error
    finally:
        stop_signals.last_words, stop_signals.holding = None, False
        close_loggers(run.trainer)
        run.unlock()


def _fit(run: Run) -> None:
    """Train, and go back to the weights of the best epoch."""
    trainer, module = run.trainer, run.module
    adapt_trainer(trainer)
    start = run.resumption.checkpoint if run.resumption else None
    # Lightning does this only after it has loaded the weights, which lose digits if they are not float64 then
    trainer.precision_plugin.convert_module(module)
    trainer.fit(module, datamodule=run.datamodule, ckpt_path=start, weights_only=True)
    if not run.epoch_log.ended:  # resumed after its last step: Lightning then skips the training, and its end
        finish_training(trainer)
    if best := run.checkpoint.best_path if run.checkpoint else None:
        module.load_state_dict(load_checkpoint(best, run.folder)["state_dict"])


def _evaluate(run: Run) -> dict[str, Any]:
    """Score validation and test, and judge: the content of metrics.json, on the first process alone."""
    trainer, module, results = run.trainer, run.module, {}
    module.logs_validation = False
    splits = {"validation": trainer.validate, "test": trainer.test}
    for split, score in splits.items():
        if split == "test" or run.settings.data.is_validated:
            score(module, datamodule=run.datamodule, verbose=False)
            results[f"{split}/loss"] = float(trainer.callback_metrics[f"{split}/loss"])
            results |= {f"{split}/{name}": value for name, value in module.metrics().items()}
    if not is_first_process():
        return {}
    metrics = _summary(run) | results
    metrics["verdict"] = run.observers.verdict(metrics) if run.observers else _outcome(metrics, run)
    metrics["findings"] = run.observers.findings if run.observers else []
    return metrics


def _summary(run: Run) -> dict[str, Any]:
    """How far the run came, how fast it was, and its best epoch."""
    steps, seconds, history = run.trainer.global_step, run.epoch_log.train_seconds, run.module.history
    best: dict[str, Any] = {}
    if history and run.checkpoint and run.checkpoint.best_score is not None:
        monitor, choose = run.checkpoint.monitor, max if run.checkpoint.mode == "max" else min
        chosen = choose((record for record in history if monitor in record), key=lambda record: record[monitor])
        best = {"epoch": int(chosen["epoch"]) + 1} | {k: v for k, v in chosen.items() if k.startswith("validation/")}
    return {
        "status": how_it_ended(run.trainer, run.module),
        "epochs": len(history),
        "steps": steps,
        "train_seconds": seconds,
        "examples_per_second": steps * run.settings.data.batch_size / seconds if seconds else 0.0,
        "parameters": sum(p.numel() for p in run.module.parameters()),
        "best": best,
    }


def _unfinished(run: Run, status: str) -> str:
    """Where a run stands that stopped before its end."""
    steps, epochs = counted(run.trainer.global_step, "step"), counted(len(run.module.history), "whole epoch")
    done = f"after {steps} and {epochs}"
    if status == "diverged":
        return f"The training diverged {done}: the loss is no longer a number. A smaller learning rate may help."
    command = shlex.join(["python", "scripts/train.py", *extension_flags(), "--resume", str(run.folder)])
    return f"The run was interrupted {done}. To go on: {command}"


def _outcome(metrics: dict[str, Any], run: Run) -> str:
    """What was reached, where nothing was looked at that could explain it."""
    if run.module.task == "regression":
        error, share = metrics["test/rmse"], metrics["test/r2"]
        return f"On the test set the error is {error:.3g} (rmse); the network explains {share:.1%} of the variance."
    chance = 1 / len(run.module.spec.class_names)
    accuracy = metrics["test/accuracy"]
    return f"The network recognizes {accuracy:.2%} of the test set; guessing would get about {chance:.0%}."
