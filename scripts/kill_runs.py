"""Kills `spade run` and `spade batch` at random moments, fills their disk, forbids writing: what is lost or doubled?

    python scripts/kill_runs.py --kills 100 --out FOLDER

Jobs are tiny. Each runs in a fork of this process, which has loaded torch already, so that a kill falls into the work
and not into the start. Every second kill is SIGTERM, the others are SIGKILL. After each, the folder is looked at:
whatever is visible must be whole, and what was finished must stay as it was. A batch is resumed until it ends by
itself; then it must be the same as one that nobody disturbed. Full and read-only disks are small file systems in
memory, which only root may mount; for others that part is left out. --seed chooses other moments.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import torch
from bench_batch import CHEAP, METHODS, write_pictures

from spade_cli.cli import main as spade

SIGNALS = (signal.SIGTERM, signal.SIGKILL)
IMAGES = 8  # of the batch
DISK = 50_000  # kB of the small file system, once it is large enough
NEXT = "next"  # the folder that is filled


def main() -> None:
    """Kill, fill, forbid, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--skip-disk", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # a fork has no other threads
    asked.out.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.out)
    write_pictures(Path("pictures"), IMAGES)
    chance, found = random.Random(asked.seed), Counter[str]()
    kill_batches(asked.kills // 2, chance, found)
    kill_single_runs(asked.kills - asked.kills // 2, chance, found)
    if not asked.skip_disk:
        fill_disk(found)
    print(json.dumps(dict(sorted(found.items())), indent=2))
    sys.exit(any(key.startswith("PROBLEM") for key in found))


def batch_words(out: str | Path) -> list[str]:
    """The command of the batch, which is begun or resumed by the same words."""
    return ["batch", "images=pictures", f"out={out}", *CHEAP, METHODS, "--quiet"]


def begin(words: list[str]) -> int:
    """The process id of a fork that gives this command; what it prints goes to `said.txt`."""
    child = os.fork()
    if child == 0:
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        code = 99
        try:
            code = spade(words)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    return child


def end(words: list[str]) -> int:
    """Give the command, wait; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(begin(words), 0)[1])


def end_early(words: list[str], seconds: float, number: signal.Signals) -> bool:
    """Give the command and kill it after some seconds; whether it ended before."""
    child, limit = begin(words), time.monotonic() + seconds
    while time.monotonic() < limit:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.002)
    os.kill(child, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code >= 0 and code != 128 + number


def read_results(out: Path) -> dict[str, str]:
    """Name of each result that is visible -> hash of all its maps and its time of writing. Raises for half a one."""
    found = {}
    for folder in sorted(out.glob("images/*/*")):
        summary = folder / "summary.json"
        json.loads(summary.read_text(encoding="utf-8"))
        found[folder.name] = f"{summary.stat().st_mtime_ns} {hash_maps(folder)}"
    return found


def hash_maps(folder: Path) -> str:
    """One hash of the raw maps below a folder."""
    return sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.npy")))).hexdigest()


def read_rows(out: Path) -> list[dict[str, object]]:
    """The table's rows without their seconds."""
    lines = (out / "index.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def differs(out: Path, whole: Path) -> str:
    """Why a batch that ended is not as the undisturbed one; "" where it is."""
    if read_rows(out) != read_rows(whole):
        return "rows"
    if (out / "index.csv").read_bytes().count(b"\n") != IMAGES + 1:
        return "lines of index.csv"
    if hash_maps(out) != hash_maps(whole):
        return "maps"
    left = {path.name for path in out.iterdir()} ^ {path.name for path in whole.iterdir()}
    return f"files: {left}" if left else ""


def kill_batches(kills: int, chance: random.Random, found: Counter[str]) -> None:
    """Batches that are killed and resumed until they end."""
    whole, out = Path("whole"), Path(NEXT)
    longest = make_whole(whole) / 2
    shutil.rmtree(out, ignore_errors=True)
    done = 0
    kept: dict[str, str] = {}
    while done < kills:
        number = SIGNALS[done % 2]
        ended = end_early(batch_words(out), chance.uniform(0, longest), number)
        done += not ended
        found[f"batch: killed by {number.name}"] += not ended
        kept = look(out, kept, "batch", found)
        if number == signal.SIGTERM and (out / ".partial").exists() and not ended:
            found["batch: unfinished results left hidden after SIGTERM"] += 1
        if ended:
            compare(out, whole, "batch", found)
            kept = {}
    if end(batch_words(out)) == 0:
        compare(out, whole, "batch", found)


def make_whole(whole: Path) -> float:
    """Write the batch that nobody disturbs; the seconds that it takes."""
    shutil.rmtree(whole, ignore_errors=True)
    started = time.monotonic()
    if end(batch_words(whole)) != 0:
        raise SystemExit(f"the undisturbed batch failed: {Path('said.txt').read_text()}")
    return time.monotonic() - started


def look(out: Path, kept: dict[str, str], what: str, found: Counter[str]) -> dict[str, str]:
    """The results that are there now; counts what is not whole, and what was there before and is not, or is another."""
    try:
        now = read_results(out)
    except (OSError, ValueError) as error:
        found[f"PROBLEM {what}: a result is not whole: {error}"] += 1
        return kept
    if not kept.items() <= now.items():
        found[f"PROBLEM {what}: a finished result was lost or made again"] += 1
    return now


def compare(out: Path, whole: Path, what: str, found: Counter[str]) -> None:
    """Count whether an ended batch is as the undisturbed one, and delete it."""
    why = differs(out, whole)
    found[f"PROBLEM {what}: other {why}" if why else f"{what}: ended, the same as undisturbed"] += 1
    shutil.rmtree(out)


def kill_single_runs(kills: int, chance: random.Random, found: Counter[str]) -> None:
    """Runs that are killed: a folder appears whole or not at all."""
    out, picture = Path("runs"), next(Path("pictures").rglob("*.png"))
    words = ["run", f"image={picture}", f"out={out}", *CHEAP, METHODS, "--quiet"]
    shutil.rmtree(out, ignore_errors=True)
    started = time.monotonic()
    if end(words) != 0:
        raise SystemExit(f"the undisturbed run failed: {Path('said.txt').read_text()}")
    longest = time.monotonic() - started
    maps = {hash_maps(folder) for folder in out.glob("*/*")}
    files = {path.name for folder in out.glob("*/*") for path in folder.rglob("*")}
    done = 0
    while done < kills:
        shutil.rmtree(out, ignore_errors=True)
        number = SIGNALS[done % 2]
        ended = end_early(words, chance.uniform(0, longest), number)
        done += not ended
        found[f"run: killed by {number.name}"] += not ended
        visible = [path for path in out.glob("*/*") if not path.name.startswith(".")]
        hidden = list(out.glob("*/.*"))
        for folder in visible:
            right = {path.name for path in folder.rglob("*")} == files and hash_maps(folder) in maps
            found["run: visible and whole" if right else "PROBLEM run: visible and not whole"] += 1
        if hidden:
            term = number == signal.SIGTERM and not ended
            found[f"{'PROBLEM ' if term else ''}run: a hidden folder left after {number.name}"] += 1


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` kB in memory at `folder`."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """The same file system with another size, or read-only."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def is_one_line(code: int) -> bool:
    """Whether the last command failed with one line, and no traceback."""
    said = Path("said.txt").read_text(encoding="utf-8")
    return code in (1, 2) and "Traceback" not in said and said.splitlines()[-1].startswith("spade: ")


def fill_disk(found: Counter[str]) -> None:
    """Batches on disks that become full at different places, and on one that may only be read; then room for all."""
    if os.geteuid() != 0:
        print("only root may mount a small file system: full and read-only disks are left out", file=sys.stderr)
        return
    whole, disk = Path("whole"), Path("disk")
    used = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) // 1000
    for size in (16, *(used * step // 10 for step in range(1, 12, 2))):
        with small_disk(disk, size):
            code = end(batch_words(disk / "out"))
            if not is_one_line(code) and code != 0:
                found[f"PROBLEM full disk of {size} kB: exit code {code}: {Path('said.txt').read_text()[-300:]}"] += 1
            found["full disk: ended with one line"] += code != 0
            before = read_results(disk / "out")
            remount(disk, "ro")
            code = end(batch_words(disk / "out"))
            if not is_one_line(code):
                found[f"PROBLEM read-only: exit code {code}: {Path('said.txt').read_text()[-300:]}"] += 1
            found["read-only: ended with one line"] += 1
            remount(disk, f"rw,size={DISK}k")
            code = end(batch_words(disk / "out"))
            if code != 0:
                found[f"PROBLEM after a full disk: exit code {code}: {Path('said.txt').read_text()[-300:]}"] += 1
                continue
            if not before.items() <= read_results(disk / "out").items():
                found["PROBLEM full disk: a finished result was lost or made again"] += 1
            compare(disk / "out", whole, "full disk", found)


if __name__ == "__main__":
    main()
