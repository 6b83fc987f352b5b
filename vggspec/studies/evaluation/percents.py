"""Errors in percent, as tables and reports print them: with two decimals."""

from vggspec.studies.evaluation.answers import standard_error


def percent(share: float) -> str:
    """``24.81 %``."""
    return f"{_number(share)} %"


def with_standard_error(share: float, images: int) -> str:
    """``24.81 ± 0.19 %``."""
    return f"{_number(share)} {spread(share, images)} %"


def spread(share: float, images: int) -> str:
    """One standard error: ``± 0.19``."""
    return f"± {_number(standard_error(share, images))}"


def _number(share: float) -> str:
    return f"{100 * share:.2f}"
