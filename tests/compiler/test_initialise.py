"""Random weights have the distributions of the papers and do not depend on anything else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.nets import net
from vggspec.base.recipe import TrainRecipe
from vggspec.compiler import initialise as module
from vggspec.compiler.initialise import draw
from vggspec.compiler.tensor import Param

TEXT = "net t\ninput 16x16 RGB\nconv3-64 BN\nconv3-96\nmaxpool\nFC-128\nFC-10\nsoft-max"


def numbers(param: Param, recipe: TrainRecipe, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(draw(param, recipe, seed))).reshape(param.shape)


PARAMS = {param.name: param for param in net(TEXT).network.params()}
BIG = PARAMS["fc2.weight"]  # 128 × 6144


def test_normal_has_the_papers_variance() -> None:
    found = numbers(BIG, TrainRecipe())
    assert abs(found.mean()) < 1e-3
    assert found.var() == pytest.approx(1e-2, rel=0.01)


@pytest.mark.parametrize("name", ["conv1_2.weight", "fc2.weight"])
def test_glorot_and_he_are_those_of_torch(name: str) -> None:
    param = PARAMS[name]
    tensor = torch.empty(param.shape)
    torch.manual_seed(0)
    glorot = numbers(param, TrainRecipe(start="glorot"))
    torch.nn.init.xavier_uniform_(tensor)
    assert glorot.std() == pytest.approx(float(tensor.std()), rel=0.02)
    assert np.abs(glorot).max() == pytest.approx(float(tensor.abs().max()), rel=0.01)
    he = numbers(param, TrainRecipe(start="he"))
    torch.nn.init.kaiming_normal_(tensor, nonlinearity="relu")
    assert he.std() == pytest.approx(float(tensor.std()), rel=0.02)


def test_biases_are_zero_and_norms_do_nothing() -> None:
    for name, value in (
        ("conv1_1.bias", 0),
        ("fc3.bias", 0),
        ("bn1_1.weight", 1),
        ("bn1_1.bias", 0),
        ("bn1_1.running_mean", 0),
        ("bn1_1.running_var", 1),
    ):
        assert (numbers(PARAMS[name], TrainRecipe()) == value).all()


def test_a_seed_gives_the_same_numbers_in_pieces_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = numbers(BIG, TrainRecipe(), seed=3)
    assert (numbers(BIG, TrainRecipe(), seed=3) == whole).all()
    assert (numbers(BIG, TrainRecipe(), seed=4) != whole).mean() > 0.9
    assert not np.isin(numbers(replace(BIG, name="x"), TrainRecipe(), seed=3)[0], whole[0]).any()
    monkeypatch.setattr(module, "CHUNK", 1 << 16)
    glorot = TrainRecipe(start="glorot")
    in_pieces = numbers(BIG, glorot, seed=3)
    monkeypatch.undo()
    assert (in_pieces == numbers(BIG, glorot, seed=3)).all()
