"""One hash of all numbers of a results.json, to see that a change of the code moves none of them.

    python tests/benchmarks/number_hash.py runs/quickstart/results.json …

Names of keys and texts do not count, so that renaming is free; times, versions and the scenario do not either.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEFT_OUT = {"scenario", "versions", "command", "runtime_s", "train_s", "seconds", "schema"}


def numbers(value: Any, key: str = "") -> Iterator[str]:
    """Every number, truth value and null, in the order of the file."""
    if key in LEFT_OUT or "per_s" in key or key.endswith(("seconds", "_mb", "rss")):
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner, key)
    elif not isinstance(value, str):
        yield json.dumps(value)


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        found = list(numbers(json.loads(path.read_text(encoding="utf-8"))))
        print(f"{hashlib.sha256(chr(10).join(found).encode()).hexdigest()[:16]}  {len(found):,} numbers  {path}")


if __name__ == "__main__":
    main()
