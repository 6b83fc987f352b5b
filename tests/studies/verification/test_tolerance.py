"""The error that rounding explains."""

from vggspec.studies.verification.tolerance import default_tolerance


def test_a_lower_precision_is_allowed_more() -> None:
    fp32, fp16, bf16 = (default_tolerance(each) for each in ("fp32", "fp16", "bf16"))
    assert fp32 < fp16 < bf16
    assert default_tolerance("fp32", tf32=True) == fp16
    assert default_tolerance("fp16", tf32=True) == fp16
