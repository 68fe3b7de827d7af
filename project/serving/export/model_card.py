"""The model card beside an exported network: what it is, where it comes from, how well it does, and what it is not for.

After Mitchell et al. 2019, "Model Cards for Model Reporting", arXiv:1810.03993. Everything in it is from the run folder
and from the check of the exported file; what the run did not record is left out.
"""

import json
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from project.network.layers import layer_table_markdown
from project.network.optimization.losses import LOSSES
from project.pages import markdown_table, template
from project.runs.tables import class_table, results_table
from project.serving.evaluation import accuracy_interval, scored_metrics
from project.serving.restore import RestoredRun


@dataclass(frozen=True)
class Check:
    """How an exported file's answers compare with the checkpoint's.

    Args:
        max_difference: The largest absolute difference of a probability, or of a value in sd of the target.
        num_pictures: How many pictures were answered.
        num_same_class: How many of them get the same most probable class; None for regression.
        split: The split that the pictures are from.
        batch_sizes: The batch sizes in which they were answered, one after the other.
    """

    max_difference: float
    num_pictures: int
    num_same_class: int | None
    split: str
    batch_sizes: tuple[int, ...]

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.batch_sizes))
        what = "in standard deviations of the target" if self.num_same_class is None else "of a probability"
        text = (
            f"max difference {self.max_difference:.1e} ({what}) from the checkpoint in float64, on "
            f"{self.num_pictures:,} pictures of the {self.split} split, in batches of {sizes}"
        )
        if self.num_same_class is not None:
            text += f"; the same class for {self.num_same_class:,} of them"
        return text


def model_card(run: RestoredRun, file: str, to: str, metadata: dict[str, str], check: Check) -> str:
    """The card as Markdown, by templates/model_card.md.jinja.

    Args:
        run: The trained network and its data settings.
        file: The name of the exported file, which is in the same folder.
        to: The file's format.
        metadata: The metadata inside the file.
        check: How the file's answers compare with the checkpoint's.
    """
    described = {name: json.loads(metadata[name]) for name in ("settings", "data", "provenance", "exported_with")}
    spec, datamodule, metrics = run.module.spec, run.datamodule, scored_metrics(run)
    settings, origin = described["settings"], described["provenance"]
    rows = {f"{part}.{name}": _typed(value) for part in settings for name, value in settings[part].items()}
    seeds = {name: _typed(value) for name, value in origin.get("seeds", {}).items() if f"data.{name}" not in rows}
    hashes = described["data"].get("split_sha256", {})
    if any(datamodule.split_sha256.get(name) != sha256 for name, sha256 in hashes.items()):
        hashes = {}  # other data than the run's own say nothing of its splits
    confusion = metrics.get("test/confusion_matrix", [])
    num_right, num_tested = sum(row[i] for i, row in enumerate(confusion)), sum(map(sum, confusion))
    is_scored = num_tested > 0 and metrics.get("test/accuracy") is not None
    shares = {name: share for name, share in metrics.get("test/class_accuracy", {}).items() if share is not None}
    return template("project.serving.export", "templates/model_card.md.jinja").render(
        file=file,
        to=to,
        metadata=metadata,
        described=described,
        check=check,
        run=run,
        typed=_typed,
        splits=[
            (name, f"{len(datamodule.splits[name]):,}", f"`{sha256}`")
            for name, sha256 in hashes.items()
            if len(datamodule.splits[name])
        ],
        files=[(f"`{name}`", f"`{sha256}`") for name, sha256 in described["data"].get("sha256", {}).items()],
        layers=layer_table_markdown(run.module.network),
        setting_rows=(rows | seeds).items(),
        metrics=metrics,
        results=_from_rich(results_table(metrics)),
        interval=accuracy_interval(num_right, num_tested) if is_scored else None,
        num_tested=num_tested,
        by_class=_from_rich(class_table(metrics, "test")) if confusion else "",
        trains_probabilities=spec.task in LOSSES[settings["model"]["loss"]].probabilities,
        worst_class=min(shares.items(), key=lambda item: item[1]) if len(shares) > 1 else None,
        provenance=_provenance(origin),
    )


def _from_rich(table: Table) -> str:
    right = [number for number, column in enumerate(table.columns) if column.justify == "right"]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    return markdown_table([str(column.header) for column in table.columns], rows, right)


def _provenance(origin: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of a run's origin, as rows of a table."""
    hardware, commit, resumed = (origin.get(name) or {} for name in ("hardware", "git_commit", "resumed"))
    changed = ", with uncommitted changes (`git_diff` in provenance.json)" if origin.get("uncommitted_changes") else ""
    rows = {
        "command": f"`{origin['command']}`" if origin.get("command") else "",
        "resumed": f"{len(resumed)} times" if resumed else "",
        "started": origin.get("started"),
        "commit": f"`{commit}`{changed}" if commit else "",
        "versions": ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items()),
        "system": hardware.get("system"),
        "processor": hardware.get("processor") and f"{hardware['processor']}, {hardware.get('cores')} cores",
        "GPUs": ", ".join(hardware.get("gpus") or []),
    }
    return [(name, text) for name, text in rows.items() if text]


def _typed(value: Any) -> str:
    """A setting as it is typed."""
    return value if isinstance(value, str) else json.dumps(value)
