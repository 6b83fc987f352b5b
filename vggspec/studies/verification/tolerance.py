"""The error that rounding explains."""

import math

from vggspec.bundle.options import Precision

#: Unit roundoff: half the distance from 1 to the next number. In int8 the numbers of a layer have
#: one distance, of 1/127 of the largest; it is measured against one that is an eighth of that.
ROUNDOFF = {"fp32": 2.0**-24, "tf32": 2.0**-11, "fp16": 2.0**-11, "bf16": 2.0**-8, "int8": 2.0**-5}

DEEPEST = 19  # weight layers of net E, the paper's deepest
LONGEST_SUM = 25_088  # products that a unit of fc6 adds up, the longest sum in the paper's nets
SIGMAS = 2.0


def default_tolerance(precision: Precision, *, tf32: bool = False) -> float:
    """The largest error (``Figures.error``) that rounding explains.

    A layer rounds its inputs to ``u`` and sums ``n`` products in fp32, which adds
    ``2**-24 * sqrt(n)``; the errors of ``L`` layers are independent and add like a random walk. The
    tolerance is two standard deviations for the paper's deepest net and longest sum, so shallower
    nets have room: ``2 * sqrt(19) * (u + 2**-24 * sqrt(25088))``. That is 8.3e-5 in fp32, 4.3e-3 in
    fp16 and TF32, 3.4e-2 in bf16. In int8 it is 0.27, which only finds gross mistakes: whether the
    net is accurate enough, ``compile`` measures. Net D in fp16 on a CPU had an error of 6.5e-4; a
    wrong mean or channel order makes tenths.

    >>> [f"{default_tolerance(each):.1e}" for each in ("fp32", "fp16", "bf16", "int8")]
    ['8.3e-05', '4.3e-03', '3.4e-02', '2.7e-01']
    """
    inputs = ROUNDOFF["tf32" if tf32 and precision == "fp32" else precision]
    sums = ROUNDOFF["fp32"] * math.sqrt(LONGEST_SUM)
    return SIGMAS * math.sqrt(DEEPEST) * (inputs + sums)
