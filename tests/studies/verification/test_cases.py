"""The shapes that a bundle is verified at."""

from vggspec.base.recipe import TestProtocol
from vggspec.bundle.profile import Profile, derive_profiles
from vggspec.studies.verification.cases import cases, within


def test_every_profile_is_run_at_three_points() -> None:
    protocol = TestProtocol(scales=(256, 384))
    profiles = derive_profiles(protocol, least=(224, 224), window=(224, 224), is_dynamic=True)
    found = cases(profiles)
    assert {case.shape for case in found} == {
        shape for profile in profiles for shape in (profile.min, profile.opt, profile.max)
    }
    assert len({case.shape for case in found}) == len(found)
    for index, profile in enumerate(profiles):
        mine = {case.shape for case in found if case.profile == index}
        assert profile.opt in mine
        assert profile.max in mine
    rows, columns = zip(*((case.shape[1], case.shape[2]) for case in found), strict=True)
    assert any(r > c for r, c in zip(rows, columns, strict=True))
    assert any(r < c for r, c in zip(rows, columns, strict=True))


def test_a_profile_for_both_orientations_is_turned() -> None:
    found = cases([Profile((1, 32, 32), (2, 40, 60), (4, 64, 64))])
    assert [(case.point, case.shape) for case in found] == [
        ("min", (1, 32, 32)),
        ("opt", (2, 40, 60)),
        ("max", (4, 64, 64)),
        ("turned", (2, 60, 40)),
    ]


def test_shapes_that_exhaust_the_memory_are_left_out() -> None:
    found = cases([Profile((1, 32, 32), (1, 4096, 4096), (8, 4096, 4096))])
    assert [case.point for case in within(found, is_engine=False)] == ["min", "opt"]
    assert within(found, is_engine=True) == found
