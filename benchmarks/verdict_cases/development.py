"""Cases for development: thresholds and rules may be chosen by them. None of their figures is reported as a result."""

from benchmarks.verdict_cases import Case, Settings

SMALL: Settings = {"data.num_train": 10_000, "model.width": 256, "data.batch_size": 128, "trainer.max_epochs": 5}
PLAIN: Settings = SMALL | {"model.norm": "none", "model.dropout": 0.0}
SGD: Settings = SMALL | {"model.optimizer": "sgd", "model.learning_rate": 0.3}
MOMENTUM: Settings = PLAIN | {"model.optimizer": "momentum", "model.learning_rate": 0.05}
ADAM: Settings = SMALL | {"model.optimizer": "adam", "model.schedule": "constant", "model.learning_rate": 0.001}
DEEP: Settings = SMALL | {"model.depth": 6, "model.width": 128, "model.dropout": 0.0}
MNIST: Settings = SMALL | {"data.dataset": "mnist", "model.activation": "gelu", "model.norm": "layer"}
BINARY: Settings = PLAIN | {"model.task": "binary", "data.classes": [4, 6], "data.num_train": 4_000}
ROTATION: Settings = SMALL | {"model.task": "regression", "data.target": "rotation", "model.dropout": 0.0}
WIDE: Settings = {"data.num_train": 20_000, "model.width": 512, "trainer.max_epochs": 4, "model.schedule": "cosine"}

SICK = [
    Case("shift", SMALL | {"trainer.max_epochs": 8}, {"data.augmentation": "shift"}, ("data.augmentation",)),
    Case("lr 0.6", PLAIN, {"model.learning_rate": 0.6}, ("model.learning_rate high",)),
    Case("lr 0.2 adamw", SMALL, {"model.learning_rate": 0.2}, ("model.learning_rate high",)),
    Case("lr 8 sgd", SGD | {"model.norm": "none"}, {"model.learning_rate": 8.0}, ("model.learning_rate high",)),
    Case("lr 1 momentum", MOMENTUM, {"model.learning_rate": 1.0}, ("model.learning_rate high",)),
    Case("lr 2e-6", SMALL, {"model.learning_rate": 2e-6}, ("model.learning_rate low",)),
    Case("lr 1e-3 sgd", SGD, {"model.learning_rate": 1e-3}, ("model.learning_rate low",)),
    Case("lr 3e-5 mnist", MNIST, {"model.learning_rate": 3e-5}, ("model.learning_rate low",)),
    Case("lr 1e-4 momentum", MOMENTUM, {"model.learning_rate": 1e-4}, ("model.learning_rate low",)),
    Case("decay 10", SMALL, {"model.weight_decay": 10.0}, ("model.weight_decay",)),
    Case("decay 0.1 adam", ADAM, {"model.weight_decay": 0.1}, ("model.weight_decay",)),
    Case("decay 0.1 sgd", SGD | {"model.norm": "none"}, {"model.weight_decay": 0.1}, ("model.weight_decay",)),
    Case("decay 3 rotation", ROTATION, {"model.weight_decay": 20.0}, ("model.weight_decay",)),
    Case("dropout 0.9", SMALL, {"model.dropout": 0.9}, ("model.dropout",)),
    Case("dropout 0.6 deep", DEEP, {"model.dropout": 0.6}, ("model.dropout",)),
    Case("dropout 0.8 narrow", PLAIN | {"model.width": 64}, {"model.dropout": 0.8}, ("model.dropout",)),
    Case("smoothing 0.98", SMALL, {"model.label_smoothing": 0.98}, ("model.label_smoothing",)),
    Case("clip 1e-4 sgd", SGD, {"trainer.gradient_clip_val": 1e-4}, ("trainer.gradient_clip_val",)),
    Case("clip 1e-3 momentum", MOMENTUM, {"trainer.gradient_clip_val": 1e-3}, ("trainer.gradient_clip_val",)),
    Case("momentum 0.999", MOMENTUM, {"model.momentum": 0.999}, ("model.momentum",)),
    Case("momentum 0.998 adamw", PLAIN, {"model.momentum": 0.998}, ("model.momentum",)),
    Case(
        "warm-up 0.98", SGD, {"model.warmup_fraction": 0.98, "model.schedule": "constant"}, ("model.warmup_fraction",)
    ),
    Case("batch 8192", SMALL, {"data.batch_size": 8192}, ("steps",)),
    Case("batch 5000 sgd", SGD, {"data.batch_size": 5000}, ("steps",)),
    Case("max_steps 12", WIDE, {"trainer.max_steps": 12}, ("steps",)),
    Case("batch 2 norm", SMALL | {"data.num_train": 2_000}, {"data.batch_size": 2}, ("data.batch_size small",)),
    Case("raw gray sgd", SGD | {"model.norm": "none"}, {"data.normalization": "none"}, ("data.normalization",)),
    Case(
        "raw gray sigmoid",
        PLAIN | {"model.activation": "sigmoid", "model.depth": 1},
        {"data.normalization": "none"},
        ("data.normalization",),
    ),
    Case("zeros", SMALL, {"model.init": "zeros"}, ("symmetry",)),
    Case("init_scale 30", PLAIN, {"model.init_scale": 30.0}, ("init large",)),
    Case("init_scale 0.001", MOMENTUM | {"model.depth": 3}, {"model.init_scale": 0.01}, ("init small",)),
    Case("bias -10", PLAIN, {"model.init_bias": -10.0}, ("model.init_bias",)),
    Case("sigmoid 10", PLAIN, {"model.activation": "sigmoid", "model.depth": 10}, ("vanishing",)),
    Case(
        "softsign 25",
        PLAIN,
        {"model.activation": "sigmoid", "model.depth": 7, "model.optimizer": "momentum", "model.learning_rate": 0.05},
        ("vanishing",),
    ),
    Case("relu 50 normal", PLAIN, {"model.depth": 50, "model.init": "normal"}, ("collapse",)),
    Case("width 2", SMALL, {"model.width": 2}, ("narrow",)),
    Case("bottleneck", SMALL | {"model.depth": 3}, {"model.width": [256, 3, 256]}, ("narrow",)),
    Case("identity mnist", MNIST, {"model.activation": "identity"}, ("linear",)),
    Case("depth 0 mnist", MNIST, {"model.depth": 0}, ("linear",)),
    Case("identity rotation", ROTATION, {"model.activation": "identity"}, ("linear",)),
    Case(
        "mae momentum",
        MOMENTUM,
        {"model.loss": "mae", "model.learning_rate": 0.01},
        ("model.loss", "model.learning_rate low"),
    ),
    Case("huber delta", SGD, {"model.loss": "huber", "model.huber_delta": 1e-3}, ("model.huber_delta",)),
    Case(
        "all augmentation",
        SMALL | {"trainer.max_epochs": 3},
        {"data.augmentation": ["affine", "erase", "cutmix"]},
        ("data.augmentation",),
    ),
    Case(
        "60 examples",
        SMALL | {"data.batch_size": 32},
        {"data.num_train": 60, "trainer.max_epochs": 100},
        ("data.num_train",),
    ),
    Case(
        "lr low and decay",
        ADAM,
        {"model.learning_rate": 1e-5, "model.weight_decay": 0.3},
        ("model.learning_rate low", "model.weight_decay"),
    ),
    Case(
        "dropout and smoothing",
        SMALL,
        {"model.dropout": 0.85, "model.label_smoothing": 0.9},
        ("model.dropout", "model.label_smoothing"),
    ),
    Case(
        "narrow and low lr",
        SMALL,
        {"model.width": 3, "model.learning_rate": 1e-4},
        ("narrow", "model.learning_rate low"),
    ),
    Case(
        "raw gray and high lr",
        PLAIN,
        {"data.normalization": "none", "model.learning_rate": 0.1},
        ("data.normalization", "model.learning_rate high"),
    ),
    Case(
        "sigmoid 8 and clip",
        MOMENTUM,
        {"model.activation": "sigmoid", "model.depth": 8, "trainer.gradient_clip_val": 1e-3},
        ("vanishing", "trainer.gradient_clip_val"),
    ),
    Case(
        "batch 4096 and warm-up",
        SMALL,
        {"data.batch_size": 4096, "model.warmup_fraction": 0.9},
        ("steps", "model.warmup_fraction"),
    ),
    Case("binary low lr", BINARY, {"model.learning_rate": 1e-6}, ("model.learning_rate low",)),
    Case(
        "binary decay",
        BINARY | {"model.optimizer": "adam", "model.learning_rate": 0.004},
        {"model.weight_decay": 0.5},
        ("model.weight_decay",),
    ),
    Case(
        "patience 1",
        SMALL | {"trainer.max_epochs": 15, "model.schedule": "one_cycle"},
        {"patience": 1, "model.learning_rate": 0.05},
        ("model.learning_rate high", "patience"),
    ),
]

