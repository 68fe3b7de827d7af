"""What the project's speed is measured against: the same job, written as its users would write it without the project.

- `lightning_dataloader`: torchvision's data set class, a `DataLoader`, a LightningModule that logs at every step.
- `bare_loop`: plain PyTorch over images that are held in memory.
- `matrix_products`: only the matrix products of that job; no program that trains the network does less.

Nothing of the project is imported here but its Muon. The first epoch of each contains the warm-up; leave it out of a
comparison.
"""

import gzip
import itertools
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

NUM_CLASSES = 10
MEAN_AND_SD = {"mnist": (0.1307, 0.3081), "fashion_mnist": (0.2860, 0.3530), "arrays": (0.3080, 0.1810)}
"""Mean and standard deviation of the training pixels on the scale 0–1; most programs contain these numbers. Those of
arrays are of `write_colour`."""
FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
}
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


@dataclass(frozen=True)
class Job:
    """What is to be trained; all baselines do the same job.

    Args:
        root: The folder has torchvision's layout, its files raw or gzipped; for arrays it is what `write_colour` wrote.
        width: Each hidden layer has so many units; softmax regression has no hidden layer.
        activation: The name is one of ACTIVATIONS.
        norm: It stands between the linear map and the activation.
        dropout: This share of the activations, in [0, 1), is dropped.
        batch_size: Each optimizer step uses so many examples; an epoch's last batch may be smaller.
        optimizer: All but the next three of its settings have PyTorch's defaults.
        learning_rate: This is the largest learning rate of the schedule.
        momentum: Only sgd uses it; muon has 0.9.
        weight_decay: It applies to all parameters.
        schedule: It changes the learning rate at each optimizer step, over all epochs.
        num_validation: So many training images are scored after each epoch instead; with 0 there is no validation.
        num_train: So many of the other training images are used; None takes all.
        seed: It decides weights, split, batch order and dropout.
    """

    root: Path
    dataset: Literal["mnist", "fashion_mnist", "arrays"] = "fashion_mnist"
    width: tuple[int, ...] = (64, 128, 64)
    activation: str = "relu"
    norm: Literal["none", "batch", "layer"] = "none"
    dropout: float = 0.0
    batch_size: int = 128
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    num_epochs: int = 3
    num_validation: int = 5000
    num_train: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """How long a baseline took, and what it reached; lists hold one entry per epoch.

    Args:
        epoch_s: Training and validation took these seconds; reading the data and setting up are not counted.
        train_loss: This is the mean over the epoch's examples, while the weights were changing.
        train_accuracy: It is measured in the same way, in [0, 1].
        validation_accuracy: It lies in [0, 1]; the list is empty if there is no validation.
        test_accuracy: It lies in [0, 1]; None means that nobody asked for it.
        model: This is the trained network, if there is one.
    """

    epoch_s: list[float]
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    test_accuracy: float | None = None
    model: nn.Module | None = None


def build_network(job: Job, num_inputs: int) -> nn.Sequential:
    """Linear, norm, activation, dropout for each hidden layer, then the output layer; PyTorch's initialization."""
    layers: list[nn.Module] = [nn.Flatten()]
    n_in = num_inputs
    for n_out in job.width:
        layers.append(nn.Linear(n_in, n_out))
        if job.norm != "none":
            layers.append(NORMS[job.norm](n_out))
        layers.append(ACTIVATIONS[job.activation]())
        if job.dropout > 0:
            layers.append(nn.Dropout(job.dropout))
        n_in = n_out
    layers.append(nn.Linear(n_in, NUM_CLASSES))
    return nn.Sequential(*layers)


