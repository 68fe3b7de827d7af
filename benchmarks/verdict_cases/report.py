"""Cases for the figures in docs/verdicts.md alone: no rule and no threshold may be chosen by looking at them."""

from benchmarks.verdict_cases import Case, Settings

BASE: Settings = {"data.num_train": 10_000, "model.width": 256, "trainer.max_epochs": 6}
NARROWER: Settings = BASE | {"model.width": 128, "data.batch_size": 64, "model.depth": 3, "model.norm": "layer"}
BARE: Settings = BASE | {"model.norm": "none", "model.dropout": 0.0, "model.activation": "elu", "data.batch_size": 100}
MNIST: Settings = BASE | {"data.dataset": "mnist", "data.num_train": 8_000, "data.batch_size": 64}
NESTEROV: Settings = BASE | {"model.optimizer": "nesterov", "model.schedule": "linear", "data.batch_size": 64}
RMSPROP: Settings = BASE | {"model.optimizer": "rmsprop", "model.dropout": 0.1, "data.batch_size": 128}
SGD: Settings = BARE | {
    "model.optimizer": "sgd",
    "model.activation": "relu",
    "model.schedule": "cosine",
    "data.batch_size": 64,
}
NADAM: Settings = BASE | {"model.optimizer": "nadam", "model.activation": "swish", "data.dataset": "mnist"}
RADAM: Settings = BASE | {"model.optimizer": "radam", "model.depth": 3}
BINARY: Settings = BASE | {
    "data.dataset": "mnist",
    "model.task": "binary",
    "data.classes": [3, 5],
    "data.num_train": 3_000,
    "data.batch_size": 64,
}
LABEL: Settings = BARE | {"data.dataset": "mnist", "model.task": "regression", "model.activation": "relu"}
TANH: Settings = BARE | {"model.activation": "tanh", "model.depth": 4, "model.learning_rate": 0.001}
MORE: Settings = {"data.num_train": 25_000, "model.width": 384, "trainer.max_epochs": 3, "data.batch_size": 128}

