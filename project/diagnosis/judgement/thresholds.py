"""The value from which on a number becomes a finding. The text below each one says why it is that value."""

VANISHING_RATIO = 1e-3
"""Gradients vanish when the first hidden layer's gradient over the last one's is below this. Sigmoid layers of 256
units on FashionMNIST (Xavier, Adam 1e-3, 3 epochs): 5 layers have the ratio 3e-3 and reach 0.861; 6 layers 6e-4 and
0.834; 8 layers 4e-5 and 0.562."""
EXPLODING_RATIO = 1e3
"""Gradients explode when that ratio is above this: the mirror image of vanishing. Batch norm with relu gets there at
about 37 layers, since each layer multiplies the gradient by √(π/(π−1)) = 1.21 (Yang et al. 2019)."""
SATURATED_FRACTION = 0.5
"""A layer counts as saturated when more than this share of its outputs has less than 5 % of the steepest slope: then
most of its gradient is lost (Glorot & Bengio 2010, section 3)."""
DEAD_FRACTION = 0.5
"""A layer has many dead units when more than this share is silent on every example: then half of its work is wasted. A
healthy random relu network of 20 layers has up to 0.3, one of 40 layers 0.45, since in deep layers all examples look
alike."""
DEAD_RISE = 0.2
"""Units are dying when a layer's dead share has risen by more than this since the first probe."""
DROPOUT_NOISE = 3.5
"""Dropout is too much when the relative variance of its noise, p/(1 − p), summed over the hidden layers, is above this.
256 relu units with batch norm on FashionMNIST, 3 epochs: 0.859 at 3 (three layers, dropout 0.5) and 0.865 at 2.5 (ten
layers, 0.2), but 0.755 at 3.75 (fifteen, 0.2) and 0.653 at 5 (twenty, 0.2), where the network without it reaches
0.871."""
BORN_DEAD_PROBABILITY = 0.05
"""The probability that a network of this shape is born dead is reported above this: one seed in twenty."""
COLLAPSED_RANK = 1.05
"""All examples look the same to a layer when the effective rank of its activations is below this. Five sigmoid layers,
which still train, have 1.08; six, which hardly train, 1.02."""
INITIAL_LOSS_EXCESS = 3.0
"""The loss before training is too high when it exceeds that of uniform guesses, log(classes), by more than this. Every
activation with its usual initialization stays within 2 at depths up to 20; pictures left at 0–255 exceed it by a
hundred or more."""
INITIAL_LOSS_DEFICIT = 0.5
"""The loss before training is too low when it is below log(classes) by more than this: random weights cannot know
more."""
LARGE_UPDATE = 0.03
"""The learning rate is high when update over weight is above this: more than ten times the usual 1e-3 (Hinton 2010,
section 7, allows a factor of 10 in both directions), with a margin of 3."""
CHANCE_MARGIN = 0.02
"""Nothing was learned when no accuracy is more than this above that of always naming the most frequent class."""
LOSS_JUMP = 0.10
"""The training loss jumps when it rises by more than this from one epoch to the next, relatively. Such jumps
are a sign of steps that are too large."""
LATE_IMPROVEMENT = 0.01
"""More epochs would help when the validation loss falls by more than this in the last epoch, relatively."""
CONSTANT_FEATURES = 0.25
"""Constant features are reported when their share is above this. MNIST's empty border is 9 % and harms nothing."""
CLASS_IMBALANCE = 10.0
"""Rare classes suffer when the largest class is more than this many times the smallest (Buda, Maki & Mazurowski 2018,
"A systematic study of the class imbalance problem")."""
INPUT_SCALE = 10.0
"""Inputs are not normalized when their root mean square is above this: initializations expect 1 (LeCun et al. 1998,
"Efficient BackProp", section 4.3)."""

