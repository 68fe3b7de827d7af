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
SMALL_UPDATE = 3e-5
"""The learning rate is low when update over weight is below this: less than a tenth of the usual 1e-3 (Hinton 2010),
with a margin of 3."""
GENERALIZATION_LOSS = 0.05
"""A network overfits when its validation loss rises above its minimum by more than this, relatively: Prechelt 1998,
"Early Stopping — But When?", criterion GL_5."""
ACCURACY_GAP = 0.05
"""A network overfits when training minus validation accuracy is above this: it has learned its examples by heart."""
UNDERFIT_GAP = 0.02
"""A network may underfit when training minus validation accuracy is below this: then nearly all of the error is bias,
and more capacity would help."""
UNDERFIT_LOSS_GAP = 0.10
"""The same for the losses, relative to validation's, where there is no accuracy."""
UNDERFIT_FALL = 0.03
"""A curve is level when the training loss falls by less than this per epoch, relatively, in the last third."""
UNDERFIT_ERROR = 0.05
"""Nobody would call a network underfitting whose training error (for regression, the loss in units of the target's
variance) is below this."""
FLAT_IMPROVEMENT = 0.01
"""The training loss stands still when it falls by less than this, relatively, over the last third of the epochs."""
CHANCE_MARGIN = 0.02
"""Nothing was learned when no accuracy is more than this above that of always naming the most frequent class."""
LOSS_JUMP = 0.10
"""The training loss jumps when it rises by more than this from one epoch to the next, relatively. After two jumps, or
with a last loss above the first, the learning rate is too high."""
VALIDATION_SPIKE = 0.25
"""A spike is a relative rise of the validation loss by more than this in one epoch, of which the next takes back at
least LOSS_JUMP: overfitting does not turn back, steps that are too large do."""
CRAWL = 0.01
"""A network that is still worse than guessing learns too slowly when its training loss changes by less than this per
epoch, relatively."""
CRAWL_EXCESS = 0.02
"""For that the loss must be above that of guessing by more than this, relatively: a network that cannot learn still
finds the frequencies of the classes, and with them the loss of guessing."""
STEADY_FALL = 0.7
"""The loss falls on a straight line when its fall in the last epoch is more than this share of the average epoch's:
most of the way is still to go."""
LATE_IMPROVEMENT = 0.01
"""More epochs would help when the validation loss falls by more than this in the last epoch, relatively."""
WASTED_EPOCHS = 0.5
"""Training was too long when at least this share of the epochs came after the best one."""
CONSTANT_FEATURES = 0.25
"""Constant features are reported when their share is above this. MNIST's empty border is 9 % and harms nothing."""
CLASS_IMBALANCE = 10.0
"""Rare classes suffer when the largest class is more than this many times the smallest (Buda, Maki & Mazurowski 2018,
"A systematic study of the class imbalance problem")."""
INPUT_SCALE = 10.0
"""Inputs are not normalized when their root mean square is above this: initializations expect 1 (LeCun et al. 1998,
"Efficient BackProp", section 4.3)."""
MIN_EPOCHS = 5
"""A curve has a shape that can be judged from this many epochs on; of fewer, only the plainest is reported."""