def build_optimizer(job: Job, model: nn.Module, fused: bool | None = None) -> torch.optim.Optimizer:
    parameters = model.parameters()
    if job.optimizer == "muon":  # torch's own computes in bfloat16, which takes many CPUs forty times as long
        from project.network.optimization.muon import MuonWithAdamW

        hidden = [layer.weight for layer in model.children() if isinstance(layer, nn.Linear)][:-1]
        others = [parameter for parameter in parameters if all(parameter is not weight for weight in hidden)]
        decay = {"weight_decay": job.weight_decay}
        return MuonWithAdamW({"params": hidden, **decay}, [{"params": others, **decay}], job.learning_rate, 0.9)
    if job.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, job.learning_rate, momentum=job.momentum, weight_decay=job.weight_decay, fused=fused
        )
    adam = torch.optim.Adam if job.optimizer == "adam" else torch.optim.AdamW
    return adam(parameters, job.learning_rate, weight_decay=job.weight_decay, fused=fused)


def build_schedule(
    job: Job, optimizer: torch.optim.Optimizer, num_steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    match job.schedule:
        case "constant":
            return None
        case "cosine":
            return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
        case "one_cycle":
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer, job.learning_rate, total_steps=num_steps, cycle_momentum=False
            )


def raw_files(job: Job, train: bool) -> tuple[Path, Path]:
    """Image file and label file of a split, the raw one where there is a choice."""
    folder = job.root / FOLDERS[job.dataset] / "raw"
    prefix = "train" if train else "t10k"
    plain = folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"
    images, labels = (path if path.exists() else path.with_name(f"{path.name}.gz") for path in plain)
    return images, labels


def read_bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def load(job: Job, train: bool) -> tuple[Tensor, Tensor]:
    """One split's images, (examples, pixels) of uint8, and labels, (examples,) of int64."""
    if job.dataset == "arrays":
        pictures, classes = (np.load(job.root / f"{part}_{'train' if train else 'test'}.npy") for part in "xy")
        return torch.from_numpy(pictures).flatten(1), torch.from_numpy(classes)
    image_file, label_file = raw_files(job, train)
    labels = np.frombuffer(read_bytes(label_file), np.uint8, offset=8)
    images = np.frombuffer(read_bytes(image_file), np.uint8, offset=16).reshape(len(labels), -1)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels.astype(np.int64))


def write_colour(folder: Path, num_train: int = 50_000, num_test: int = 10_000) -> Path:
    """Write pictures as many and as large as CIFAR-10's: noise with a bright red row, whose place shows the class."""
    generator = np.random.default_rng(0)
    for split, num in (("train", num_train), ("test", num_test)):
        labels = np.arange(num) % NUM_CLASSES
        images = generator.integers(156, size=(num, 32, 32, 3), dtype=np.uint8)
        images[np.arange(num), 3 * labels + 2, :, 0] += 100
        np.save(folder / f"x_{split}.npy", images)
        np.save(folder / f"y_{split}.npy", labels)
    return folder


