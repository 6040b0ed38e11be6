"""`python -m benchmarks [NAME …]` runs the named measurements, or all of them."""

from __future__ import annotations

import importlib
import sys

NAMES = (
    "start",
    "decoding",
    "tuning",
    "first_model",
    "launching",
    "preflight",
    "cancelling",
    "polling",
    "alignment",
    "labeling",
    "prompting",
    "playground",
    "dataset",
)


def main(asked: list[str]) -> int:
    unknown = [name for name in asked if name not in NAMES]
    if unknown:
        print(f"There is no measurement '{unknown[0]}'. Known: {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    for name in asked or NAMES:
        print(f"## {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
