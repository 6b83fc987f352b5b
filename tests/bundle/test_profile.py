"""Optimisation profiles: how they are written, and what follows from a test protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.refusals import refused
from vggspec.base.recipe import TestProtocol
from vggspec.bundle.profile import Profile, choose_profile, derive_profiles, parse_profile
from vggspec.runtime.preprocess import rescaled_size

WINDOW = (224, 224)


def derived(protocol: TestProtocol, max_batch: int | None = None) -> tuple[Profile, ...]:
    return derive_profiles(
        protocol, least=WINDOW, window=WINDOW, is_dynamic=True, max_batch=max_batch
    )


def test_a_profile_is_written_as_it_is_read() -> None:
    text = "1x256x256,2x256x341,8x256x512"
    profile = parse_profile(text, 3)
    assert profile == Profile((1, 256, 256), (2, 256, 341), (8, 256, 512))
    assert str(profile) == text
    assert parse_profile("1x3x256x256, 2×3×256×341, 8x3x256x512", 3) == profile


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1x256x256", "it has 1 shapes, not three"),
        ("", "`` is not a shape"),
        ("1x256,2x256,3x256", "`1x256` is not a shape"),
        ("1x-3x2,1x1x1,1x1x1", "is not a shape"),
        ("1x2x3x4x5,1x1x1,1x1x1", "is not a shape"),
        ("0x256x256,2x256x341,8x256x512", "not all from 1 to"),
        ("1x256x256,2x256x99999,8x256x512", "not all from 1 to"),
        ("1x1x256x256,2x256x341,8x256x512", "has 1 channels, the net's input has 3"),
        ("1x256x256,2x256x241,8x256x512", "do not grow"),
        ("4x256x256,2x256x341,8x256x512", "do not grow"),
    ],
)
def test_what_is_no_profile_is_said(text: str, words: str) -> None:
    with refused(words) as error:
        parse_profile(text, 3)
    assert error.value.reports[0].what.code == "VGG601"


def test_each_scale_has_a_landscape_and_a_portrait() -> None:
    assert list(map(str, derived(TestProtocol(scales=(256, 384))))) == [
        "1x256x256,2x256x341,8x256x512",
        "1x256x256,2x341x256,8x512x256",
        "1x384x384,2x384x512,8x384x768",
        "1x384x384,2x512x384,8x768x384",
    ]


def test_batches_follow_from_mirror_images_and_crops() -> None:
    assert str(derived(TestProtocol(flip=False))[0]) == "1x256x256,1x256x341,8x256x512"
    assert str(derived(TestProtocol(), 1)[0]) == "1x256x256,1x256x341,1x256x512"
    crops = derived(TestProtocol(dense=False, crops=5))
    assert list(map(str, crops)) == ["1x224x224,10x224x224,10x224x224"]
    both = derived(TestProtocol(dense=True, crops=5))
    assert len(both) == 3
    assert both[2] == crops[0]
    fixed = derive_profiles(TestProtocol(), least=WINDOW, window=WINDOW, is_dynamic=False)
    assert list(map(str, fixed)) == ["1x224x224,2x224x224,10x224x224"]


def test_a_scale_below_the_window_is_an_error() -> None:
    with refused("scale 200 is smaller than the net's window of 224"):
        derived(TestProtocol(scales=(200,)))


@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    scales=st.lists(st.integers(224, 800), min_size=1, max_size=4, unique=True),
    images=st.integers(1, 8),
)
def test_every_image_up_to_2_to_1_has_a_profile(
    height: int, width: int, scales: list[int], images: int
) -> None:
    """As the protocol rescales it, and of the profiles of its own scale."""
    profiles = derived(TestProtocol(scales=tuple(scales)))
    for scale in scales:
        size = rescaled_size((height, width), scale)
        index = choose_profile(profiles, (images, *size))
        if max(size) > 2 * scale:
            continue
        assert index is not None
        assert profiles[index].holds((images, *size))
        assert min(profiles[index].min[1:]) == scale


def test_the_nearest_of_several_is_chosen() -> None:
    wide = Profile((1, 224, 224), (1, 512, 512), (8, 1024, 1024))
    narrow = Profile((1, 256, 256), (2, 256, 341), (8, 256, 512))
    assert choose_profile((wide, narrow), (2, 256, 340)) == 1
    assert choose_profile((wide, narrow), (1, 500, 500)) == 0
    assert choose_profile((wide, wide), (1, 500, 500)) == 0
    assert choose_profile((wide, narrow), (9, 256, 340)) is None
    assert choose_profile((wide, narrow), (1, 223, 340)) is None
    assert choose_profile((), (1, 223, 340)) is None
