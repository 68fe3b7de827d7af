"""A trained network as one file for other programs: ONNX, torch.export, or safetensors, checked before it is kept."""

import copy
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

import project
from project.data.settings import SplitName
from project.errors import InputError, RunError
from project.inside import check_contained
from project.runs.parser import COMMON_TRAINER_SETTINGS
from project.runs.saving.contents import read_provenance
from project.runs.saving.files import part_of, replace_durably, write_part
from project.serving.evaluation import scored_metrics
from project.serving.export import FormatName, PrecisionName
from project.serving.export.model_card import Check, model_card
from project.serving.packages import require
from project.serving.restore import RestoredRun, answers
from project.settings import finite
from project.training.module import ImageModule
from project.training.settings import ModelSettings

Answer = Callable[[Tensor], Tensor]
"""Levels, uint8 (batch, height, width[, channels]), to probabilities (batch, classes) or values (batch,)."""
METADATA_FILE = "metadata.json"
"""The file in a torch.export archive that has what the other formats keep as their own metadata."""
TOLERANCE = 1e-5
"""Maximum difference between the file's answers and the checkpoint's, of a probability or in sd of the target."""
CHECKED_BATCHES = ((1, 100), (37, 1000), (2048, 10_000))
"""The check's batch sizes, and the maximum number of pictures for each."""
MAX_CHECKED = CHECKED_BATCHES[-1][1]
ONNX_OPSET = 18
"""The newest version that every torch since 2.8 writes directly; newer ones need a conversion."""
MAX_ONNX_BYTES = 2**31 - 2**20
"""One ONNX file is one protobuf message of less than 2 GiB; a little of it is for what is not weights."""


class ExportedNetwork(nn.Module):
    """Levels in, answers out: normalization, network, and softmax or the target's unit in one module.

    Args:
        module: The trained module, whose weights are shared.
    """

    def __init__(self, module: ImageModule) -> None:
        super().__init__()
        self.spec, self.normalization, self.network = module.spec, module.normalization, module.network

    def forward(self, images: Tensor) -> Tensor:
        """Levels 0–255, uint8 (batch, height, width) or (batch, height, width, channels), to float32 answers.

        Returns:
            For classification probabilities, (batch, classes), in the order of `spec.class_names`: two columns for the
            binary task. For regression values in the target's unit, (batch,).
        """
        return self.unrounded(images).float()

    def unrounded(self, images: Tensor) -> Tensor:
        """The same answers in the precision of the weights."""
        return answers(self.network(self.normalization(images)), self.spec)


@dataclass(frozen=True)
class Export:
    """What was written: the file, its model card, and the check of its answers."""

    path: Path
    card: Path
    check: Check


def export(
    run: RestoredRun,
    to: FormatName,
    output: Path | None = None,
    split: SplitName = "test",
    overwrite: bool = False,
    precision: PrecisionName = "float32",
) -> Export:
    """Write a run's network as one file with a model card beside it, both whole or not at all.

    The file is read back, and its answers are compared with the checkpoint's, before it takes its place.

    Args:
        run: The trained network and its data, which the check needs.
        to: The file's format.
        output: The file, or the folder that it goes into; by default `export` in the run folder.
        split: The split whose pictures the check takes, the first 10,000 at most.
        overwrite: Whether an existing file or card may be replaced.
        precision: The precision in which the file computes. Double precision is for networks whose answers rounding
            changes too much, such as one that was trained on raw gray levels; the answers are float32 in any case.

    Raises:
        InputError: If a package, the data or the split is missing, or if the file cannot or must not be written.
        RunError: If an answer differs by more than 1e-5 from the checkpoint's, which rounding alone can cause where
            inputs and weights are large; no file stays behind.
    """
    path = _target(run, to, output)
    card = path.with_name(path.name + ".md")
    if output is None:
        check_contained(run.folder)
    for existing in (path, card):
        if existing.exists() and not overwrite:
            raise InputError(f"{existing} exists already", "type --overwrite to replace it, or --output ANOTHER_FILE")
    for package in FORMATS[to].packages:
        require(package, "export")
    images = _check_pictures(run, split)
    metadata = _describe(run, to, precision)
    content = FORMATS[to].write(_rebuild(metadata, run.module.state_dict()), metadata)
    part, card_part = part_of(path), part_of(card)
    # what is typed may lie behind links, but not what is in the run folder
    home = path.parent if output else run.folder
    new_folder = not path.parent.exists()
    try:
        if output:
            home.mkdir(exist_ok=True)
        try:
            write_part(path, content, home)
            check = _compare(FORMATS[to].read(part), run, images, split)
            if not check.max_difference <= TOLERANCE:  # also for NaN
                raise RunError(
                    f"the {to} file answers differently from {run.checkpoint}: by {check.max_difference:.1e}, more "
                    f"than {TOLERANCE:.0e}, and was deleted",
                    "type --precision float64, as rounding changes this network's answers that much"
                    if precision == "float32"
                    else "train with --data.normalization standardize, whose numbers are smaller",
                )
            write_part(card, model_card(run, path.name, to, metadata, check).encode(), home)
            replace_durably(part, path)
            replace_durably(card_part, card)
        finally:
            part.unlink(missing_ok=True)
            card_part.unlink(missing_ok=True)
            if new_folder and not any(path.parent.iterdir()):
                path.parent.rmdir()
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}", "type --output FILE in a folder that can be written"
        ) from None
    return Export(path, card, check)


