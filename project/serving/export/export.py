"""A trained network as one file for other programs: ONNX, torch.export, or safetensors, checked before it is kept."""

import copy
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

import project
from project.data.normalization import Normalization
from project.data.settings import SplitName
from project.errors import InputError, RunError
from project.runs.parser import COMMON_TRAINER_SETTINGS
from project.runs.saving.files import part_of, read_json, read_yaml, replace_durably
from project.serving.evaluation import scored_metrics
from project.serving.export import FormatName, PrecisionName
from project.serving.export.model_card import Check, model_card
from project.serving.packages import require
from project.serving.restore import RestoredRun
from project.settings import finite
from project.task import DataSpec, probabilities
from project.training.module import ImageModule
from project.training.settings import ModelSettings

Answer = Callable[[Tensor], Tensor]
"""Gray levels, uint8 (batch, height, width), to probabilities (batch, classes) or values (batch,)."""
SUFFIX: dict[FormatName, str] = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
PACKAGES: dict[FormatName, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch_export": (),
    "safetensors": ("safetensors",),
}
"""What each format needs besides torch."""
METADATA_FILE = "metadata.json"
"""A torch.export archive keeps here what the other formats keep as their own metadata."""
TOLERANCE = 1e-5
"""Maximum difference between the file's answers and the checkpoint's, of a probability or in sd of the target."""
CHECKED_BATCHES = ((1, 100), (37, 1000), (2048, 10_000))
"""The check's batch sizes, and the maximum number of pictures for each."""
ONNX_OPSET = 18
"""The newest version that every torch since 2.8 writes directly; newer ones need a conversion."""
MAX_ONNX_BYTES = 2**31 - 2**20
"""One ONNX file is one protobuf message of less than 2 GiB; a little of it is for what is not weights."""


class ExportedNetwork(nn.Module):
    """Gray levels in, answers out: normalization, network, and softmax or the target's unit in one module.

    Args:
        module: The trained module, whose weights are shared.
    """

    def __init__(self, module: ImageModule) -> None:
        super().__init__()
        self.spec, self.normalization, self.mlp = module.spec, module.normalization, module.mlp

    def forward(self, images: Tensor) -> Tensor:
        """Gray levels 0–255, uint8 (batch, height, width), to float32 answers.

        Returns:
            For classification probabilities, (batch, classes), in the order of `spec.class_names`: two columns for the
            binary task. For regression values in the target's unit, (batch,).
        """
        return _answers(self.normalization, self.mlp, self.spec, images).float()


def _answers(normalization: nn.Module, mlp: nn.Module, spec: DataSpec, images: Tensor) -> Tensor:
    outputs = mlp(normalization(images))
    if spec.task == "regression":
        return spec.in_target_unit(cast(Tensor, outputs)[:, 0])
    return probabilities(cast(Tensor, outputs), spec.task)


@dataclass(frozen=True)
class Export:
    """What was written."""

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
    for existing in (path, card):
        if existing.exists() and not overwrite:
            raise InputError(f"{existing} exists already", "type --overwrite to replace it, or --output ANOTHER_FILE")
    for package in PACKAGES[to]:
        require(package, "export")
    images = _check_pictures(run, split)
    metadata = describe(run, to, precision)
    content = _WRITE[to](rebuild(metadata, run.module.state_dict()), metadata)
    part, card_part = part_of(path), part_of(card)
    new_folder = not path.parent.exists()
    try:
        path.parent.mkdir(exist_ok=True)
        try:
            part.write_bytes(content)
            check = compare(_READ[to](part), run, images, split)
            _judge(check, run, to, precision)
            card_part.write_text(model_card(run, path.name, to, metadata, check), encoding="utf-8")
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


