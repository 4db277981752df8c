"""Give the command random lines and files, as tests/test_fuzz.py does, as many as asked: scripts/fuzz.py inputs=10000.

`inputs`: how many; `seed`: which; `first`: the number of the first, to repeat a single one.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from fuzz_answers import give  # noqa: E402 (found by the line above)
from fuzzing import Generator  # noqa: E402


def main() -> int:
    """Print every problem with its input, and how many there were; 1 where there was one."""
    asked = {"inputs": 1000, "seed": 0, "first": 0}
    for word in sys.argv[1:]:
        name, _, value = word.partition("=")
        if name not in asked:
            print(f"{word}: give {', '.join(f'{key}={default}' for key, default in asked.items())}", file=sys.stderr)
            return 2
        asked[name] = int(value)
    codes, found, slowest, started = Counter[str](), 0, (0.0, -1), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spade-fuzz-") as place:
        generator = Generator(Path(place, "home"), asked["seed"])
        for number in range(asked["first"], asked["first"] + asked["inputs"]):
            given, began = generator.input(number), time.monotonic()
            outcome = give(given, generator.home, Path(place, "here"))
            slowest = max(slowest, (time.monotonic() - began, number))
            codes[str(outcome.code)] += 1
            if outcome.problem:
                found += 1
                print(f"--- {number}: {given}\n{outcome.problem}", flush=True)
    ends = ", ".join(f"{count} with exit code {code}" for code, count in sorted(codes.items()))
    print(f"{asked['inputs']} inputs of seed {asked['seed']}: {ends}; {found} problems")
    print(f"{time.monotonic() - started:.0f} s, the slowest, number {slowest[1]}, took {slowest[0]:.1f} s")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
