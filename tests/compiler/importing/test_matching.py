"""Which tensors of a checkpoint are whose, where names and order say it and where they do not."""

import re
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.nets import net
from vggspec.base.diagnostic import VggspecError
from vggspec.base.render import as_text
from vggspec.compiler.importing.checkpoint import Checkpoint, Kind
from vggspec.compiler.importing.matching import Matched, Told, match

Arrays = dict[str, NDArray[np.float32]]

SPEC = (
    "net n\ninput 8x8 RGB(mean 0)\nconv3-4\nconv3-4\nconv3-4\nmaxpool\nFC-6\nFC-6\nFC-2\nsoft-max\n"
)
FEATURES = "net f\ninput 8x8 RGB(mean 0)\nconv3-4\nconv3-4\nconv3-4\ngap\n"
WITH_NORM = "net b\ninput 8x8 RGB(mean 0)\nconv3-4 BN\nconv3-4 BN\nconv3-4\ngap\nFC-2\nsoft-max\n"
KERNELS = [(4, 3, 3, 3), (4, 4, 3, 3), (4, 4, 3, 3)]
MATRICES = [(6, 64), (6, 6), (2, 6)]
SHAPES = [*KERNELS, *MATRICES]


def arrays(names: list[str], shapes: list[tuple[int, ...]] = SHAPES) -> Arrays:
    """A weight and a bias for each name, in this order; the i-th ones hold i alone."""
    found: Arrays = {}
    for i, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        found[f"{name}.weight"] = np.full(shape, i, np.float32)
        found[f"{name}.bias"] = np.full(shape[0], i, np.float32)
    return found


def norm(name: str, number: int) -> Arrays:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": np.full(4, number, np.float32) for part in parts}


def checkpoint(tensors: Mapping[str, NDArray[np.float32]], kind: Kind = "pytorch") -> Checkpoint:
    names = sorted(tensors) if kind == "safetensors" else list(tensors)
    return Checkpoint(
        path="w", kind=kind, tensors={name: tensors[name] for name in names},
        has_order=kind != "safetensors", key=None, others=(), metadata={},
    )  # fmt: skip


def matched(of: Checkpoint, spec: str = SPEC, told: Told | None = None) -> Matched:
    return match(net(spec).network, of, told or Told())


def taken(of: Checkpoint, spec: str = SPEC, told: Told | None = None) -> list[int]:
    """The numbers that the layers take, in the order of the net."""
    found = matched(of, spec, told).arrays
    return [int(array.flat[0]) for name, array in found.items() if name.endswith("weight")]


def refusal(of: Checkpoint, spec: str = SPEC, told: Told | None = None) -> str:
    with pytest.raises(VggspecError) as error:
        matched(of, spec, told)
    return as_text(error.value.reports)


ORDERED = {
    "no words of an order": ["conv_first", "conv_mid", "conv_last", "fc_first", "fc_mid", "fc_out"],
    "primary, final": ["a.stem", "b5.primary", "b5.final", "h.one", "h.two", "h.three"],
    "torchvision": ["features.0", "features.2", "features.10",
                    "classifier.0", "classifier.3", "classifier.6"],
    "timm": ["features.0", "features.2", "features.10",
             "pre_logits.fc1", "pre_logits.fc2", "head.fc"],
    "mmpretrain": [f"backbone.features.{i}.conv" for i in (0, 2, 10)]
    + [f"backbone.classifier.{i}" for i in (0, 3, 6)],
    "ours": ["conv1_1", "conv1_2", "conv1_3", "fc2", "fc3", "fc4"],
}  # fmt: skip


@pytest.mark.parametrize("names", ORDERED.values(), ids=ORDERED)
def test_the_order_of_the_file_counts(names: list[str]) -> None:
    assert taken(checkpoint(arrays(names))) == [0, 1, 2, 3, 4, 5]
    assert taken(checkpoint(arrays(names), "npz")) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["safetensors", "sorted npz", "sorted pth"])
