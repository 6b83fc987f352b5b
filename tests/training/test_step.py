"""A step of training: in parts, on several ranks' rows, in bf16, against PyTorch's own modules."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.nets import net
from tests.training.folders import JOINED, RESIDUAL, tiny
from vggspec.base.recipe import TrainRecipe
from vggspec.compiler.backends.torch.module import SpecModule, emit
from vggspec.compiler.initialise import draw
from vggspec.compiler.lower import Lowered
from vggspec.training.batches import Batch, Normalise
from vggspec.training.device import conv_seconds, images_at_a_time, pick_layout, pick_precision
from vggspec.training.dropout import Dropouts, RowDropout
from vggspec.training.ranks import Ranks
from vggspec.training.step import Stepper
from vggspec.training.trainable import training_network

CPU = torch.device("cpu")
MEAN = (100.0, 110.0, 120.0)


def filled(lowered: Lowered) -> SpecModule:
    model = emit(training_network(lowered))
    for param in model.network.params():
        numbers = np.concatenate(list(draw(param, lowered.experiment.train, 0)))
        model.state_dict()[param.name].copy_(torch.from_numpy(numbers.reshape(param.stored)))
    return model.train()


def batch(number: int = 8) -> Batch:
    random = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (number, 16, 16, 3), dtype=torch.uint8, generator=random)
    labels = torch.randint(0, 3, (number,), generator=random)
    shifts = torch.randn(number, 3, generator=random)
    return Batch(pixels, shifts, labels, torch.arange(number), [])


def stepper(
    model: SpecModule,
    recipe: TrainRecipe,
    at_a_time: int = 8,
    class_weights: tuple[float, ...] | None = None,
) -> Stepper:
    return Stepper(
        model,
        Normalise(model.network.input, MEAN),
        recipe,
        Ranks(),
        seed=0,
        precision="fp32",
        at_a_time=at_a_time,
        class_weights=class_weights,
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        found[name] = parameter.grad
    return found


@pytest.mark.parametrize("at_a_time", [1, 3, 7])
def test_parts_of_a_batch_add_up_to_the_whole(at_a_time: int) -> None:
    lowered = tiny()
    recipe = lowered.experiment.train
    assert recipe.dropout > 0
    whole, parts = (stepper(filled(lowered), recipe, n) for n in (8, at_a_time))
    losses = [float(one.add_gradients(batch(), 8, 1)) for one in (whole, parts)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    theirs = gradients(whole.model)
    for name, gradient in gradients(parts.model).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6, msg=name)


def test_updates_are_those_of_torch_sgd() -> None:
    lowered = tiny(("dropout 0.2", "dropout 0"))
    recipe = lowered.experiment.train
    mine, model = stepper(filled(lowered), recipe), filled(lowered)
    sgd = torch.optim.SGD(
        model.parameters(), recipe.rate, recipe.momentum, weight_decay=recipe.weight_decay
    )
    normalise = Normalise(model.network.input, MEAN)
    for step in range(1, 5):
        one = batch()
        mine(one, 8, step)
        sgd.zero_grad()
        nn.functional.cross_entropy(model(normalise(one)), one.labels).backward()
        sgd.step()
        if step == 2:
            mine.rate = 0.1
            sgd.param_groups[0]["lr"] = 0.1
    theirs = dict(model.named_parameters())
    for name, parameter in mine.model.named_parameters():
        torch.testing.assert_close(parameter, theirs[name], rtol=1e-4, atol=1e-6, msg=name)


def conv_bn(
    inputs: int, channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1, act: bool
) -> nn.Sequential:
    pad = kernel // 2
    conv = nn.Conv2d(inputs, channels, kernel, stride, pad, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU() if act else nn.Identity())


class Sum(nn.Module):
    """What branches give, added and rectified."""

    def __init__(self, *branches: nn.Module, act: bool = True) -> None:
        super().__init__()
        self.branches, self.act = nn.ModuleList(branches), act

    def forward(self, x: Tensor) -> Tensor:
        total = self.branches[0](x) + self.branches[1](x)
        return total.relu() if self.act else total


class ZeroChannels(nn.Module):
    """Every second row and column of 6 channels, and two channels of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2))