def bare_loop(job: Job, device: str = "cpu", with_test: bool = False) -> Outcome:
    """Train with a plain PyTorch loop: images as uint8 on the device, fused optimizer, sums kept on the device."""
    torch.manual_seed(job.seed)
    images, labels = (tensor.to(device) for tensor in load(job, train=True))
    order = torch.randperm(len(images), device=device)
    validation, train = order[: job.num_validation], order[job.num_validation :][: job.num_train]
    validation_images, validation_labels = images[validation], labels[validation]
    images, labels = images[train], labels[train]
    mean, sd = (255 * value for value in MEAN_AND_SD[job.dataset])

    model = build_network(job, images.shape[1]).to(device)
    optimizer = build_optimizer(job, model, fused=True)
    schedule = build_schedule(job, optimizer, job.num_epochs * math.ceil(len(images) / job.batch_size))

    def accuracy(images: Tensor, labels: Tensor) -> float:
        model.eval()
        num_correct = torch.zeros((), dtype=torch.int64, device=device)
        with torch.inference_mode():
            for i in range(0, len(images), 1000):
                logits = model((images[i : i + 1000].float() - mean) / sd)
                num_correct += (logits.argmax(dim=1) == labels[i : i + 1000]).sum()
        return num_correct.item() / len(labels)

    epoch_s, train_loss, train_accuracy, validation_accuracy = [], [], [], []
    for _ in range(job.num_epochs):
        start = time.perf_counter()
        model.train()
        loss_sum = torch.zeros((), device=device)
        num_correct = torch.zeros((), dtype=torch.int64, device=device)
        order = torch.randperm(len(images), device=device)
        for i in range(0, len(images), job.batch_size):
            index = order[i : i + job.batch_size]
            target = labels[index]
            logits = model((images[index].float() - mean) / sd)
            loss = functional.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if schedule is not None:
                schedule.step()
            loss_sum += loss.detach() * len(index)
            num_correct += (logits.detach().argmax(dim=1) == target).sum()
        train_loss.append(loss_sum.item() / len(images))
        train_accuracy.append(num_correct.item() / len(images))
        if len(validation):
            validation_accuracy.append(accuracy(validation_images, validation_labels))
        epoch_s.append(time.perf_counter() - start)
    test_accuracy = None
    if with_test:
        test_images, test_labels = (tensor.to(device) for tensor in load(job, train=False))
        test_accuracy = accuracy(test_images, test_labels)
    return Outcome(epoch_s, train_loss, train_accuracy, validation_accuracy, test_accuracy, model)


def matrix_products(job: Job, device: str = "cpu") -> Outcome:
    """Multiply the matrices of the training steps and do nothing else; results go into memory that is there already.

    For each layer of each batch: its output, the gradient of its weights, and, except for the first layer, the
    gradient of its input. Images are converted to floats before the epoch and are not shuffled; all other matrices hold
    random numbers.
    """
    torch.manual_seed(job.seed)
    images = load(job, train=True)[0][job.num_validation :][: job.num_train].to(device).float() / 255
    sizes = [images.shape[1], *job.width, NUM_CLASSES]
    weights = [torch.randn(n_out, n_in, device=device) for n_in, n_out in itertools.pairwise(sizes)]
    weight_gradients = [torch.empty_like(weight) for weight in weights]
    activations, outputs, output_gradients, input_gradients = (
        [torch.randn(job.batch_size, size, device=device) for size in some]
        for some in (sizes[:-1], sizes[1:], sizes[1:], sizes[:-1])
    )
    epoch_s = []
    for _ in range(job.num_epochs):
        start = time.perf_counter()
        with torch.inference_mode():
            for i in range(0, len(images), job.batch_size):
                batch = images[i : i + job.batch_size]
                n = len(batch)
                for layer, weight in enumerate(weights):
                    x = activations[layer][:n] if layer > 0 else batch
                    torch.mm(x, weight.T, out=outputs[layer][:n])
                for layer, weight in reversed(list(enumerate(weights))):
                    x = activations[layer][:n] if layer > 0 else batch
                    gradient = output_gradients[layer][:n]
                    torch.mm(gradient.T, x, out=weight_gradients[layer])
                    if layer > 0:
                        torch.mm(gradient, weight, out=input_gradients[layer][:n])
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        epoch_s.append(time.perf_counter() - start)
    return Outcome(epoch_s)


def matrix_product_flops(job: Job, num_inputs: int, num_examples: int) -> int:
    """Floating-point operations of an epoch of `matrix_products`; a multiplication and an addition count as two."""
    sizes = [num_inputs, *job.width, NUM_CLASSES]
    num_weights = [n_in * n_out for n_in, n_out in itertools.pairwise(sizes)]
    return 2 * num_examples * (3 * sum(num_weights) - num_weights[0])