SICK = [
    Case("nesterov 2", NESTEROV | {"model.norm": "none"}, {"model.learning_rate": 2.0}, ("model.learning_rate high",)),
    Case("rmsprop 0.2", RMSPROP, {"model.learning_rate": 0.2}, ("model.learning_rate high",)),
    Case("elu 0.3", BARE, {"model.learning_rate": 0.3}, ("model.learning_rate high",)),
    Case("tanh 0.2", TANH, {"model.learning_rate": 0.2}, ("model.learning_rate high",)),
    Case("label 0.5", LABEL, {"model.learning_rate": 0.5}, ("model.learning_rate high",)),
    Case("nesterov 1e-5", NESTEROV, {"model.learning_rate": 1e-5}, ("model.learning_rate low",)),
    Case("nadam 1e-6", NADAM, {"model.learning_rate": 1e-6}, ("model.learning_rate low",)),
    Case("sgd 3e-4", SGD, {"model.learning_rate": 3e-4}, ("model.learning_rate low",)),
    Case("layer norm 1e-5", NARROWER, {"model.learning_rate": 1e-5}, ("model.learning_rate low",)),
    Case("radam 1e-5", RADAM, {"model.learning_rate": 1e-5}, ("model.learning_rate low",)),
    Case("nadam decay 0.2", NADAM, {"model.weight_decay": 0.2}, ("model.weight_decay",)),
    Case("rmsprop decay 0.1", RMSPROP, {"model.weight_decay": 0.1}, ("model.weight_decay",)),
    Case("sgd decay 0.05", SGD, {"model.weight_decay": 0.2}, ("model.weight_decay",)),
    Case("adamw decay 8", NARROWER, {"model.weight_decay": 8.0}, ("model.weight_decay",)),
    Case("label decay 20", LABEL, {"model.weight_decay": 30.0}, ("model.weight_decay",)),
    Case("dropout 0.85", MNIST | {"model.width": 64}, {"model.dropout": 0.85}, ("model.dropout",)),
    Case(
        "dropout 0.7 twelve",
        BASE | {"model.depth": 8, "model.dropout": 0.0},
        {"model.dropout": 0.5},
        ("model.dropout",),
    ),
    Case("dropout 0.9 elu", BARE, {"model.dropout": 0.9}, ("model.dropout",)),
    Case("smoothing 0.97", NESTEROV, {"model.label_smoothing": 0.97}, ("model.label_smoothing",)),
    Case("clip 2e-4", SGD, {"trainer.gradient_clip_val": 2e-4}, ("trainer.gradient_clip_val",)),
    Case(
        "clip value",
        NESTEROV,
        {"trainer.gradient_clip_val": 1e-6, "trainer.gradient_clip_algorithm": "value"},
        ("trainer.gradient_clip_val",),
    ),
    Case("nesterov 0.9995", NESTEROV, {"model.momentum": 0.9995}, ("model.momentum",)),
    Case("nadam 0.999", NADAM, {"model.momentum": 0.999}, ("model.momentum",)),
    Case(
        "warm-up 0.99",
        NESTEROV,
        {"model.warmup_fraction": 0.99, "model.learning_rate": 0.005},
        ("model.warmup_fraction",),
    ),
    Case("batch 6000", MNIST, {"data.batch_size": 6000}, ("steps",)),
    Case("limit 0.01", MORE, {"trainer.limit_train_batches": 0.02}, ("steps",)),
    Case("accumulate", SGD, {"data.batch_size": 4096}, ("steps",)),
    Case("batch 2", MNIST | {"data.num_train": 2_000}, {"data.batch_size": 2}, ("data.batch_size small",)),
    Case("gray levels tanh", TANH, {"data.normalization": "none"}, ("data.normalization",)),
    Case("gray levels sgd", SGD, {"data.normalization": "none"}, ("data.normalization",)),
    Case("zeros mnist", MNIST | {"model.norm": "none"}, {"model.init": "zeros"}, ("symmetry",)),
    Case("scale 40", BARE, {"model.init_scale": 40.0}, ("init large",)),
    Case("scale 0.02", SGD | {"model.depth": 4}, {"model.init_scale": 0.02}, ("init small",)),
    Case("bias -15", MNIST | {"model.norm": "none"}, {"model.init_bias": -15.0}, ("model.init_bias",)),
    Case("sigmoid 12", BARE, {"model.activation": "sigmoid", "model.depth": 12}, ("vanishing",)),
    Case(
        "sigmoid 8 nesterov",
        NESTEROV | {"model.norm": "none"},
        {"model.activation": "sigmoid", "model.depth": 8},
        ("vanishing",),
    ),
    Case("tanh 60 normal", TANH, {"model.depth": 60, "model.init": "normal"}, ("collapse",)),
    Case("width 1", NARROWER, {"model.width": 1}, ("narrow",)),
    Case("bottleneck 2", MNIST | {"model.depth": 4}, {"model.width": [256, 128, 2, 128]}, ("narrow",)),
    Case("identity nadam", NADAM | {"model.dropout": 0.0}, {"model.activation": "identity"}, ("linear",)),
    Case("depth 0 label", LABEL, {"model.depth": 0}, ("linear",)),
    Case("mae sgd", SGD, {"model.loss": "mae"}, ("model.loss",)),
    Case("huber 1e-4", NESTEROV, {"model.loss": "huber", "model.huber_delta": 1e-4}, ("model.huber_delta",)),
    Case(
        "mixed augmentation",
        MNIST | {"trainer.max_epochs": 3},
        {"data.augmentation": ["shift", "affine", "erase", "cutmix"]},
        ("data.augmentation",),
    ),
    Case(
        "100 examples",
        NARROWER,
        {"data.num_train": 100, "trainer.max_epochs": 60, "data.batch_size": 20},
        ("data.num_train",),
    ),
    Case(
        "sgd low and decay",
        SGD,
        {"model.learning_rate": 0.001, "model.weight_decay": 1.0},
        ("model.learning_rate low", "model.weight_decay"),
    ),
    Case(
        "clip and warm-up",
        NESTEROV,
        {"trainer.gradient_clip_val": 0.001, "model.warmup_fraction": 0.9},
        ("trainer.gradient_clip_val", "model.warmup_fraction"),
    ),
    Case(
        "width 2 and smoothing",
        BASE,
        {"model.width": 2, "model.label_smoothing": 0.9},
        ("narrow", "model.label_smoothing"),
    ),
    Case(
        "gray and zeros bias",
        BARE,
        {"data.normalization": "none", "model.dropout": 0.8},
        ("data.normalization", "model.dropout"),
    ),
    Case(
        "sigmoid 9 and low lr",
        BARE,
        {"model.activation": "sigmoid", "model.depth": 9, "model.learning_rate": 1e-5},
        ("vanishing", "model.learning_rate low"),
    ),
    Case(
        "radam batch and smoothing",
        RADAM,
        {"data.batch_size": 5000, "model.label_smoothing": 0.95},
        ("steps", "model.label_smoothing"),
    ),
    Case(
        "binary clip",
        BINARY | {"model.optimizer": "sgd"},
        {"trainer.gradient_clip_val": 1e-4},
        ("trainer.gradient_clip_val",),
    ),
    Case("binary lr", BINARY, {"model.learning_rate": 1e-7}, ("model.learning_rate low",)),
]

HEALTHY = [
    *(
        Case(name, around)
        for name, around in {
            "base": BASE,
            "layer norm": NARROWER,
            "elu": BARE,
            "mnist": MNIST,
            "nesterov": NESTEROV,
            "rmsprop": RMSPROP,
            "sgd": SGD,
            "nadam": NADAM,
            "radam": RADAM,
            "binary": BINARY,
            "label": LABEL,
            "tanh": TANH,
            "more": MORE,
        }.items()
    ),
    Case("16 epochs", BASE | {"trainer.max_epochs": 16}),
    Case("16 epochs sgd", SGD | {"trainer.max_epochs": 16}),
    Case("15 epochs mnist", MNIST | {"trainer.max_epochs": 15}),
    Case("1,500 examples", MNIST | {"data.num_train": 1_500, "trainer.max_epochs": 15, "data.batch_size": 32}),
    Case("dropout 0.4", NARROWER | {"model.dropout": 0.4, "trainer.max_epochs": 10}),
    Case("mixup", BASE | {"data.augmentation": "mixup", "trainer.max_epochs": 10}),
    Case("smoothing 0.2", NESTEROV | {"model.label_smoothing": 0.2}),
    Case("clip 0.5", SGD | {"trainer.gradient_clip_val": 0.5}),
    Case("warm-up 0.2", RMSPROP | {"model.warmup_fraction": 0.2}),
    Case("selu 5", BARE | {"model.activation": "selu", "model.depth": 5, "model.learning_rate": 0.001}),
    Case("width list", BASE | {"model.depth": 3, "model.width": [400, 200, 50]}),
]