def residual() -> nn.Module:
    """``RESIDUAL`` in PyTorch's modules."""

    def two(inputs: int, channels: int, stride: int = 1) -> nn.Module:
        first = conv_bn(inputs, channels, stride=stride, act=True)
        return nn.Sequential(first, conv_bn(channels, channels, act=False))

    def inverted(inputs: int) -> nn.Module:
        depthwise = conv_bn(16, 16, groups=16, act=True)
        return nn.Sequential(
            conv_bn(inputs, 16, 1, act=True), depthwise, conv_bn(16, 10, 1, act=False)
        )

    return nn.Sequential(
        conv_bn(3, 4, act=True),
        Sum(two(4, 6, 2), conv_bn(4, 6, 1, stride=2, act=False)),
        Sum(two(6, 6), nn.Identity()),
        Sum(two(6, 8, 2), ZeroChannels()),
        inverted(8),
        Sum(inverted(10), nn.Identity(), act=False),
        Sum(conv_bn(10, 10, act=False), conv_bn(10, 10, 1, act=False)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(10, 3),
    )


def bn_conv(inputs: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv)


class Joined(nn.Module):
    """``JOINED`` in PyTorch's modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = bn_conv(3, 4, 3)
        self.a = bn_conv(4, 2, 1)
        self.b = nn.Sequential(bn_conv(4, 2, 1), bn_conv(2, 3, 3))
        self.c = nn.Sequential(nn.MaxPool2d(3, 1, 1), bn_conv(4, 2, 1))
        self.d = bn_conv(4, 2, 3, 2)
        self.dense = nn.ModuleList(
            nn.Sequential(bn_conv(n, 4, 1), bn_conv(4, 2, 3)) for n in (9, 11)
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2), bn_conv(4, 3, 1))
        self.head = nn.Sequential(nn.Linear(256, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        x = nn.functional.max_pool2d(stem, 2)
        x = torch.cat([self.a(x), self.b(x), self.c(x), self.d(stem)], 1)
        for layer in self.dense:
            x = torch.cat([x, layer(x)], 1)
        x = torch.cat([x, self.skip(stem)], 1)
        scores: Tensor = self.head(nn.functional.max_pool2d(x, 2).flatten(1))
        return scores


def numbers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and statistics by their names, in the order of the layers."""
    state = model.state_dict().items()
    return [(name, tensor) for name, tensor in state if not name.endswith("num_batches_tracked")]


@pytest.mark.parametrize(("text", "make"), [(RESIDUAL, residual), (JOINED, Joined)])
def test_graphs_learn_as_torch_modules_do(text: str, make: Callable[[], nn.Module]) -> None:
    """Gradients through shortcuts and joined channels, and statistics of BN, for three steps."""
    lowered = net(text.replace("dropout 0.2", "dropout 0"))
    recipe = lowered.experiment.train
    mine, theirs = stepper(filled(lowered), recipe), make().train()
    for (_, tensor), (_, start) in zip(numbers(theirs), numbers(mine.model), strict=True):
        tensor.copy_(start)
    sgd = torch.optim.SGD(
        theirs.parameters(), recipe.rate, recipe.momentum, weight_decay=recipe.weight_decay
    )
    normalise = Normalise(mine.model.network.input, MEAN)
    for step in (1, 2, 3):
        loss = mine(batch(), 8, step)
        sgd.zero_grad()
        expected = nn.functional.cross_entropy(theirs(normalise(batch())), batch().labels)
        expected.backward()
        sgd.step()
        assert float(loss) / 8 == pytest.approx(expected.item(), rel=1e-4)
        found = gradients(mine.model).items()
        for (name, gradient), parameter in zip(found, theirs.parameters(), strict=True):
            assert parameter.grad is not None
            assert parameter.grad.any(), name
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-5, msg=name)
    for (name, tensor), (_, number) in zip(numbers(mine.model), numbers(theirs), strict=True):
        torch.testing.assert_close(tensor, number, rtol=1e-3, atol=1e-5, msg=name)


def test_bad_images_weigh_nothing() -> None:
    """The loss is the mean over the images that were read, wherever in the batch they stand."""
    lowered = tiny()
    recipe = lowered.experiment.train
    some = torch.tensor([0, 3, 4, 7])
    full = batch()
    read = Batch(full.pixels[some], full.shifts[some], full.labels[some], full.rows[some], [])
    one = stepper(filled(lowered), recipe)
    one.add_gradients(read, 4, 1)
    model = filled(lowered)
    dropouts = Dropouts(model, 0, recipe.batch)
    dropouts.draw(1, some, CPU)
    normalise = Normalise(model.network.input, MEAN)
    nn.functional.cross_entropy(model(normalise(read)), read.labels).backward()
    theirs = gradients(model)
    for name, gradient in gradients(one.model).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_part_without_images_has_gradients_of_zero() -> None:
    lowered = tiny()
    one = stepper(filled(lowered), lowered.experiment.train)
    assert float(one.add_gradients(batch().part(slice(0, 0)), 4, 1)) == 0.0
    assert all(not gradient.any() for gradient in gradients(one.model).values())