@pytest.mark.parametrize("way", ORDERED)
def test_without_an_order_numbers_and_known_words_count(way: str, kind: str) -> None:
    """And other words do not: nothing says that `mid` is before `last`."""
    tensors = dict(sorted(arrays(ORDERED[way]).items()))
    of = checkpoint(tensors, "safetensors" if kind == "safetensors" else "npz")
    if way in ("no words of an order", "primary, final"):
        said = refusal(of)
        assert "VGG540" in said
        assert "--map conv1_2=" in said
    else:
        assert taken(of) == [0, 1, 2, 3, 4, 5]


def test_shapes_decide_where_they_differ() -> None:
    """In whatever order, and whatever the names say."""
    spec = "net u\ninput 8x8 RGB(mean 0)\nconv3-4\nconv3-5\nmaxpool\nFC-6\nFC-2\nsoft-max\n"
    shapes: list[tuple[int, ...]] = [(4, 3, 3, 3), (5, 4, 3, 3), (6, 80), (2, 6)]
    tensors = arrays(["z", "fc1", "conv9", "a"], shapes)
    assert taken(checkpoint(tensors, "safetensors"), spec) == [0, 1, 2, 3]
    turned = dict(reversed(tensors.items()))
    assert taken(checkpoint(turned), spec) == [0, 1, 2, 3]


def test_names_that_contradict_the_file_are_refused() -> None:
    names = ["conv1_1", "conv1_3", "conv1_2", "fc6", "fc7", "fc8"]
    said = refusal(checkpoint(arrays([f"n.{name}" for name in names])))
    assert "VGG540" in said
    assert "`n.conv1_2` is before `n.conv1_3` by its name and after it in the file" in said
    told = Told(pairs={"conv1_2": "conv1_3", "conv1_3": "n.conv1_2"})
    assert taken(checkpoint(arrays([f"n.{name}" for name in names])), told=told) == [*range(6)]


def test_a_part_of_the_layers_is_mapped_by_hand() -> None:
    names = ORDERED["no words of an order"]
    told = Told(pairs={"conv1_2": "conv_last", "fc3": "fc_mid.weight"})
    assert taken(checkpoint(arrays(names), "safetensors"), told=told) == [0, 2, 1, 3, 4, 5]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ({"conv1_9": "conv_mid"}, "net n has no layer `conv1_9`"),
        ({"conv1_2": "conv_middle"}, "the checkpoint has no `conv_middle`"),
        ({"conv1_2": "conv_mid", "conv1_3": "conv_mid"}, "`conv_mid` is another layer's already"),
        ({"conv1_2": "conv_first"}, "`conv_first.weight` is 4 × 3 × 3 × 3"),
    ],
)
def test_what_cannot_be_mapped_is_refused(pairs: dict[str, str], words: str) -> None:
    names = ORDERED["no words of an order"]
    assert words in refusal(checkpoint(arrays(names)), told=Told(pairs=pairs))


@pytest.mark.parametrize(
    "prefix",
    ["net.", "vgg.", "encoder.", "base_model.", "model.module.", "backbone.", "_orig_mod.",
     "module._orig_mod.net.", "a/b/"],
)  # fmt: skip
@pytest.mark.parametrize("way", ["torchvision", "no words of an order", "ours"])
def test_what_all_names_begin_with_says_nothing(prefix: str, way: str) -> None:
    names = [f"{prefix}{name}" for name in ORDERED[way]]
    assert taken(checkpoint(arrays(names))) == [0, 1, 2, 3, 4, 5]
    beside = {"criterion.weight": np.ones(2, np.float32), "ema.decay": np.ones(1, np.float32)}
    found = matched(checkpoint(beside | arrays(names)))
    assert found.unused == ("criterion.weight", "ema.decay")


