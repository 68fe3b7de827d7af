"""Every setting of every script, and twelve kinds of bad value, of which a few mean something."""

import contextlib
import runpy
import sys
from functools import cache
from typing import Any

import pytest
from conftest import ROOT

from project.runs.parser import Parser, run_parser

KINDS = {
    "empty": "",
    "a word": "nonsense",
    "-1": "-1",
    "0": "0",
    "10²²": "1" + "0" * 22,
    "not a number": ".nan",
    "infinite": ".inf",
    "1.5": "1.5",
    "null": "null",
    "an empty list": "[]",
    "a mapping": "{a: 1}",
    "control characters": "a\x1b[31m\nb",
}
"""The kinds of bad value, and what is typed."""
TEXT = tuple(kind for kind in KINDS if kind not in ("empty", "control characters"))
"""What a name of a file or folder can be."""
ACCEPTED: dict[str, tuple[str, ...]] = {
    "seed_everything": ("0",),
    "run_name": TEXT,
    "run_root": TEXT,
    "resume": ("null",),
    "checkpoint_every_n_steps": ("null",),
    "monitor": ("null",),
    "patience": ("0",),
    "trainer.precision": ("null",),
    "trainer.logger": ("null", "an empty list"),
    "trainer.callbacks": ("null", "an empty list"),
    "trainer.fast_dev_run": ("0",),
    "trainer.min_epochs": ("0", "null"),
    "trainer.max_steps": ("-1",),
    "trainer.min_steps": ("0", "null"),
    "trainer.max_time": ("null",),
    "trainer.limit_train_batches": ("null",),
    "trainer.limit_val_batches": ("null",),
    "trainer.limit_test_batches": ("null",),
    "trainer.limit_predict_batches": ("0", "null"),
    "trainer.overfit_batches": ("0",),
    "trainer.val_check_interval": ("null",),
    "trainer.check_val_every_n_epoch": ("null",),
    "trainer.num_sanity_val_steps": ("-1", "0", "null"),
    "trainer.log_every_n_steps": ("0", "null"),
    "trainer.enable_checkpointing": ("null",),
    "trainer.enable_progress_bar": ("null",),
    "trainer.enable_model_summary": ("null",),
    "trainer.gradient_clip_val": ("0", "1.5", "null"),
    "trainer.gradient_clip_algorithm": ("null",),
    "trainer.deterministic": ("null",),
    "trainer.benchmark": ("null",),
    "trainer.profiler": ("null",),
    "trainer.plugins": ("null", "an empty list"),
    "trainer.reload_dataloaders_every_n_epochs": ("0",),
    "trainer.default_root_dir": TEXT,
    "trainer.model_registry": ("null",),
    "model.depth": ("0",),
    "model.activation_parameter": ("null",),
    "model.init_scale": ("1.5",),
    "model.init_bias": ("-1", "0", "1.5"),
    "model.dropout": ("0",),
    "model.label_smoothing": ("0",),
    "model.huber_delta": ("1.5",),
    "model.learning_rate": ("1.5",),
    "model.momentum": ("0",),
    "model.weight_decay": ("0", "1.5"),
    "model.warmup_fraction": ("0",),
    "data.augmentation": ("null", "an empty list"),
    "data.num_train": ("null",),
    "data.num_validation": ("0",),
    "data.label_noise": ("0",),
    "data.split_seed": ("0",),
    "data.classes": ("null",),
    "evaluate.py --data_root": ("null",),
    "predict.py --num_threads": ("null",),
    "predict.py --figure": TEXT,
    "export.py --output": ("null",),
    "export.py --data_root": ("null",),
    "demo.py --port": ("0",),
    "demo.py --host": ("0",),
    "demo.py --data_root": ("null",),
    "study.py --seeds": ("null",),
    "study.py --root": TEXT,
    "study.py --data_root": TEXT,
    "report.py --out": TEXT,
    "report.py --publish": ("null",),
    "diagnose.py --figure": TEXT,
}
"""The settings for which some of these values mean something; all others are refused."""
SCRIPTS = ("evaluate", "predict", "export", "demo", "study", "report")
NO_SETTINGS = ("help", "config", "print_config", "help.trainer", "model", "data", "trainer", "diagnostics")


@cache
def run_settings() -> list[str]:
    """The settings of a run, train.py's and diagnose.py's, from their parser."""
    names = [action.dest for action in run_parser(with_trainer=True)._actions if action.option_strings]
    return [name for name in names if name not in NO_SETTINGS and not name.endswith(".help")]


@cache
def options(script: str) -> list[str]:
    """A script's options and the names that it takes, from its parser; no switches."""
    found: list[Parser] = []

    def catch(parser: Parser, *_: Any) -> None:
        found.append(parser)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(SystemExit):
        patched.setattr(Parser, "parse_args", catch)
        patched.setattr(sys, "argv", [script])
        runpy.run_path(str(ROOT / "scripts" / f"{script}.py"), run_name="__main__")
    return [
        (action.option_strings or [action.dest])[-1]
        for action in found[0]._actions
        if action.nargs != 0 and action.dest not in NO_SETTINGS
    ]


def summary() -> list[str]:
    """The table for docs/bad_input.md: which of the values mean something."""
    num_settings = len(run_settings()) + sum(len(options(script)) for script in SCRIPTS) + 1
    return [
        f"{num_settings} settings, those of a run and the options of the other scripts, are each given {len(KINDS)}",
        f"kinds of bad value: {num_settings * len(KINDS):,} inputs, each of them a part of a test. The kinds are:",
        ", ".join(KINDS) + ".",
        "All are refused but these, which mean something:",
        "",
        "| setting | accepted |",
        "| --- | --- |",
        *(
            f"| `{name}` | {'any text but an empty one' if kinds == TEXT else ', '.join(kinds)} |"
            for name, kinds in ACCEPTED.items()
        ),
    ]
