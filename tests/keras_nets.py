"""Nets of Keras, the library itself on PyTorch: their files and class scores are not ours."""

import importlib
import importlib.util
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def keras() -> ModuleType:
    """``keras`` on PyTorch; skips the test where it is not installed."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("needs Keras: pip install --no-deps keras optree namex h5py")
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("keras")


def narrowed(name: str, by: int, size: tuple[int, int], classes: int = 10) -> Any:
    """A net of ``keras.applications``, such as ``VGG16``, with a part of its channels."""
    make = getattr(keras().applications, name)
    with keras().device("meta"):  # for its description
        config = make(weights=None, input_shape=(32, 32, 3), classes=classes).get_config()
    for layer in config["layers"]:
        settings = layer["config"]
        if layer["class_name"] == "InputLayer":
            settings["batch_shape"] = (None, *size, 3)
        elif layer["class_name"] == "Conv2D":
            settings["filters"] //= by
        elif layer["class_name"] == "Dense" and settings["name"] != "predictions":
            settings["units"] //= by
        layer.pop("build_config", None)
    model = randomised(keras().Model.from_config(config))
    first = next(weight for weight in model.weights if len(weight.shape) == 4)
    first.assign(first / 256)  # of pixels
    return model


def randomised(model: Any, seed: int = 0) -> Any:
    """The model with random weights, biases and statistics that keep activations at about 1."""
    rng = np.random.default_rng(seed)
    values = []
    for weight in model.weights:
        shape, name = tuple(weight.shape), weight.path.rpartition("/")[2]
        if name in ("gamma", "moving_variance"):
            values.append(rng.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            values.append(rng.normal(0, 0.1, shape))
        else:
            inputs = np.prod(shape[:2] if "depthwise" in weight.path else shape[:-1])
            values.append(rng.normal(0, np.sqrt(2 / inputs), shape))
    model.set_weights(values)
    return model


def saved(model: Any, path: Path) -> Path:
    """The model in a file whose form its name says: ``legacy.h5`` is of weights alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.name == "legacy.h5":
            import h5py
            from keras.src.legacy.saving import legacy_h5_format

            with h5py.File(path, "w") as file:
                legacy_h5_format.save_weights_to_hdf5_group(file, model)
        elif path.name.endswith(".weights.h5"):
            model.save_weights(path)
        else:
            model.save(path)
    return path
