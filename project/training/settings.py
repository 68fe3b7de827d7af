"""The settings of the model: the network, its loss and its optimizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypedDict

from project.errors import InputError
from project.network.activations import ACTIVATIONS, check_activation
from project.network.initializers import INITIALIZERS
from project.network.networks import NETWORKS, check_equal_widths
from project.network.norms import NORMS, is_normed
from project.network.optimization.losses import LOSSES, check_loss
from project.network.optimization.optimizers import OPTIMIZERS, check_optimizer, resolved_numbers
from project.network.optimization.schedules import SCHEDULES
from project.settings import check_choices, check_numbers, check_width
from project.task import TaskName

MAX_UNITS = 10_000_000
"""The largest number of layers, or of units in a layer, for which a network is tried."""
# fmt: off
NETWORK_SETTINGS = (
    "depth", "width", "activation", "activation_parameter", "init", "init_scale", "init_bias", "norm", "dropout",
)
# fmt: on
"""The settings of the network itself, which its row in `NETWORKS` gets by these names."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What the network looks like, and how it is trained.

    Args:
        task: What the network learns. multiclass; binary (one output, needs data.classes); regression (one output, see
            data.target).
        network: mlp; residual_mlp (each hidden layer after the first adds to the sum of those before).
        depth: Number of hidden layers; 0 is softmax (logistic, linear) regression.
        width: Units per hidden layer: one number, or a list with one for each layer.
        activation: Activation of the hidden layers.
        activation_parameter: Slope of leaky_relu and prelu, α of elu, β of swish and softplus; null is the usual value.
        init: Initial weights; auto suits the activation: xavier_uniform, kaiming_normal or lecun_normal.
        init_scale: Factor on every initial weight.
        init_bias: Initial bias of the hidden units.
        norm: Normalization between linear map and activation.
        dropout: Share of the hidden outputs that are set to 0 while training, in [0, 1).
        loss: Loss on the logits; auto is cross_entropy, binary_cross_entropy or mse by task.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        huber_delta: Distance from which Huber's loss is linear, for regression in sd of the target.
        optimizer: Optimizer of all weights; muon is for the hidden weights, with adamw for the rest.
        learning_rate: The highest learning rate of the schedule; auto suits the optimizer and the loss, for adamw with
            cross-entropy 0.004.
        momentum: Momentum of momentum, nesterov, rmsprop and muon; first beta of the Adam family; auto suits the
            optimizer, for adamw 0.9.
        weight_decay: Weight decay of the weights; biases and norm parameters have none; auto suits the optimizer, for
            adamw 0.05.
        schedule: How the learning rate changes over the training; step changes it at the start of an epoch.
        warmup_fraction: Share of the steps in which the rate first rises to the schedule's start, in [0, 1).
        compile: Whether to compile the network with torch.compile.

    Afterwards learning_rate, momentum and weight_decay are numbers, and these are saved. To change the optimizer of
    given settings, make new ones: `dataclasses.replace` would keep the numbers of the old one.

    Raises:
        InputError: If a name is unknown, a number is out of range, or two settings contradict each other.
    """

    CHOICES: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "network": NETWORKS,
        "activation": ACTIVATIONS,
        "init": INITIALIZERS,
        "norm": NORMS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
    }
    """The tables whose rows are a setting's choices."""

    task: TaskName = "multiclass"
    network: str = "mlp"
    depth: int = 2
    width: int | list[int] = 512
    activation: str = "relu"
    activation_parameter: float | None = None
    init: str = "auto"
    init_scale: float = 1.0
    init_bias: float = 0.0
    norm: str = "batch"
    dropout: float = 0.2
    loss: str = "auto"
    label_smoothing: float = 0.0
    huber_delta: float = 1.0
    optimizer: str = "adamw"
    learning_rate: float | Literal["auto"] = "auto"
    momentum: float | Literal["auto"] = "auto"
    weight_decay: float | Literal["auto"] = "auto"
    schedule: str = "one_cycle"
    warmup_fraction: float = 0.0
    compile: bool = False

    def __post_init__(self) -> None:
        check_choices("model", self)
        if max([self.depth, *(self.width if isinstance(self.width, list) else [self.width])]) > MAX_UNITS:
            raise InputError(
                f"a network of model.depth {self.depth} and model.width {self.width} does not fit into memory",
                "make one of the two smaller",
            )
        check_numbers(depth=self.depth, init_scale=self.init_scale, init_bias=self.init_bias, dropout=self.dropout)
        check_width(self.width, self.depth)
        check_equal_widths(self.network, self.width)
        check_activation(self.activation, self.activation_parameter)
        check_loss(self.loss, self.task, self.label_smoothing, self.huber_delta)
        for name, number in zip(("learning_rate", "momentum", "weight_decay"), self.optimizer_numbers, strict=True):
            object.__setattr__(self, name, number)  # frozen: nobody else sets it
        check_optimizer(self.optimizer, *self.optimizer_numbers, num_hidden=self.depth)
        check_numbers(warmup_fraction=self.warmup_fraction)

    @property
    def optimizer_numbers(self) -> tuple[float, float, float]:
        """Learning rate, momentum and weight decay."""
        numbers = (self.learning_rate, self.momentum, self.weight_decay)
        return resolved_numbers(
            self.optimizer, *numbers, loss=self.loss, task=self.task, normed=is_normed(self.norm, self.depth)
        )


class ModelKeywords(TypedDict, total=False):
    """The fields of `ModelSettings` as keyword arguments, for editors and type checkers; a test compares the two."""

    task: TaskName
    network: str
    depth: int
    width: int | list[int]
    activation: str
    activation_parameter: float | None
    init: str
    init_scale: float
    init_bias: float
    norm: str
    dropout: float
    loss: str
    label_smoothing: float
    huber_delta: float
    optimizer: str
    learning_rate: float | Literal["auto"]
    momentum: float | Literal["auto"]
    weight_decay: float | Literal["auto"]
    schedule: str
    warmup_fraction: float
    compile: bool