def _judge(check: Check, run: RestoredRun, to: FormatName, precision: PrecisionName) -> None:
    if check.max_difference <= TOLERANCE:  # NaN is not
        return
    raise RunError(
        f"the {to} file answers differently from {run.checkpoint}: by {check.max_difference:.1e}, more than "
        f"{TOLERANCE:.0e}, and was deleted",
        "type --precision float64, as rounding moves this network's answers that far"
        if precision == "float32"
        else "train with --data.normalization standardize, whose numbers are smaller",
    )


def _target(run: RestoredRun, to: FormatName, output: Path | None) -> Path:
    if output is None:
        return run.folder / "export" / f"model{SUFFIX[to]}"
    if output.is_dir():
        return output / f"model{SUFFIX[to]}"
    if output.suffix != SUFFIX[to]:
        raise InputError(
            f"--output is {output}, but {to} files end in {SUFFIX[to]}",
            f"type --output {output.with_suffix(SUFFIX[to]) if output.name else 'model' + SUFFIX[to]}",
        )
    return output


def _check_pictures(run: RestoredRun, split: SplitName) -> Tensor:
    """Pictures of one split as whole gray levels, uint8 (n, height, width)."""
    data, spec = run.datamodule, run.module.spec
    try:
        _ = data.data
    except InputError as error:
        raise InputError(
            f"an export is checked on the run's own pictures. {error.cause}",
            "type --data_root FOLDER if the data have moved, or train's own remedy: " + error.remedy,
        ) from None
    size = tuple(data.data.test.images.shape[1:])
    if size != (spec.height, spec.width):
        raise InputError(
            f"the pictures under {data.settings.root} are {size[0]}×{size[1]}, but the network was trained on "
            f"{spec.height}×{spec.width}",
            "type --data_root FOLDER with the data that the run was trained on",
        )
    chunks, most = [], CHECKED_BATCHES[-1][1]
    if len(data.splits[split]):
        for batch, _ in data.evaluation_loader(split):
            chunks.append(batch.images.round().byte() if batch.images.is_floating_point() else batch.images)
            if sum(map(len, chunks)) >= most:
                break
    if not chunks:
        raise InputError(f"this run has no {split} split", "type --split test")
    return torch.cat(chunks)[:most]


def compare(answer: Answer, run: RestoredRun, images: Tensor, split: SplitName) -> Check:
    """Compare a file's answers, in batches of several sizes, with the checkpoint's in double precision.

    Args:
        answer: The function that the file computes.
        run: The run with the checkpoint's network.
        images: Gray levels, uint8 (n, height, width).
        split: The split that the images are from.
    """
    spec = run.module.spec
    # in double precision: in float32 even the checkpoint's own answers depend on the batch size
    normalization, mlp = (
        copy.deepcopy(part).cpu().double().eval() for part in (run.module.normalization, run.module.mlp)
    )
    with torch.inference_mode():
        chunks = torch.split(images, CHECKED_BATCHES[-1][0])
        expected = torch.cat([_answers(normalization, mlp, spec, chunk) for chunk in chunks])
        differences = []
        for size, most in CHECKED_BATCHES:
            found = torch.cat([answer(chunk) for chunk in torch.split(images[:most], size)])
            differences.append((found - expected[:most]).abs().max())
    is_class = spec.task != "regression"
    return Check(
        max_difference=float(torch.stack(differences).max()) / (1.0 if is_class else spec.target_sd),  # NaN stays NaN
        num_pictures=len(images),
        num_same_class=int((found.argmax(1) == expected.argmax(1)).sum()) if is_class else None,
        split=split,
        batch_sizes=tuple(size for size, _ in CHECKED_BATCHES),
    )