def test_one_of_two_nets_is_chosen_by_hand() -> None:
    names = ORDERED["torchvision"]
    student, teacher = (arrays([f"{one}.{name}" for name in names]) for one in ("s", "t"))
    teacher = {name: array + 10 for name, array in teacher.items()}
    said = refusal(checkpoint(student | teacher))
    assert "VGG545" in said
    assert "--ignore t" in said
    assert taken(checkpoint(student | teacher), told=Told(ignored=("t",))) == [*range(6)]
    assert taken(checkpoint(student | teacher), told=Told(ignored=("s",))) == [*range(10, 16)]
    assert "VGG547" in refusal(checkpoint(student), told=Told(ignored=("x",)))


@pytest.mark.parametrize("more", [{}, {"loss.weight": np.ones((2, 2), np.float32)}])
@pytest.mark.parametrize("copy", ["shadow.", "Adam/m/", "all.copy.net."])
def test_a_copy_is_not_taken_for_the_net(copy: str, more: Arrays) -> None:
    """The names of the net itself begin with nothing."""
    plain = arrays([f"layer{i}" for i in range(6)])
    of = checkpoint({**plain, **more, **{copy + name: array + 10 for name, array in plain.items()}})
    assert "VGG545" in (said := refusal(of))
    assert f"--ignore {re.split('[./]', copy)[0]}" in said
    assert said.count("--ignore") == 1
    ignored = (re.split("[./]", copy)[0], *({"loss"} if more else ()))
    assert taken(of, told=Told(ignored=ignored)) == list(range(6))


@pytest.mark.parametrize("name", ["features.3", "features.99", "classifier.9", "aux"])
def test_a_layer_too_many_is_refused(name: str) -> None:
    tensors = arrays(ORDERED["torchvision"]) | arrays([name], [(4, 4, 3, 3)])
    assert "it has 7 weight layers, net n 6" in refusal(checkpoint(tensors))
    assert taken(checkpoint(tensors), told=Told(ignored=(name,))) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("shape", [(4,), (1,), (1, 4, 1, 1)])
def test_what_the_net_learned_besides_is_refused(shape: tuple[int, ...]) -> None:
    """A PReLU, a group normalisation, an L2 norm: the spec has none, so it is another net."""
    tensors = arrays(ORDERED["torchvision"]) | {"features.1.weight": np.ones(shape, np.float32)}
    said = refusal(checkpoint(tensors))
    assert ("VGG546" in said) == (len(shape) == 1)
    assert "VGG505" in said or "`features.1.weight`" in said


@pytest.mark.parametrize("way", ["torchvision", "timm", "ours", "no words of an order"])
def test_a_net_without_a_classifier_leaves_it_out(way: str) -> None:
    tensors = arrays(ORDERED[way])
    for name in list(tensors)[6:]:
        tensors[name] = np.full_like(tensors[name], np.nan)
    found = matched(checkpoint(tensors), FEATURES)
    assert [int(array.flat[0]) for array in found.arrays.values()] == [0, 0, 1, 1, 2, 2]
    assert len(found.unused) == 6


def test_a_net_with_a_classifier_does_not() -> None:
    tensors = arrays(ORDERED["torchvision"][:3], KERNELS)
    assert "it has 3 weight layers, net n 6" in refusal(checkpoint(tensors))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["features.2.weight", "classifier.6.bias"])
def test_numbers_that_are_used_are_finite(name: str, value: float) -> None:
    tensors = arrays(ORDERED["torchvision"])
    tensors[name].flat[-1] = value
    said = refusal(checkpoint(tensors))
    layer = "conv1_2" if name.startswith("features") else "fc4"
    assert "VGG544" in said
    assert f"`{layer}` takes `{name}`" in said