def unpack(job: Job, folder: Path) -> Path:
    """The root with raw files that torchvision wants: the job's own, or `folder` with copies of its gzipped files."""
    files = [*raw_files(job, train=True), *raw_files(job, train=False)]
    if all(path.suffix != ".gz" for path in files):
        return job.root
    target = folder / FOLDERS[job.dataset] / "raw"
    target.mkdir(parents=True)
    for path in files:
        (target / path.name.removesuffix(".gz")).write_bytes(read_bytes(path))
    return folder


def lightning_dataloader(job: Job, num_workers: int = 0, device: str = "cpu") -> Outcome:
    """Train as Lightning's introductions do: a data set class, a DataLoader, loss and accuracy logged at every step.

    The Trainer is the default one, with progress bar, model summary and a checkpoint after each epoch; loss and
    accuracy of training are shown in the bar.
    """
    import pytorch_lightning as pl
    import torchmetrics
    from pytorch_lightning.callbacks import LambdaCallback
    from pytorch_lightning.loggers import TensorBoardLogger
    from pytorch_lightning.utilities.types import OptimizerLRScheduler
    from torch.utils.data import DataLoader, random_split
    from torchvision import datasets, transforms

    class Classifier(pl.LightningModule):
        def __init__(self, num_inputs: int) -> None:
            super().__init__()
            self.network = build_network(job, num_inputs)
            self.train_accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=NUM_CLASSES)
            self.validation_accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=NUM_CLASSES)

        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            images, labels = batch
            logits = self.network(images)
            loss = functional.cross_entropy(logits, labels)
            self.train_accuracy(logits, labels)
            self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
            self.log("train/accuracy", self.train_accuracy, on_step=True, on_epoch=True, prog_bar=True)
            return loss

        def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
            images, labels = batch
            logits = self.network(images)
            self.validation_accuracy(logits, labels)
            self.log("validation/loss", functional.cross_entropy(logits, labels))
            self.log("validation/accuracy", self.validation_accuracy)

        def configure_optimizers(self) -> OptimizerLRScheduler:
            optimizer = build_optimizer(job, self)
            schedule = build_schedule(job, optimizer, int(self.trainer.estimated_stepping_batches))
            if schedule is None:
                return optimizer
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    times: list[float] = []
    metrics: list[dict[str, float]] = []

    def note(trainer: pl.Trainer, _: pl.LightningModule) -> None:
        times.append(time.perf_counter())
        metrics.append({name: value.item() for name, value in trainer.callback_metrics.items()})

    torch.manual_seed(job.seed)
    with tempfile.TemporaryDirectory() as temporary:
        root = unpack(job, Path(temporary))
        data_class = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[job.dataset]
        mean, sd = MEAN_AND_SD[job.dataset]
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((mean,), (sd,))])
        data = data_class(root, train=True, transform=transform)
        parts = [job.num_train or len(data) - job.num_validation, job.num_validation]
        if left_out := len(data) - sum(parts):
            parts.append(left_out)
        train, validation = random_split(data, parts)[:2]
        settings: dict[str, Any] = {
            "batch_size": job.batch_size,
            "num_workers": num_workers,
            "persistent_workers": num_workers > 0,
            "pin_memory": device != "cpu",
        }
        train_loader = DataLoader(train, shuffle=True, **settings)
        validation_loader = DataLoader(validation, **settings) if job.num_validation else None
        model = Classifier(data[0][0].numel())
        trainer = pl.Trainer(
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=1,
            max_epochs=job.num_epochs,
            logger=TensorBoardLogger(temporary),
            callbacks=[LambdaCallback(on_train_epoch_start=note, on_train_end=note)],
        )
        trainer.fit(model, train_loader, validation_loader)
    return Outcome(
        epoch_s=[end - start for start, end in itertools.pairwise(times)],
        train_loss=[epoch["train/loss_epoch"] for epoch in metrics[1:]],
        train_accuracy=[epoch["train/accuracy_epoch"] for epoch in metrics[1:]],
        validation_accuracy=[epoch["validation/accuracy"] for epoch in metrics[1:] if job.num_validation],
        model=model.network,
    )