def test_dropout_is_drawn_by_row() -> None:
    model = filled(tiny())
    dropouts = Dropouts(model, 5, 64)
    dropout = next(module for module in model.modules() if isinstance(module, RowDropout))

    def kept(step: int, rows: list[int], seed: int = 5) -> Tensor:
        draws = dropouts if seed == 5 else Dropouts(filled(tiny()), seed, 64)
        layer = dropout if seed == 5 else draws._layers[0][0]
        draws.draw(step, torch.tensor(rows), CPU)
        assert layer.keep is not None
        return layer.keep

    whole = kept(1, list(range(64)))
    assert torch.equal(kept(1, [40, 3, 9]), whole[[40, 3, 9]])
    assert not torch.equal(kept(2, list(range(64))), whole)
    assert not torch.equal(kept(1, list(range(64)), seed=6), whole)
    assert set(whole.unique().tolist()) == {0.0, 1.25}
    assert float((whole == 0).float().mean()) == pytest.approx(0.2, abs=0.06)
    model.eval()
    x = torch.randn(4, 8)
    assert torch.equal(dropout(x), x)
    model.train()
    kept(1, [0, 1, 2, 3])
    torch.testing.assert_close(dropout(x), x * whole[:4])


def test_layers_do_not_share_their_draws() -> None:
    lowered = net(
        "net two\ninput 16x16 RGB\nFC-64 FC-64 FC-3\nsoft-max\ntrain:\n  scale 18\n", "two.vgg"
    )
    model = filled(lowered)
    dropouts = Dropouts(model, 0, 8)
    dropouts.draw(1, torch.arange(8), CPU)
    first, second = (m.keep for m in model.modules() if isinstance(m, RowDropout))
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)


def test_bf16_is_near_fp32_and_keeps_weights_in_fp32() -> None:
    lowered = tiny(("dropout 0.2", "dropout 0"))
    recipe = lowered.experiment.train
    model = filled(lowered)
    mixed = Stepper(
        model,
        Normalise(model.network.input, MEAN),
        recipe,
        Ranks(),
        seed=0,
        precision="bf16",
        at_a_time=8,
    )
    exact = stepper(filled(lowered), recipe)
    losses = [float(one(batch(), 8, 1)) for one in (mixed, exact)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert all(p.dtype == torch.float32 for p in mixed.model.parameters())


def test_precision_is_chosen_by_the_device() -> None:
    small, large = tiny().network, net("net L\ninput 224x224 RGB\nconv3-64 conv3-64 gap FC-3\n")
    with_units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert pick_precision(None, CPU, small) == "fp32"
    assert pick_precision(None, CPU, large.network) == ("bf16" if with_units else "fp32")
    assert pick_precision("bf16", CPU, small) == "bf16"


@pytest.mark.parametrize("is_faster", [True, False])
def test_on_a_processor_that_is_not_known_precision_and_layout_are_measured(
    monkeypatch: pytest.MonkeyPatch, *, is_faster: bool
) -> None:
    large = net("net L\ninput 224x224 RGB\nconv3-64 conv3-64 gap FC-3\n").network
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    measured = {torch.bfloat16: 0.5 if is_faster else 0.8, torch.float32: 1.0}

    def seconds(dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> float:
        return measured[dtype] * (0.6 if layout == torch.channels_last and is_faster else 1)

    monkeypatch.setattr("vggspec.training.device.conv_seconds", seconds)
    assert pick_precision(None, CPU, large) == ("bf16" if is_faster else "fp32")
    assert pick_precision(None, CPU, tiny().network) == "fp32"
    layout = torch.channels_last if is_faster else torch.contiguous_format
    assert {pick_layout(CPU, precision) for precision in ("fp32", "bf16")} == {layout}


def test_a_convolution_is_measured_in_each_type_and_layout() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.channels_last, torch.contiguous_format):
            assert 0 < conv_seconds(dtype, layout, rounds=1) < 60


def test_tensor_cores_take_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    layouts = [pick_layout(gpu, precision) for precision in ("fp32", "tf32", "bf16")]
    assert layouts == [torch.contiguous_format, torch.channels_last, torch.channels_last]
    for capability, layout in (
        ("AVX512", torch.channels_last),
        ("AVX2", torch.contiguous_format),
    ):
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda found=capability: found)
        assert {pick_layout(CPU, precision) for precision in ("fp32", "bf16")} == {layout}


def test_memory_that_runs_out_is_tried_with_fewer_images() -> None:
    tried: list[int] = []

    def trial(number: int) -> None:
        tried.append(number)
        if number > 20:
            raise torch.OutOfMemoryError("so it goes")

    assert images_at_a_time(tiny().network, 128, Ranks(), trial) == 16
    assert tried == [128, 64, 32, 16]


def test_memory_that_is_short_cuts_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = net("net L\ninput 224x224 RGB\nconv3-64 conv3-64 gap FC-3\n").network
    ranks = Ranks()
    free: Iterator[int | None] = iter([1 << 50, 4 << 30, 4 << 30, 1 << 20, None])
    monkeypatch.setattr("vggspec.training.device._free_bytes", lambda: next(free))
    assert images_at_a_time(network, 256, ranks) == 256
    some = images_at_a_time(network, 256, ranks)
    assert 8 < some < 256
    assert images_at_a_time(network, 256, replace(ranks, local_size=2)) == pytest.approx(
        some / 2, rel=0.2
    )
    assert images_at_a_time(network, 256, ranks) == 1
    assert images_at_a_time(network, 256, ranks) == 256
