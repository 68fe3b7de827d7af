"""The settings of the model: the network, its loss and its optimizer."""

from dataclasses import dataclass

from project.errors import InputError
from project.network import check_network
from project.network.activations import ActivationName
from project.network.initializers import InitName
from project.network.losses import LossName, check_loss
from project.network.norms import NormName
from project.network.optimization.optimizers import OptimizerName, check_optimizer
from project.network.optimization.schedules import ScheduleName, check_schedule
from project.settings import check_choices
from project.task import TaskName

MAX_UNITS = 10_000_000
"""Layers, or units in a layer, beyond which a network is not even tried."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What the network looks like, and how it is trained.

    Args:
        task: multiclass; binary (one output, needs data.classes); regression (one output, see data.target).
        depth: Number of hidden layers; 0 is softmax (logistic, linear) regression.
        width: Units per hidden layer: one number, or a list with one for each layer.
        activation: Activation of the hidden layers.
        activation_parameter: Slope of leaky_relu and prelu, α of elu, β of swish and softplus; its usual value if null.
        init: Initial weights; auto suits the activation: xavier_uniform, kaiming_normal or lecun_normal.
        init_scale: Factor on every initial weight.
        init_bias: Initial bias of the hidden units.
        norm: Normalization between linear map and activation.
        dropout: Share of hidden outputs dropped while training, in [0, 1).
        loss: Loss on the logits; auto is cross_entropy, binary_cross_entropy or mse by task.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        huber_delta: Where Huber's loss turns from square to linear, in sd of the target for regression.
        optimizer: sgd, with momentum or nesterov; the adaptive ones; muon for hidden weights with adamw for the rest.
        learning_rate: The highest that the schedule reaches.
        momentum: Of momentum, nesterov, rmsprop and muon; first beta of the Adam family.
        weight_decay: On weights alone, never on biases or norm parameters.
        schedule: Learning rate over the whole training; step means by epoch.
        warmup_fraction: Share of the steps in which the rate first rises to where the schedule starts, in [0, 1).
        compile: Compile the network with torch.compile.

    Raises:
        InputError: If a number is out of range, or two settings contradict each other.
    """

    task: TaskName = "multiclass"
    depth: int = 2
    width: int | list[int] = 512
    activation: ActivationName = "relu"
    activation_parameter: float | None = None
    init: InitName = "auto"
    init_scale: float = 1.0
    init_bias: float = 0.0
    norm: NormName = "batch"
    dropout: float = 0.2
    loss: LossName = "auto"
    label_smoothing: float = 0.0
    huber_delta: float = 1.0
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 0.004
    momentum: float = 0.9
    weight_decay: float = 0.05
    schedule: ScheduleName = "one_cycle"
    warmup_fraction: float = 0.0
    compile: bool = False

    def __post_init__(self) -> None:
        check_choices("model", self)
        if max([self.depth, *(self.width if isinstance(self.width, list) else [self.width])]) > MAX_UNITS:
            raise InputError(
                f"a network of model.depth {self.depth} and model.width {self.width} does not fit into memory",
                "make one of the two smaller",
            )
        check_network(
            self.depth,
            self.width,
            activation=self.activation,
            activation_parameter=self.activation_parameter,
            init=self.init,
            init_scale=self.init_scale,
            init_bias=self.init_bias,
            norm=self.norm,
            dropout=self.dropout,
        )
        check_loss(self.loss, self.task, self.label_smoothing, self.huber_delta)
        check_optimizer(self.optimizer, self.learning_rate, self.momentum, self.weight_decay, num_hidden=self.depth)
        check_schedule(self.schedule, self.warmup_fraction)
