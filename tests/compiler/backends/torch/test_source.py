"""The source file: ``torch.export`` for images of any size, and scores that can be trained."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import vggspec
from tests.graphs import Graph, residual
from tests.nets import SMALL, net, random_weights
from tests.peers import set_statistics
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.recipe import Form
from vggspec.compiler.backends.torch.source import class_name, emit
from vggspec.compiler.ir import IMAGE, Network
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.passes import CeilAsPadding, inference, run

CEIL = (
    "net t\ninput 26x30 gray\nconv3-3 BN maxpool(ceil) maxpool3/2(pad 1, ceil) FC-6 FC-5 soft-max"
)


def scope_of(text: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "source"}
    exec(text, scope)
    return scope


def made(scope: dict[str, Any], name: str) -> nn.Module:
    torch.manual_seed(0)
    found: nn.Module = scope[class_name(name)]()
    set_statistics(found)
    return found.eval()


def dense(network: Network) -> Network:
    return run((*inference("dense"), CeilAsPadding()), network)


def joined(side: int, kernel: int, pad: int) -> Network:
    """Scores of two convs of stride 2, which meet at some sizes only."""
    graph = Graph(side, side, name="joined")
    two = graph.conv(IMAGE, 3, 2, 2, pad=0)
    other = graph.conv(IMAGE, 3, kernel, 2, pad=pad)
    x = graph.conv(graph.add(Add(), two, other), 4, 1, act=None)
    return graph.net(graph.add(GlobalAvgPool(), x))


@torch.no_grad()
def check(network: Network, least: tuple[int, int], more: list[tuple[int, int]]) -> Any:
    """Compare the program with the module; the program."""
    scope = scope_of(emit(network, None, "a test"))
    module = made(scope, network.name)
    program = scope["exported"](module, 200)
    run_program = program.module()
    for count, (height, width) in zip((1, 3, 2, 1), [least, *more], strict=False):
        x = torch.randn(count, network.input.channels, height, width)
        torch.testing.assert_close(run_program(x), module(x), rtol=1e-5, atol=1e-6)
    height, width = least
    for size in ((height - 1, width), (height, width - 1), (201, width)):
        x = torch.zeros(1, network.input.channels, *size)
        with pytest.raises(AssertionError, match="Guard failed"):
            run_program(x)
        if max(size) < 200:
            with pytest.raises(RuntimeError):  # of the module too
                module(x)
    return program


def test_a_program_for_images_of_any_size() -> None:
    """Pooling that rounds up, BN, and maps of one position."""
    check(dense(net(CEIL).network), (23, 27), [(24, 27), (31, 64), (200, 57)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # inside PyTorch's exporter
@torch.no_grad()
def test_onnx_runtime_runs_what_torch_makes_of_the_program() -> None:
    scope = scope_of(emit(dense(net(CEIL).network), None, "a test"))
    module = made(scope, "t")
    written = torch.onnx.export(scope["exported"](module), (), dynamo=True, verbose=False)
    assert written is not None
    model = written.model_proto.SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    for size in ((1, 1, 23, 27), (3, 1, 64, 31)):
        x = torch.randn(size)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(y, module(x), rtol=1e-4, atol=1e-6)


def test_a_program_of_a_residual_net() -> None:
    check(dense(residual(fc=True)), (10, 10), [(11, 26), (33, 10)])


def test_a_program_for_the_sizes_at_which_branches_meet() -> None:
    even, odd = joined(8, 3, pad=1), joined(9, 3, pad=0)
    text = emit(even, None, "a test")
    assert '= 2 * Dim("height", min=1, max=largest // 2)\n' in text
    assert "of 2 × 2 pixels to ``largest`` a side, multiples of 2." in text
    assert '= 2 * Dim("width", min=1, max=(largest - 1) // 2) + 1\n' in emit(odd, None, "a test")
    check(odd, (3, 3), [(65, 7), (5, 199)])


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (SMALL, "crop"),
        ("net t\ninput 9x9 gray\nconv3-2 avgpool(ceil) gap FC-2 soft-max", "dense"),
        ("net t\ninput 9x9 gray\nmaxpool gap soft-max", "dense"),
    ],
)
def test_no_program_of_other_nets(text: str, form: Form) -> None:
    network = run((*inference(form), CeilAsPadding()), net(text).network)
    assert "exported" not in scope_of(emit(network, None, "a test"))


def test_a_class_may_not_take_a_name_of_the_file() -> None:
    assert [class_name(name) for name in ("load", "json", "exported")] == [
        "load_",
        "json_",
        "exported_",
    ]


@pytest.mark.parametrize("form", ["crop", "dense"])
def test_scores_are_posteriors_before_the_soft_max(form: Form, tmp_path: Path) -> None:
    (tmp_path / "n.vgg").write_text(SMALL)
    random_weights(net(SMALL), tmp_path / "w")
    nets = []
    for scores in (False, True):
        out = vggspec.export(tmp_path / "n.vgg", tmp_path / "n.py", form=form, scores=scores)
        nets.append(scope_of(out.read_text("utf-8"))["load"](str(tmp_path / "w")))
    x = torch.randn(3, 3, *((32, 32) if form == "crop" else (41, 52)))
    with torch.inference_mode():
        posteriors, scores = (each(x) for each in nets)
    assert scores.shape == (3, 10)
    apart = scores - posteriors.log()
    torch.testing.assert_close(apart, apart[:, :1].expand(3, 10))
    assert apart.abs().min() > 1e-3  # they are no logarithms of posteriors themselves


def test_scores_are_trained_with_cross_entropy(tmp_path: Path) -> None:
    (tmp_path / "n.vgg").write_text(SMALL)
    out = vggspec.export(tmp_path / "n.vgg", tmp_path / "n.py", form="dense", scores=True)
    module = made(scope_of(out.read_text("utf-8")), "small").train()
    assert any(isinstance(each, nn.Dropout) for each in module.modules())
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    x, labels = torch.randn(4, 3, 33, 36), torch.arange(4)
    losses: list[Tensor] = []
    for _ in range(12):
        losses.append(nn.CrossEntropyLoss()(module(x), labels))
        optimizer.zero_grad()
        losses[-1].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (SMALL, {"layer": "fc3"}, "cannot be used with --layer"),
        (SMALL, {"average": "posteriors"}, "--scores outputs no posteriors"),
        ("net b\ninput 8x8 gray\nmaxpool FC-8 boxes(per-class)", {}, "the net gives boxes"),
        (
            "net a\ninput 8x8 gray\nconv3-4 conv3-2\noutputs conv1_1 conv1_2",
            {},
            "gives activations",
        ),
    ],
)
def test_scores_that_there_are_not(
    text: str, more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    (tmp_path / "n.vgg").write_text(text)
    with pytest.raises(ArgumentError, match=words):
        vggspec.export(tmp_path / "n.vgg", tmp_path / "n.py", scores=True, **more)
    assert not (tmp_path / "n.py").exists()