def _target(run: RestoredRun, to: FormatName, output: Path | None) -> Path:
    suffix = FORMATS[to].suffix
    if output is None or output.is_dir():
        return (output or run.folder / "export") / f"model{suffix}"
    if output.suffix != suffix:
        raise InputError(
            f"--output is {output}, but {to} files end in {suffix}",
            f"type --output {output.with_suffix(suffix) if output.name else 'model' + suffix}",
        )
    return output


def _check_pictures(run: RestoredRun, split: SplitName) -> Tensor:
    """Pictures of one split as whole levels, uint8 (n, height, width) or (n, height, width, channels)."""
    data, spec = run.datamodule, run.module.spec
    try:
        _ = data.data
    except InputError as error:
        raise InputError(
            f"an export is checked on the run's own pictures. {error.cause}",
            "type --data_root FOLDER if the data have moved, or train's own remedy: " + error.remedy,
        ) from None
    size = tuple(data.data.test.images.shape[1:])
    if size != spec.shape:
        raise InputError(
            f"the pictures under {data.settings.root} are {'×'.join(map(str, size))}, but the network was trained on "
            f"{'×'.join(map(str, spec.shape))}",
            "type --data_root FOLDER with the data that the run was trained on",
        )
    if not len(data.splits[split]):
        raise InputError(f"this run has no {split} split", "type --split test")
    chunks: list[Tensor] = []
    for batch, _ in data.evaluation_loader(split):
        chunks.append(batch.images.round().byte())  # a rotated picture has fractions of gray levels
        if sum(map(len, chunks)) >= MAX_CHECKED:
            break
    return torch.cat(chunks)[:MAX_CHECKED]


def _compare(answer: Answer, run: RestoredRun, images: Tensor, split: SplitName) -> Check:
    """Compare a file's answers, in batches of several sizes, with the checkpoint's in double precision."""
    # in double precision: in float32 even the checkpoint's own answers depend on the batch size
    network = copy.deepcopy(ExportedNetwork(run.module)).cpu().double().eval()
    with torch.inference_mode():
        expected = torch.cat([network.unrounded(chunk) for chunk in torch.split(images, CHECKED_BATCHES[-1][0])])
        differences = []
        for size, count in CHECKED_BATCHES:
            found = torch.cat([answer(chunk) for chunk in torch.split(images[:count], size)])
            differences.append((found - expected[:count]).abs().max())
    is_class = run.module.task != "regression"
    unit = 1.0 if is_class else run.module.spec.target_sd
    return Check(
        max_difference=float(torch.stack(differences).max()) / unit,  # NaN stays NaN
        num_pictures=len(images),
        num_same_class=int((found.argmax(1) == expected.argmax(1)).sum()) if is_class else None,
        split=split,
        batch_sizes=tuple(size for size, _ in CHECKED_BATCHES),
    )


def _describe(run: RestoredRun, to: FormatName, precision: PrecisionName) -> dict[str, str]:
    """The metadata that go into a file: texts, most of them JSON, which rebuild the network and name its origin.

    Keys: project, version, run, checkpoint, task, class_names, input, output, precision, spec, settings (model, data,
    trainer), metrics (of the test split, if they are about this checkpoint), data (source and hashes), provenance
    (command, commit, versions, hardware, seeds), exported_with.
    """
    spec = run.module.spec
    # the folders of this machine are of no use elsewhere
    data = {name: value for name, value in asdict(run.datamodule.settings).items() if name not in ("root", "download")}
    trainer = {name: run.trainer[name] for name in COMMON_TRAINER_SETTINGS if run.trainer.get(name) is not None}
    origin = read_provenance(run.folder)
    changed = bool(origin.pop("git_diff", ""))
    scores = {name: value for name, value in scored_metrics(run).items() if name.startswith("test/")}
    if spec.task == "regression":
        output = "value: float32 (batch,), in the target's unit"
    else:
        output = f"probabilities: float32 (batch, {len(spec.class_names)}), in the order of class_names"
    levels = "gray levels" if spec.channels == 1 else "channels last, levels"
    texts: dict[str, Any] = {
        "class_names": spec.class_names,
        "spec": asdict(spec),
        "settings": {"model": asdict(run.module.settings), "data": data, "trainer": trainer},
        "metrics": {name: value for name, value in scores.items() if isinstance(value, float)},
        "data": origin.pop("data", {}),
        "provenance": origin | {"uncommitted_changes": changed} if origin else {},
        "exported_with": {name: version(name) for name in ("torch", *FORMATS[to].packages)},
    }
    return {
        "project": "mlp-lightning-template",
        "version": project.__version__,
        "run": run.folder.resolve().name,
        "checkpoint": run.checkpoint.name,
        "task": spec.task,
        "input": f"images: uint8 (batch, {', '.join(map(str, spec.shape))}), {levels} 0-255",
        "output": output,
        "precision": precision,
    } | {name: json.dumps(finite(value), ensure_ascii=False) for name, value in texts.items()}


