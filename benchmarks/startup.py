"""``vggspec check specs/table1.vgg`` against ``python -c "import torch"``, whole processes."""

import sys

from benchmarks.measure import Claim, conclude, milliseconds, process, ratio


def main() -> list[Claim]:
    """At most 0.3 of the time."""
    ours, theirs = [], []
    for i in range(6):
        check = process([sys.executable, "-m", "vggspec", "check", "specs/table1.vgg"])
        torch = process([sys.executable, "-c", "import torch"])
        if i > 0:  # the first round warms the disk cache
            ours.append(check.seconds)
            theirs.append(torch.seconds)
    detail = f"check {milliseconds(ours)}, import torch {milliseconds(theirs)}"
    return [
        Claim(
            "check table1 / import torch", ratio(ours, theirs), 0.3, at_least=False, detail=detail
        )
    ]


if __name__ == "__main__":
    sys.exit(conclude(main()))
