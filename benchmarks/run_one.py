"""``python -m benchmarks.run_one NAME FILE``: the figures of one script, printed, and as JSON."""

import importlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.measure import Claim, conclude


def main(name: str, path: Path) -> int:
    """Run ``benchmarks.NAME`` and write what it measured; 1 where a bound is not met."""
    script = importlib.import_module(f"benchmarks.{name}")
    start = time.perf_counter()
    claims: list[Claim] = script.main()
    seconds = time.perf_counter() - start
    record = {
        "name": name,
        "about": (script.__doc__ or "").strip(),
        "seconds": seconds,
        "claims": [asdict(claim) for claim in claims],
    }
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")
    return conclude(claims)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
