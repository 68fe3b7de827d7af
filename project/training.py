"""One run from start to end: train, go back to the best epoch, validate, test, write down what happened."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from project.cli import CLI, is_first_process
from project.datamodule import ImageDataModule
from project.mlp import layer_table
from project.module import MLPModule
from project.run_folder import provenance, write_json

log = logging.getLogger("project")


def train(cli: CLI) -> dict[str, Any]:
    """Train and test what the settings describe.

    Returns:
        The content of metrics.json; an empty dict on every process but the first.
    """
    folder = cli.run_folder if is_first_process() else None
    if folder is not None:
        start_run_folder(cli, folder)
    with log_file(folder):
        return _train(cli)


def _train(cli: CLI) -> dict[str, Any]:
    trainer, module, datamodule = cli.trainer, cli.model, cli.datamodule
    trainer.fit(module, datamodule=datamodule)
    best = cli.checkpoint.best_model_path if cli.checkpoint else ""
    options: dict[str, Any] = {"ckpt_path": best, "weights_only": True} if best else {}
    results: dict[str, Any] = {}
    # the checkpoint's history ends with the best epoch: keep the whole one
    history = module.history
    if datamodule.num_validation:
        logged = trainer.validate(module, datamodule=datamodule, verbose=False, **options)[0]
        results |= {"validation/loss": logged["validation/loss"]} | _named("validation", module.metrics())
    logged = trainer.test(module, datamodule=datamodule, verbose=False, **options)[0]
    results |= {"test/loss": logged["test/loss"]} | _named("test", module.metrics())
    module.history = history
    if not is_first_process():
        return {}
    metrics = _summary(cli, module) | results
    metrics["verdict"] = verdict(metrics, module)
    if cli.run_folder is not None:
        write_json(cli.run_folder / "metrics.json", metrics)
    return metrics


@contextmanager
def log_file(folder: Path | None) -> Iterator[None]:
    """Keep what is logged meanwhile in the run folder's train.log too, if there is a folder."""
    if folder is None:
        yield
        return
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def start_run_folder(cli: CLI, folder: Path) -> None:
    """Write down settings, origin and network before anything can go wrong."""
    (folder / "config.yaml").write_text(cli.saved_config(), encoding="utf-8")
    datamodule: ImageDataModule = cli.datamodule
    data = {
        "name": datamodule.data.name,
        "source": datamodule.data.source,
        "sha256": datamodule.data.sha256,
        "split_sha256": datamodule.split_sha256,
    }
    origin = provenance(cli.config["seed_everything"], datamodule.split_seed, data)
    write_json(folder / "provenance.json", origin)
    (folder / "model.txt").write_text(format_layer_table(cli.model), encoding="utf-8")


def format_layer_table(module: MLPModule) -> str:
    """The layer table (N7) as text: layer, output shape, parameters and how they are counted, and the total."""
    rows = layer_table(module.mlp)
    total = sum(row.parameters for row in rows)
    cells = [("layer", "output shape", "parameters", "counted as")]
    cells += [(row.layer, row.output_shape, f"{row.parameters:,}", row.formula) for row in rows]
    cells += [("total", "", f"{total:,}", "")]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in cells]
    return "\n".join(lines) + "\n"


def _named(split: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {f"{split}/{name}": value for name, value in metrics.items()}


def _summary(cli: CLI, module: MLPModule) -> dict[str, Any]:
    trainer, clock = cli.trainer, cli.epoch_log
    stopped = trainer.should_stop and len(module.history) < (trainer.max_epochs or 0)
    best: dict[str, Any] = {}
    if module.history and cli.checkpoint and cli.checkpoint.best_model_score is not None:
        monitor, mode = cli.checkpoint.monitor, cli.checkpoint.mode
        chosen = (max if mode == "max" else min)(module.history, key=lambda record: record[monitor or ""])
        best = {"epoch": int(chosen["epoch"]) + 1} | {k: v for k, v in chosen.items() if k.startswith("validation/")}
    return {
        "status": "early_stopped" if stopped else "completed",
        "epochs": len(module.history),
        "steps": clock.num_steps,
        "train_seconds": clock.train_seconds,
        "examples_per_second": clock.num_examples / clock.train_seconds if clock.train_seconds else 0.0,
        "parameters": sum(p.numel() for p in module.parameters()),
        "best": best,
    }


def verdict(metrics: dict[str, Any], module: MLPModule) -> str:
    """What happened, in a sentence or two."""
    spec = module.spec
    if module.task == "regression":
        error, share = metrics["test/rmse"], metrics["test/r2"]
        return f"On the test set the error is {error:.3g} (rmse); the network explains {share:.1%} of the variance."
    chance = 1 / len(spec.class_names)
    accuracy = metrics["test/accuracy"]
    return f"The network recognizes {accuracy:.2%} of the test set; guessing would get about {chance:.0%}."
