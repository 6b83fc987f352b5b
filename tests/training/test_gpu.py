"""Training on a CUDA device; left out where there is none."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from tests.training.folders import tiny, write_folder
from vggspec.compiler.weights import open_weights
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.loop import Options, fit
from vggspec.training.progress import Epoch, Step, TrainWatcher

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
GPU = Options(gpus=1, precision="fp32")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return open_data(write_folder(tmp_path_factory.mktemp("data")), tiny().network)


class StopAt(TrainWatcher):
    def __init__(self, epoch: int) -> None:
        self.stop = Event()
        self._epoch = epoch

    def step(self, now: Step) -> None:
        pass

    def epoch(self, now: Epoch) -> None:
        if now.epoch == self._epoch:
            self.stop.set()


def train(
    data: DataSet, run: Path, options: Options, dropout: str = "dropout 0.2", stop_at: int = -1
) -> dict[str, np.ndarray]:
    watch, is_resumed = StopAt(stop_at), run.exists()
    run.mkdir(exist_ok=True)
    lowered = tiny(("dropout 0.2", dropout))
    fit(lowered, data, run, options, is_resumed=is_resumed, stop=watch.stop, watch=watch)
    weights = open_weights(run / "last.safetensors")
    return {name: np.array(weights.read(name)) for name in weights.tensors}


def test_a_gpu_trains_what_a_cpu_trains(data: DataSet, tmp_path: Path) -> None:
    """Without dropout, which a GPU draws in its own way."""
    gpu = train(data, tmp_path / "gpu", GPU, "dropout 0")
    cpu = train(data, tmp_path / "cpu", replace(GPU, gpus=0), "dropout 0")
    for name, array in gpu.items():
        np.testing.assert_allclose(array, cpu[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_run_in_parts_gives_the_bits_of_the_whole(data: DataSet, tmp_path: Path) -> None:
    whole = train(data, tmp_path / "whole", GPU)
    train(data, tmp_path / "parts", GPU, stop_at=1)
    parts = train(data, tmp_path / "parts", GPU)
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parts[name], err_msg=name)


def test_precisions_and_parts_are_near_fp32(data: DataSet, tmp_path: Path) -> None:
    whole = train(data, tmp_path / "whole", GPU)
    parts = train(data, tmp_path / "parts", replace(GPU, micro_batch=3))
    mixed = train(data, tmp_path / "mixed", replace(GPU, precision="bf16"))
    for name, array in whole.items():
        np.testing.assert_allclose(array, parts[name], rtol=1e-3, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(array, mixed[name], rtol=0.3, atol=0.05, err_msg=name)
