"""From which value on a number is a finding, and where that value comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """A number that a judgement turns on, and why it is that number."""

    value: float
    reason: str


VANISHING_RATIO = Threshold(
    1e-3,
    "First hidden layer's gradient over the last one's, below which gradients vanish. Sigmoid layers of 256 on "
    "FashionMNIST (Xavier, Adam 1e-3, 3 epochs): 5 layers, ratio 3e-3, reach 0.861; 6 layers, 6e-4, 0.834; 8 layers, "
    "4e-5, 0.562.",
)
EXPLODING_RATIO = Threshold(
    1e3,
    "First hidden layer's gradient over the last one's, above which gradients explode: the mirror image of vanishing. "
    "Batch norm with relu gets there at about 37 layers, growing by √(π/(π−1)) = 1.21 a layer (Yang et al. 2019).",
)
SATURATED_FRACTION = Threshold(
    0.5,
    "Share of a layer's outputs with less than 5 % of the steepest slope, from which the layer counts as saturated: "
    "most of its gradient is lost (Glorot & Bengio 2010, section 3).",
)
DEAD_FRACTION = Threshold(
    0.5,
    "Share of units silent on every example, from which a layer counts as dying: half of the work is wasted. A healthy "
    "random relu network 20 layers deep has up to 0.3, one 40 deep 0.45, since deep down all examples look alike.",
)
DEAD_RISE = Threshold(
    0.2,
    "Rise of a layer's dead share since the first probe, from which units are said to be dying while training.",
)
DROPOUT_NOISE = Threshold(
    3.5,
    "Relative noise variance that dropout adds, p/(1 − p), summed over the hidden layers. 256 relu units with batch "
    "norm on FashionMNIST, 3 epochs: 0.859 at 3 (three layers, dropout 0.5) and 0.865 at 2.5 (ten layers, 0.2), but "
    "0.755 at 3.75 (fifteen, 0.2) and 0.653 at 5 (twenty, 0.2), where 0.871 is reached without.",
)
BORN_DEAD_PROBABILITY = Threshold(
    0.05,
    "Chance that a network of this shape is born dead, from which it is worth a word: one seed in twenty.",
)
COLLAPSED_RANK = Threshold(
    1.05,
    "Effective rank of a layer's activations, below which all examples look the same to it. Five sigmoid layers, which "
    "still train, leave 1.08; six, which hardly do, 1.02.",
)
INITIAL_LOSS_EXCESS = Threshold(
    3.0,
    "Nats by which the loss before training may exceed that of uniform guesses, log(classes). Every activation with "
    "its usual initialization stays within 2 at depths up to 20; pictures left at 0–255 cost a hundred or more.",
)
INITIAL_LOSS_DEFICIT = Threshold(
    0.5,
    "Nats by which the loss before training may lie below log(classes): random weights cannot know more than this.",
)
LARGE_UPDATE = Threshold(
    0.03,
    "Update over weight, from which the learning rate is high: more than ten times the usual 1e-3 (Hinton 2010, "
    "section 7, allows a factor of 10 either way), with a margin of 3.",
)
SMALL_UPDATE = Threshold(
    3e-5,
    "Update over weight, below which the learning rate is low: less than a tenth of the usual 1e-3 (Hinton 2010), with "
    "a margin of 3.",
)
GENERALIZATION_LOSS = Threshold(
    0.05,
    'Relative rise of the validation loss above its minimum, from which a network overfits: Prechelt 1998, "Early '
    'Stopping — But When?", criterion GL_5.',
)
ACCURACY_GAP = Threshold(
    0.05,
    "Training minus validation accuracy, from which the network has learned its examples rather than their kind.",
)
UNDERFIT_GAP = Threshold(
    0.02,
    "Training minus validation accuracy, up to which nearly all of the error is bias, and more capacity would pay.",
)
UNDERFIT_LOSS_GAP = Threshold(
    0.10,
    "The same by loss, relative to validation's, where there is no accuracy.",
)
UNDERFIT_FALL = Threshold(
    0.03,
    "Relative fall of the training loss per epoch in the last third, below which a curve has levelled off.",
)
UNDERFIT_ERROR = Threshold(
    0.05,
    "Training error (for regression, the loss in units of the target's variance), below which nobody would call it "
    "underfitting.",
)
FLAT_IMPROVEMENT = Threshold(
    0.01,
    "Relative fall of the training loss over the last third of the epochs, below which it stands still.",
)
CHANCE_MARGIN = Threshold(
    0.02,
    "Accuracy above that of always naming the commonest class, up to which nothing was learned.",
)
LOSS_JUMP = Threshold(
    0.10,
    "Relative rise of the training loss from one epoch to the next that counts as a jump; two of them, or ending above "
    "the first epoch's loss, and the learning rate is too high.",
)
VALIDATION_SPIKE = Threshold(
    0.25,
    "Relative rise of the validation loss in one epoch that the next takes back by at least LOSS_JUMP: overfitting "
    "does not turn back, steps that are too large do.",
)
CRAWL = Threshold(
    0.01,
    "Relative change of the training loss per epoch, below which a network that is still worse than guessing crawls.",
)
CRAWL_EXCESS = Threshold(
    0.02,
    "How far above that of guessing, relatively, the loss must be for that: a network that cannot learn still finds "
    "the frequencies of the classes, and with them the loss of guessing.",
)
STEADY_FALL = Threshold(
    0.7,
    "Last epoch's fall of the training loss over the average epoch's, from which the loss falls as if on a straight "
    "line: a curve that still has all of its way to go.",
)
LATE_IMPROVEMENT = Threshold(
    0.01,
    "Relative fall of the validation loss in the last epoch, from which more epochs would pay.",
)
WASTED_EPOCHS = Threshold(
    0.5,
    "Share of the epochs spent after the best one, from which the training was too long.",
)
CONSTANT_FEATURES = Threshold(
    0.25,
    "Share of features that never change, from which it is worth a word. MNIST's empty border makes 9 % and harms "
    "nothing.",
)
CLASS_IMBALANCE = Threshold(
    10.0,
    "Largest class over the smallest, from which rare classes suffer (Buda, Maki & Mazurowski 2018, "
    '"A systematic study of the class imbalance problem").',
)
INPUT_SCALE = Threshold(
    10.0,
    "Root mean square of the inputs, above which they are not normalized: initializations reckon with 1 (LeCun et al. "
    '1998, "Efficient BackProp", section 4.3).',
)
MIN_EPOCHS = Threshold(
    5,
    "Epochs from which a curve has a shape to judge; with fewer, only what is plain at once is said.",
)


def thresholds() -> dict[str, Threshold]:
    """Every threshold by its name, for the documentation."""
    return {name: value for name, value in globals().items() if isinstance(value, Threshold)}