@pytest.mark.parametrize("spec", [SPEC, SPEC.replace("conv3-4\nmax", "conv3-4(no-bias)\nmax")])
def test_biases_are_neither_lost_nor_made_up(spec: str) -> None:
    tensors = arrays(ORDERED["torchvision"])
    if spec == SPEC:
        del tensors["features.10.bias"]
        assert "`features.10` has no bias, which `conv1_3` needs" in refusal(checkpoint(tensors))
    else:
        assert "`features.10` has a bias, and `conv1_3` none" in refusal(checkpoint(tensors), spec)
        tensors["features.10.bias"][:] = 0
        assert taken(checkpoint(tensors), spec) == [0, 1, 2, 3, 4, 5]


def with_norms(names: list[str], *places: int) -> Arrays:
    """Four layers, the norms ``first`` and ``second`` after these places."""
    tensors: Arrays = {}
    listed = list(arrays(names, [*KERNELS, (2, 4)]).items())
    for i in range(4):
        tensors |= dict(listed[2 * i : 2 * i + 2])
        for number, place in enumerate(places):
            if place == i:
                tensors |= norm(("first", "second")[number], 10 + number)
    return tensors


def test_norms_follow_their_layers() -> None:
    names = ["a", "b", "c", "d"]
    right = checkpoint(with_norms(names, 0, 1))
    assert taken(right, WITH_NORM) == [0, 10, 1, 11, 2, 3]
    said = refusal(checkpoint(with_norms(names, 0, 2)), WITH_NORM)
    assert "there `second` follows `c`; in the net `bn1_2` follows `conv1_2`, which is `b`" in said
    assert "it has 0 batch normalisations" in refusal(
        checkpoint(arrays(names, [*KERNELS, (2, 4)])), WITH_NORM
    )
    # Where all are defined at the end, their order alone is known.
    assert taken(checkpoint(with_norms(names, 3, 3)), WITH_NORM) == [0, 10, 1, 11, 2, 3]


def test_a_norm_without_factors_has_ones() -> None:
    """As TF-slim's and Keras's without `scale`; they are called otherwise there, too."""
    tensors = with_norms(["a", "b", "c", "d"], 0, 1)
    del tensors["first.weight"], tensors["second.bias"]
    for part, theirs in (("running_mean", "moving_mean"), ("running_var", "moving_variance")):
        tensors[f"first.{theirs}"] = tensors.pop(f"first.{part}")
    found = matched(checkpoint(tensors), WITH_NORM).arrays
    np.testing.assert_array_equal(found["bn1_1.weight"], 1)
    np.testing.assert_array_equal(found["bn1_1.running_mean"], 10)
    np.testing.assert_array_equal(found["bn1_2.bias"], 0)


def test_groups() -> None:
    spec = (
        "net g\ninput 8x8 RGB(mean 0)\nconv3-4\nconv3-4(groups 4)\nconv3-6(groups 2)\ngap\nFC-2\n"
    )
    shapes: list[tuple[int, ...]] = [(4, 3, 3, 3), (4, 1, 3, 3), (6, 2, 3, 3), (2, 6)]
    tensors = arrays(["a", "b", "c", "d"], shapes)
    assert taken(checkpoint(tensors), spec) == [0, 1, 2, 3]
    turned = {
        name: array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
        for name, array in tensors.items()
    }
    assert taken(checkpoint(turned), spec) == [0, 1, 2, 3]


def test_a_normalisation_of_our_name_is_ours_wherever_it_stands() -> None:
    spec = "net n\ninput 6x4 RGB(mean 0)\nconv5-4\nconv1x3-4 BN\nFC-9\nsoft-max\n"
    rng = np.random.default_rng(0)
    params = [(p.name, p.stored) for p in net(spec).network.params()]
    in_order = {
        f"encoder.{name}": np.abs(rng.standard_normal(shape)).astype(np.float32)
        for name, shape in sorted(params, key=lambda each: "conv1_2" in each[0])
    }
    assert list(in_order)[2].startswith("encoder.bn1_2")
    found = matched(checkpoint(in_order), spec)
    for name, _ in params:
        np.testing.assert_array_equal(found.arrays[name], in_order[f"encoder.{name}"])