RATE_FACTOR = 5.0
"""A learning rate is far from what suits its optimizer when it is this many times larger or smaller."""
SHORT_PATH = 0.5
"""The weights hardly moved when their changes over the whole training add up to less than this share of their size."""
LONG_MOMENTUM = 5.0
"""Momentum is long when it averages over this many times more steps than the optimizer's usual one."""
FEW_STEPS = 100
"""A training with fewer optimizer steps than this has hardly begun."""
KEPT_FRACTION = 0.25
"""Clipping is tight when it leaves less than this share of the gradient, in the mean over the steps."""
LONG_WARMUP = 0.5
"""A warm-up is long when it takes more than this share of the steps."""
DECOUPLED_PULL = 0.1
"""Decoupled weight decay is strong when it is more than this share of the whole update."""
SHRINKAGE = 1.0
"""…and would alone make the weights smaller by this power of e during the training."""
COUPLED_PULL = 0.3
"""Coupled weight decay is strong when it pulls more than this share as hard as the gradient of the loss."""
ADAPTIVE_PULL = 0.03
"""The same for adaptive optimizers. Adam with a weight decay of 0.1 on FashionMNIST has a pull of 0.13 and loses five
points."""
STRONG_DROPOUT = 2.0
"""Dropout is strong when the relative variance of its noise, summed over the layers, is above this."""
UNITS_LEFT = 16.0
"""Dropout leaves too little when fewer units than this are left of the narrowest layer."""
STRONG_SMOOTHING = 0.5
"""Label smoothing is strong when at least this share of the target is spread over the classes."""
NOISY_TRAINING = 0.08
"""Augmentation is strong when the training error is higher by more than this with it than without."""
SMALL_DELTA = 0.1
"""Huber's loss is linear almost everywhere when its delta is below this."""
SMALL_BATCH = 8
"""A batch of this many examples or fewer is very small."""
FEW_EXAMPLES = 50.0
"""Examples per class below which a network learns them by heart."""
LARGE_BIAS = 3.0
"""The initial bias is large when it is this many times the spread of the pre-activations."""
LARGE_SIGNAL = 10.0
"""Signals are too large when a layer's pre-activations have a spread above this, for inputs of size 1."""
SMALL_SIGNAL = 0.03
"""Signals are too small when a layer's pre-activations have a spread below this."""
CERTAIN = 8.0
"""A suspect this strong is the cause beyond doubt, and nothing else is reported."""
BLAME = 0.6
"""A suspect is reported when its strength times the harm is at least this."""
WEAK_SUSPECT = 0.35
"""A suspect is not reported beside another that is this many times stronger."""
HEALTHY_ERROR = 0.85
"""A healthy network's validation error is below this share of the reference's."""
HEALTHY_ERROR_SPREAD = 0.1
"""From no harm to certain harm the share grows by this."""
HEALTHY_FIT = 0.65
"""A healthy network's training error is below this share of the reference's validation error."""
HEALTHY_FIT_SPREAD = 0.15
"""From no harm to certain harm the share grows by this."""
TEST_MARGIN = 0.02
"""Two samples of the same data may differ by this much in error, since people collect them at different times."""
TEST_NOISE = 4.0
"""Standard errors beyond that margin from which on validation and test differ."""
FADING = 0.5
"""Signals fade when every layer's pre-activations have less than this share of the last one's spread. With the usual
initialization the share is about 1."""
SLOW_RATE = 2.0
"""A learning rate is too low when it is below this many times the one at which the loss begins to fall in a range test.
The rates that suit are 50 to 150 times that one, for adamw, sgd, momentum and adam on the default network."""
SHORT_PATIENCE = 3
"""Epochs of patience up to which a chance fluctuation of the monitored value may end a training."""
LOSS_FLOOR = 0.02
"""Rises of the loss smaller than this are nothing, however small the loss is."""
WORSE_AGAIN = 0.01
"""Validation got worse again when its error rose by more than this, and by three standard errors, from its best."""
MANY_EPOCHS = 15
"""Epochs that a training on all examples needs at most: the default's number."""
DEEP = 10
"""With more hidden layers than this, the usual initialization alone may not do: a norm is proposed as well."""
ONE_ANSWER = 0.9
"""A classifier gives one answer to all when it puts more than this share of the examples into one class."""
