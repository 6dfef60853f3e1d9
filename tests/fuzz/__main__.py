"""The command line."""

import resource
import sys
import time
from pathlib import Path

from tests.fuzz.kinds import KINDS
from tests.fuzz.outcomes import fuzz


def main(number: str, folder: str, *names: str) -> None:
    """Try so many cases of each kind, or of the kinds named, and print how they ended."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wrong = 0
    for name in names or KINDS:
        start = time.monotonic()
        counts = fuzz(KINDS[name], range(int(number)), Path(folder) / name)
        wrong += counts.get("wrong", 0)
        print(f"{name}: {counts} in {time.monotonic() - start:.0f} s", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
