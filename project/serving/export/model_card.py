"""The model card beside an exported network: what it is, where it comes from, how well it does, and what it is not for.

After Mitchell et al. 2019, "Model Cards for Model Reporting", arXiv:1810.03993. Everything in it is from the run folder
and from the check of the exported file; what the run did not record is left out.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from project.network.layer_table import layer_table
from project.network.losses import LOSSES
from project.runs.saving.files import read_json
from project.runs.tables import class_table, results_table
from project.serving.evaluation import accuracy_interval
from project.serving.restore import RestoredRun

LOADING = {
    "onnx": """\
import json

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
images = np.zeros((1, {height}, {width}), dtype=np.uint8)  # your pictures: gray levels 0-255
answers = session.run(None, {{"images": images}})[0]
""",
    "torch_export": """\
import json

import torch

extra = {{"metadata.json": ""}}
network = torch.export.load("{file}", extra_files=extra).module()
metadata = json.loads(extra["metadata.json"])
images = torch.zeros(1, {height}, {width}, dtype=torch.uint8)  # your pictures: gray levels 0-255
with torch.inference_mode():
    answers = network(images)
""",
    "safetensors": """\
import torch

from project.serving.export.export import load_network

network = load_network("{file}")
images = torch.zeros(1, {height}, {width}, dtype=torch.uint8)  # your pictures: gray levels 0-255
with torch.inference_mode():
    answers = network(images)
""",
}
"""How to load each format, in Python."""
LOADING_NEEDS = {
    "onnx": "`pip install onnxruntime numpy`",
    "torch_export": "`pip install torch`, best the version below: PyTorch does not promise that later ones read it",
    "safetensors": "this project, installed with `pip install -e '.[export]'`",
}
NAMES = {
    "onnx": 'class_names = json.loads(metadata["class_names"])\n',
    "torch_export": 'class_names = json.loads(metadata["class_names"])\n',
    "safetensors": "class_names = network.spec.class_names\n",
}


@dataclass(frozen=True)
class Check:
    """How an exported file's answers compare with the checkpoint's.

    Args:
        max_difference: Largest absolute difference of a probability, or of a value in sd of the target.
        num_pictures: Pictures that were answered.
        num_same_class: Those for which the most probable class is the same; None for regression.
        split: Where the pictures are from.
        batch_sizes: Into which they were cut, one after the other.
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


def run_metrics(run: RestoredRun) -> dict[str, Any]:
    """What metrics.json says of the checkpoint; empty where it is of another one or the training is not over.

    Training scores its best checkpoint, or where there is none its last.
    """
    metrics = read_json(run.folder / "metrics.json")
    is_scored = run.checkpoint.name == "best.ckpt" or not run.checkpoint.with_name("best.ckpt").exists()
    return metrics if is_scored and metrics.get("status") in ("completed", "early_stopped") else {}


def model_card(run: RestoredRun, file: str, to: str, metadata: dict[str, str], check: Check) -> str:
    """The card as Markdown.

    Args:
        run: The trained network and its data settings.
        file: Name of the exported file, beside which the card lies.
        to: Its format, a key of `LOADING`.
        metadata: What is inside the file, see `project.serving.export.export.describe`.
        check: How the file compares with the checkpoint.
    """
    metrics = run_metrics(run)
    sections = [
        ("", _summary(run, file, to, metadata)),
        ("Loading it", _loading(run, file, to, metadata)),
        ("Data", _data(run, metadata)),
        ("Architecture", _architecture(run)),
        ("Settings", _settings(metadata)),
        ("Results", _results(metrics)),
        ("Intended use and limits", _limits(run, metadata, metrics)),
        ("The exported file", _file(metadata, check)),
        ("Provenance", _provenance(metadata)),
    ]
    return "\n\n".join((f"## {title}\n\n" if title else "") + text for title, text in sections if text) + "\n"