def describe(run: RestoredRun, to: FormatName, precision: PrecisionName) -> dict[str, str]:
    """The metadata that go into a file: texts, most of them JSON, which rebuild the network and name its origin.

    Keys: project, version, run, checkpoint, task, class_names, input, output, precision, spec, settings (model, data,
    trainer), metrics (of the test split, where the checkpoint is the one that they are of), data (source and hashes),
    provenance (command, commit, versions, hardware, seeds), exported_with.
    """
    spec = run.module.spec
    # the folders of this machine are of no use elsewhere
    data = {name: value for name, value in asdict(run.datamodule.settings).items() if name not in ("root", "download")}
    origin = read_json(run.folder / "provenance.json")
    changed = bool(origin.pop("git_diff", ""))
    metrics = {name: value for name, value in scored_metrics(run).items() if isinstance(value, float)}
    if spec.task == "regression":
        output = "value: float32 (batch,), in the target's unit"
    else:
        output = f"probabilities: float32 (batch, {len(spec.class_names)}), in the order of class_names"
    texts: dict[str, Any] = {
        "class_names": spec.class_names,
        "spec": asdict(spec),
        "settings": {"model": asdict(run.module.settings), "data": data, "trainer": _trainer_settings(run)},
        "metrics": {name: value for name, value in metrics.items() if name.startswith("test/")},
        "data": origin.pop("data", {}),
        "provenance": origin | {"uncommitted_changes": changed} if origin else {},
        "exported_with": {name: version(name) for name in ("torch", *PACKAGES[to])},
    }
    return {
        "project": "mlp-lightning-template",
        "version": project.__version__,
        "run": run.folder.resolve().name,
        "checkpoint": run.checkpoint.name,
        "task": spec.task,
        "input": f"images: uint8 (batch, {spec.height}, {spec.width}), gray levels 0-255",
        "output": output,
        "precision": precision,
    } | {name: json.dumps(finite(value), ensure_ascii=False) for name, value in texts.items()}


def _trainer_settings(run: RestoredRun) -> dict[str, Any]:
    """The most common trainer settings, as far as the run's config.yaml has them."""
    trainer = read_yaml(run.folder / "config.yaml").get("trainer")
    found = trainer if isinstance(trainer, dict) else {}
    return {name: found[name] for name in COMMON_TRAINER_SETTINGS if found.get(name) is not None}


def rebuild(metadata: dict[str, str], state: dict[str, Tensor]) -> ExportedNetwork:
    """The network that a file's metadata describe, with the given weights.

    Args:
        metadata: The metadata, as `describe` returns them.
        state: The module's weights and buffers by name.

    Raises:
        Exception: Any error of the constructors, if the metadata and weights of a foreign file are no network.
    """
    model = json.loads(metadata["settings"])["model"] | {"compile": False}
    spec = json.loads(metadata["spec"])
    spec["class_names"] = tuple(spec["class_names"])
    normalization = Normalization(state["normalization.shift"].clone(), state["normalization.scale"].clone())
    module = ImageModule(DataSpec(**spec), normalization, ModelSettings(**model))
    module.load_state_dict(state)
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
        return rebuild(metadata, state)
    except Exception as error:  # a foreign file's metadata and tensors may raise anything
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"{path} holds no network of this project: {lines[-1].strip()[:200]}",
            "name a file that scripts/export.py --to safetensors wrote",
        ) from None


def _trace(network: ExportedNetwork) -> torch.export.ExportedProgram:
    """The network's graph, for any batch size."""
    example = torch.zeros(2, network.spec.height, network.spec.width, dtype=torch.uint8)  # 1 would become a constant
    program = torch.export.export(network, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the folders of this machine
    return program


def _write_onnx(network: ExportedNetwork, metadata: dict[str, str]) -> bytes:
    onnx = require("onnx", "export")
    num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    if num_bytes > MAX_ONNX_BYTES:
        raise InputError(
            f"the network has {num_bytes / 2**30:.1f} GiB of weights, but one ONNX file holds less than 2",
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


_WRITE: dict[FormatName, Callable[[ExportedNetwork, dict[str, str]], bytes]] = {
    "onnx": _write_onnx,
    "torch_export": _write_torch_export,
    "safetensors": _write_safetensors,
}
_READ: dict[FormatName, Callable[[Path], Answer]] = {
    "onnx": _read_onnx,
    "torch_export": _read_torch_export,
    "safetensors": load_network,
}
