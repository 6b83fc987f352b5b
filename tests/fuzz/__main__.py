"""``python -m tests.fuzz``: run targets, as long as one likes."""

import argparse
import sys
import time

from tests.fuzz import harness


def main() -> int:
    """1 where something was answered wrongly."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(harness.names())}; else all")
    parser.add_argument("--seconds", type=float, default=10, help="for each target")
    parser.add_argument("--first", type=int, help="the first case's number; else the time")
    parser.add_argument("--case", type=int, help="this case alone")
    given = parser.parse_args()
    unknown = set(given.targets) - set(harness.names())
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    first = int(time.time()) * 1000 if given.first is None else given.first
    failed = 0
    for name in given.targets or harness.names():
        cases = (
            iter([given.case]) if given.case is not None else harness.until(given.seconds, first)
        )
        outcome = harness.run(name, cases)
        answers = ", ".join(f"{kind} {times}" for kind, times in outcome.answers.most_common())
        print(f"{name}: {outcome.cases} cases, {len(outcome.failures)} failed; {answers}")
        for case, text in outcome.failures.items():
            print(f"--- python -m tests.fuzz {name} --case {case}\n{text}")
        failed += len(outcome.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