def markdown_table(rows: Iterable[Sequence[object]], header: Sequence[str], right: Sequence[int] = ()) -> str:
    """A Markdown table; the columns whose numbers are in `right` are set flush right."""
    rule = ["---:" if number in right else "---" for number in range(len(header))]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in (header, rule, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _from_rich(table: Table) -> str:
    right = [number for number, column in enumerate(table.columns) if column.justify == "right"]
    rows = zip(*(column.cells for column in table.columns), strict=True)
    return markdown_table(rows, [str(column.header) for column in table.columns], right)


def _kind(run: RestoredRun) -> str:
    spec = run.module.spec
    picture = f"{spec.height}×{spec.width} gray picture"
    if spec.task == "regression":
        what = (
            "its angle of rotation in degrees"
            if run.datamodule.settings.target == "rotation"
            else "its label as a number"
        )
        return f"estimates, from a {picture}, {what}"
    return f"tells which of {len(spec.class_names)} classes a {picture} shows"


def _summary(run: RestoredRun, file: str, to: str, metadata: dict[str, str]) -> str:
    lines = [
        f"# {run.datamodule.settings.dataset}, run {metadata['run']}",
        f"`{file}` ({to}) is a multilayer perceptron that {_kind(run)}. It was exported from "
        f"`{metadata['checkpoint']}` of the run by {metadata['project']} {metadata['version']}.",
    ]
    return "\n\n".join(lines)


def _loading(run: RestoredRun, file: str, to: str, metadata: dict[str, str]) -> str:
    spec = run.module.spec
    code = LOADING[to].format(file=file, height=spec.height, width=spec.width)
    if spec.task == "regression":
        code = code.removeprefix("import json\n\n") if to == "onnx" else code
        code += "print(float(answers[0]))\n"
    else:
        code += NAMES[to] + "print(class_names[int(answers[0].argmax())], float(answers[0].max()))\n"
    return (
        f"- input `{metadata['input']}`; any batch size\n- output `{metadata['output']}`\n"
        f"- normalization is inside: give the gray levels as they are, in the polarity of the training data\n"
        f"- needs {LOADING_NEEDS[to]}\n\n```python\n{code}```"
    )


def _data(run: RestoredRun, metadata: dict[str, str]) -> str:
    data, settings = json.loads(metadata["data"]), json.loads(metadata["settings"])["data"]
    shift, scale = run.module.normalization.shift, run.module.normalization.scale
    formula = f": (gray level − {float(shift):.6g}) · {float(scale):.6g}" if not shift.dim() and not scale.dim() else ""
    lines = [f"- data set: {data.get('name', settings['dataset'])}"]
    if data.get("source"):
        lines.append(f"- source: {data['source']}")
    lines.append(f"- normalization: {settings['normalization']}, fitted on the training split alone{formula}")
    if settings["augmentation"]:
        lines.append(f"- augmentation of the training pictures: {_text(settings['augmentation'])}")
    if settings["classes"] is not None:
        lines.append(f"- only the classes with the indices {_text(settings['classes'])}")
    if run.module.spec.class_names:
        lines.append(f"- classes in the order of the output: {', '.join(run.module.spec.class_names)}")
    counts = {name: len(indices) for name, indices in run.datamodule.splits.items() if len(indices)}
    hashes = data.get("split_sha256", {})
    same = all(run.datamodule.split_sha256.get(name) == sha256 for name, sha256 in hashes.items())
    parts = ["\n".join(lines)]
    if hashes and same:  # other data than the run's own say nothing of its splits
        rows = [(name, f"{count:,}", f"`{hashes[name]}`") for name, count in counts.items()]
        parts.append(markdown_table(rows, ("split", "examples", "SHA-256 of its indices"), (1,)))
    if data.get("sha256"):
        files = [(f"`{name}`", f"`{sha256}`") for name, sha256 in data["sha256"].items()]
        parts.append(markdown_table(files, ("file", "SHA-256, uncompressed")))
    return "\n\n".join(parts)


def _architecture(run: RestoredRun) -> str:
    rows = layer_table(run.module.mlp)
    total = sum(row.parameters for row in rows)
    cells = [(row.layer, row.output_shape, f"{row.parameters:,}", row.formula) for row in rows]
    header = ("layer", "output shape", "parameters", "counted as n_in·n_out + n_out")
    return markdown_table([*cells, ("total", "", f"{total:,}", "")], header, (2,))


def _settings(metadata: dict[str, str]) -> str:
    settings = json.loads(metadata["settings"])
    seeds = json.loads(metadata["provenance"]).get("seeds", {})
    rows = [(f"{section}.{name}", _text(value)) for section in settings for name, value in settings[section].items()]
    rows += [(name, _text(value)) for name, value in seeds.items() if f"data.{name}" not in dict(rows)]
    return markdown_table(rows, ("setting", "value"))


def _results(metrics: dict[str, Any]) -> str:
    if "test/loss" not in metrics:
        return ""
    parts = [
        f"{metrics['epochs']} epochs, {metrics['steps']:,} steps in {metrics['train_seconds']:.1f} s "
        f"({metrics['status']}); the best epoch is {metrics['best']['epoch']}."
        if metrics.get("best")
        else f"{metrics['epochs']} epochs, {metrics['steps']:,} steps in {metrics['train_seconds']:.1f} s.",
        _from_rich(results_table(metrics)),
    ]
    if confusion := metrics.get("test/confusion_matrix"):
        total = sum(map(sum, confusion))
        low, high = accuracy_interval(sum(row[i] for i, row in enumerate(confusion)), total)
        parts.append(
            f"Test accuracy {metrics['test/accuracy']:.2%}, 95 % interval {low:.2%} to {high:.2%} (Wilson's, for "
            f"{total:,} test pictures). It holds the chance of which pictures were tested, not that of the training."
        )
        parts += ["By class, on the test split:", _from_rich(class_table(metrics, "test"))]
    if metrics.get("verdict"):
        parts.append("The run's own verdict: " + metrics["verdict"])
    return "\n\n".join(parts)


def _limits(run: RestoredRun, metadata: dict[str, str], metrics: dict[str, Any]) -> str:
    spec, settings = run.module.spec, json.loads(metadata["settings"])
    data, loss = run.datamodule.settings.dataset, settings["model"]["loss"]
    lines = [
        f"For teaching, for research on multilayer perceptrons, and as a baseline on {data}. "
        "Not made for, and not tested for, any decision about people or safety.",
        f"It has seen pictures of {data} alone, {spec.height}×{spec.width}, placed, lit and cut as there. How it does "
        "on other pictures was not measured; a multilayer perceptron has nothing built in for pictures that moved.",
    ]
    if spec.class_names:
        lines.append(
            f"It answers with one of its {len(spec.class_names)} classes whatever it is shown, a picture of none too."
        )
        if spec.task not in LOSSES[loss].probabilities:
            function = "the logistic function" if spec.task == "binary" else "the softmax"
            lines.append(
                f"It was trained with the loss {loss}, not to give probabilities: the output is {function} of its "
                "scores, whose order counts and whose size does not."
            )
        error = metrics.get("test/calibration_error")
        if error is not None:
            lines.append(
                f"Its probabilities are off by {error:.1%} on average (expected calibration error on the test split)."
            )
    elif run.datamodule.settings.target == "label":
        lines.append("The label is the number of a class: a value between two classes means nothing by itself.")
    shares = {name: share for name, share in metrics.get("test/class_accuracy", {}).items() if share is not None}
    if len(shares) > 1:
        worst = min(shares, key=lambda name: shares[name])
        lines.append(f"It does worst on the class {worst}: {shares[worst]:.1%} recognized.")
    if metrics.get("test/loss") is not None:
        lines.append("One training with one seed: another seed gives another network and somewhat other numbers.")
    else:
        lines.append("This checkpoint was not scored when its training ended: there are no results to give.")
    lines += [f"Found by the run ({f['severity']}): {f['sentence']}" for f in metrics.get("findings", [])]
    return "\n".join(f"- {line}" for line in lines)


def _file(metadata: dict[str, str], check: Check) -> str:
    made_with = ", ".join(f"{name} {version}" for name, version in json.loads(metadata["exported_with"]).items())
    return (
        f"- measured when it was exported: {check}\n- written with {made_with}; it computes in {metadata['precision']}"
    )


def _provenance(metadata: dict[str, str]) -> str:
    origin = json.loads(metadata["provenance"])
    hardware = origin.get("hardware", {})
    changed = ", with uncommitted changes (`git_diff` in provenance.json)" if origin.get("uncommitted_changes") else ""
    gpus = hardware.get("gpus") or []
    rows = [
        ("command", f"`{origin['command']}`" if origin.get("command") else ""),
        ("resumed", f"{len(origin['resumed'])} times" if origin.get("resumed") else ""),
        ("started", origin.get("started", "")),
        ("commit", f"`{origin['git_commit']}`{changed}" if origin.get("git_commit") else ""),
        ("versions", ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items())),
        ("system", hardware.get("system", "")),
        ("processor", f"{hardware['processor']}, {hardware.get('cores')} cores" if hardware.get("processor") else ""),
        ("GPUs", ", ".join(gpus)),
    ]
    shown = [row for row in rows if row[1]]
    return markdown_table(shown, ("what", "value")) if shown else ""


def _text(value: Any) -> str:
    """A setting as it is typed."""
    return value if isinstance(value, str) else json.dumps(value)