def _rebuild(metadata: dict[str, str], state: dict[str, Tensor]) -> ExportedNetwork:
    """The network that a file's metadata describe, with the given weights; a foreign file may cause any error."""
    model = json.loads(metadata["settings"])["model"] | {"compile": False}
    module = ImageModule.rebuild(ModelSettings(**model), json.loads(metadata["spec"]), state)
    precision = {"float32": torch.float32, "float64": torch.float64}[metadata["precision"]]
    return ExportedNetwork(module).to(precision).eval()


def load_network(path: str | Path) -> ExportedNetwork:
    """The network in a safetensors file, ready to answer; nothing except the file is needed.

    Raises:
        InputError: If the file cannot be read, or was not exported by this project.
    """
    safetensors = require("safetensors", "export")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors: {error}", "name a file that scripts/export.py wrote"
        ) from None
    try:
        return _rebuild(metadata, state)
    except Exception as error:  # a foreign file's metadata and tensors may raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{path} contains no network of this project: {lines[-1].strip()[:200]}",
            "name a file that scripts/export.py --to safetensors wrote",
        ) from None


def _trace(network: ExportedNetwork) -> torch.export.ExportedProgram:
    """The network's graph, for any batch size."""
    example = torch.zeros(2, *network.spec.shape, dtype=torch.uint8)  # 1 would become a constant
    program = torch.export.export(network, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the folders of this machine
    return program


def _write_onnx(network: ExportedNetwork, metadata: dict[str, str]) -> bytes:
    onnx = require("onnx", "export")
    num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    if num_bytes > MAX_ONNX_BYTES:
        raise InputError(
            f"the network has {num_bytes / 2**30:.1f} GiB of weights, but one ONNX file has room for less than 2",
            "type --to torch_export or --to safetensors",
        )
    program = cast(Any, torch.onnx).export(
        _trace(network),
        input_names=["images"],
        output_names=["value" if network.spec.task == "regression" else "probabilities"],
        dynamic_shapes={"images": {0: "batch"}},
        opset_version=ONNX_OPSET,
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _read_onnx(path: Path) -> Answer:
    runtime = require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except runtime.capi.onnxruntime_pybind11_state.NotImplemented as error:
        raise InputError(
            f"ONNX Runtime lacks a part of this network in double precision: {str(error).splitlines()[-1]}",
            "type --to torch_export or --to safetensors",
        ) from None
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _write_torch_export(network: ExportedNetwork, metadata: dict[str, str]) -> bytes:
    content = io.BytesIO()
    text = json.dumps(metadata, ensure_ascii=False, indent=1)
    torch.export.save(_trace(network), content, extra_files={METADATA_FILE: text})
    return content.getvalue()


def _read_torch_export(path: Path) -> Answer:
    # from memory: the unfinished file's name does not end in .pt2, which torch.export.load expects
    return cast(Answer, torch.export.load(io.BytesIO(path.read_bytes())).module())


def _write_safetensors(network: ExportedNetwork, metadata: dict[str, str]) -> bytes:
    state = network.float().state_dict()  # as trained: nothing is lost, and the reader converts it to double again
    return bytes(require("safetensors.torch", "export").save(state, metadata))


class _Format(NamedTuple):
    suffix: str
    packages: tuple[str, ...]  # what it needs besides torch
    write: Callable[[ExportedNetwork, dict[str, str]], bytes]
    read: Callable[[Path], Answer]


FORMATS: dict[FormatName, _Format] = {
    "onnx": _Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx),
    "torch_export": _Format(".pt2", (), _write_torch_export, _read_torch_export),
    "safetensors": _Format(".safetensors", ("safetensors",), _write_safetensors, load_network),
}