HEALTHY = [
    *(
        Case(name, around)
        for name, around in {
            "small": SMALL,
            "plain": PLAIN,
            "sgd": SGD,
            "momentum": MOMENTUM,
            "adam": ADAM,
            "deep": DEEP,
            "mnist": MNIST,
            "binary": BINARY,
            "rotation": ROTATION,
            "wide": WIDE,
        }.items()
    ),
    Case("15 epochs", SMALL | {"trainer.max_epochs": 15}),
    Case("15 epochs plain", PLAIN | {"trainer.max_epochs": 15, "model.learning_rate": 0.001}),
    Case("15 epochs sgd", SGD | {"trainer.max_epochs": 15}),
    Case("few examples", SMALL | {"data.num_train": 2_000, "trainer.max_epochs": 15, "data.batch_size": 64}),
    Case("dropout 0.5", SMALL | {"model.dropout": 0.5, "trainer.max_epochs": 12}),
    Case("smoothing 0.1", MNIST | {"model.label_smoothing": 0.1}),
    Case("clip 1", MOMENTUM | {"trainer.gradient_clip_val": 1.0}),
    Case("tanh 3", PLAIN | {"model.activation": "tanh", "model.depth": 3, "model.learning_rate": 0.001}),
    Case("sigmoid 2", PLAIN | {"model.activation": "sigmoid", "trainer.max_epochs": 10}),
    Case("cyclic", SMALL | {"model.schedule": "cyclic", "trainer.max_epochs": 6}),
]
