"""Names of settings and values in other tools, which suggestions translate."""

#: Names of settings in other tools, by section.
ALIASES: dict[str, dict[str, str]] = {
    "train": {
        "lr": "rate",
        "learning-rate": "rate",
        "learning_rate": "rate",
        "learningrate": "rate",
        "base_lr": "rate",
        "initial-rate": "rate",
        "bs": "batch",
        "batch-size": "batch",
        "batch_size": "batch",
        "batchsize": "batch",
        "minibatch": "batch",
        "mini-batch": "batch",
        "epoch": "stop",
        "epochs": "stop",
        "num-epochs": "stop",
        "max-epochs": "stop",
        "iteration": "stop",
        "iterations": "stop",
        "iters": "stop",
        "steps": "stop",
        "max-iter": "stop",
        "max_iter": "stop",
        "stop-after": "stop",
        "wd": "weight-decay",
        "l2": "weight-decay",
        "weight_decay": "weight-decay",
        "weightdecay": "weight-decay",
        "gamma": "decay",
        "lr-decay": "decay",
        "rate-decay": "decay",
        "resize": "scale",
        "size": "scale",
        "scales": "scale",
        "jitter": "scale",
        "s": "scale",
        "colour-jitter": "colour-shift",
        "colour_shift": "colour-shift",
        "colourshift": "colour-shift",
        "lighting": "colour-shift",
        "pca": "colour-shift",
        "init": "start",
        "initialisation": "start",
        "initialization": "start",
        "initialise": "start",
        "initialize": "start",
        "mirror": "flip",
        "hflip": "flip",
        "horizontal-flip": "flip",
        "flips": "flip",
        "folder": "data",
        "images": "data",
    },
    "test": {
        "q": "scale",
        "size": "scale",
        "crop": "crops",
        "multi-crop": "crops",
        "multicrop": "crops",
        "grid": "crops",
        "mirror": "flip",
        "hflip": "flip",
        "flips": "flip",
    },
}

#: Settings of other tools that say their unit, as they are written here.
FORMS = {
    **dict.fromkeys(("epoch", "epochs", "num-epochs", "max-epochs"), "stop after {} epochs"),
    **dict.fromkeys(
        ("iteration", "iterations", "iters", "steps", "max-iter", "max_iter"),
        "stop after {} iterations",
    ),
}

#: Values of other tools.
VALUES = {
    "yes": "on",
    "true": "on",
    "no": "off",
    "false": "off",
    "xavier": "glorot",
    "kaiming": "he",
    "gaussian": "normal",
    "logits": "scores",
    "softmax": "posteriors",
    "soft-max": "posteriors",
    "probabilities": "posteriors",
    "pytorch": "torchvision",
}

_SGD = "leave it out: training is SGD with momentum, as in section 3.1 of the paper"

#: Settings of other tools that have no counterpart, with the reason.
NEEDLESS = {
    "optimizer": _SGD,
    "optimiser": _SGD,
    "sgd": _SGD,
    "adam": _SGD,
    "nesterov": _SGD,
    "seed": "leave it out, and run `vggspec train SPEC --seed 1`",
    "loss": "leave it out: the loss follows from the end of the net, `soft-max` or `boxes`",
    "clip": "leave it out: gradients are not clipped",
    "clip-norm": "leave it out: gradients are not clipped",
    "gradient-clip": "leave it out: gradients are not clipped",
    "grad-clip": "leave it out: gradients are not clipped",
    "warmup": "leave it out: the rate begins at its largest",
    "patience": "write it in the decay, as in `decay 10 on plateau of 5 epochs, 3 times`",
    "plateau": "write it in the decay, as in `decay 10 on plateau of 5 epochs, 3 times`",
}
