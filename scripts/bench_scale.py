"""What leads a batch of a million images: its list, its table, its resumption, its store and its gallery, measured.

    python scripts/bench_scale.py --images 1000000 --out FOLDER
    python scripts/bench_scale.py store --images 20000 --out FOLDER

No image is explained: the engine of these batches answers at once. So what is timed is the process that leads, which
is what a hundred workers share. A line of JSON for each step: wall and processor seconds, memory beyond what was in
use before, bytes.
"""

import argparse
import json
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spade_cli.batch.batch import batch
from spade_cli.batch.batch_folder import LIST
from spade_cli.batch.batch_request import BatchRequest, Task
from spade_cli.batch.storage import Remote
from spade_cli.batch.table import JSONL, Item, Result, Row, Table
from spade_cli.batch.write_result import name_folder
from spade_cli.images.find import find_images
from spade_cli.report.gallery_page import write_gallery
from spade_cli.report.summary import Prediction, Predictions

PER_FOLDER = 1000  # pictures
FILES, KILOBYTES = 19, 420  # of one result, and of each of its files: 8 MB in all (docs/scale.md)
PREDICTIONS = Predictions(Prediction(281, "tabby", 0.61234567, 0.61234567), Prediction(281, "tabby", 0.5123, 0.5123))
FLAGS = ("the trace keeps 9.12% of the samples' answers: of this image alone it is faithful",)


def main() -> None:
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all but the store and the gallery if none")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for part in asked.parts or ("table", "list", "leader"):
        PARTS[part](asked.out / part, asked.images)


@contextmanager
def measure(what: str, **more: Any) -> Iterator[dict[str, Any]]:
    """Print what the block costs; it may add figures to the dict that it gets."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here; Linux only
    wall, processor, memory = time.perf_counter(), time.process_time(), read_memory("VmRSS")
    yield more
    figures = {
        "seconds": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "more_MB_at_most": read_memory("VmHWM") - memory,
        "more_MB_after": read_memory("VmRSS") - memory,
    }
    print(json.dumps({"what": what, **{name: round(one, 2) for name, one in figures.items()}, **more}), flush=True)


def read_memory(key: str) -> float:
    """Megabytes of this process in memory: VmRSS now, VmHWM at most since `clear_refs`; NaN where nothing says it."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def make_row(number: int, address: str) -> Row:
    """A row as long as one of SqueezeNet's."""
    result = Result("tabby", PREDICTIONS, True, 0.6523437, 0.28123456789, 0.91481234, FLAGS, 18.812345)
    return Row(Item(number, address), name_folder(number, address), result=result)


def name_picture(number: int) -> str:
    """Where a picture lies, below the folder of all."""
    return f"{number // PER_FOLDER:04d}/{number:07d}.jpg"


def measure_table(out: Path, images: int) -> None:
    """Append, sort, read and iterate a table alone."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    order = list(range(images))
    for start in range(0, images - 800, 800):  # a hundred workers with eight images each end in any order
        order[start : start + 800] = order[start : start + 800][::-1]
    table = Table(out, "index.csv", images)
    table.sort()
    table.__enter__()
    with measure("append", rows=images):
        for number in order:
            table.append(make_row(number, name_picture(number)))
    with measure("sort at the end", rows=images) as figures:
        table.__exit__(None, None, None)
        figures |= {"jsonl_MB": megabytes(out / JSONL), "csv_MB": megabytes(out / "index.csv")}
    again = Table(out, "index.csv", images)
    with measure("load", rows=images):
        again.load(retry=False)
    with measure("iterate", rows=images):
        assert sum(1 for _ in again.rows()) == images


def megabytes(path: Path) -> float:
    """Size of a file."""
    return round(path.stat().st_size / 1e6, 1)


def measure_list(out: Path, images: int) -> None:
    """List a folder of empty pictures in three ways."""
    folder, text = out / "pictures", out / "list.txt"
    for number in range(images):
        path = folder / name_picture(number)
        if number % PER_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with text.open("w", encoding="utf-8") as file:
        file.writelines(f"{folder}/{name_picture(number)}\n" for number in range(images))
    for what, asked in {"folder": folder, "pattern": folder / "**" / "*.jpg", "list": text}.items():
        with measure(f"list: a {what}", images=images):
            assert sum(1 for _ in find_images(str(asked), str(out / "results"))) == images


@dataclass(frozen=True)
class NoWork:
    """A worker that has nothing to load."""

    def open(self) -> "NoWork":
        """Itself."""
        return self

    def networks(self) -> dict[str, str | None]:
        """None."""
        return {}


class StopError(Exception):
    """The end of what is measured."""


def answer_at_once(most: int, on_first: Callable[[], None]) -> Callable[..., Generator[Row]]:
    """An engine that makes rows out of nothing, and stops after `most` of them as a kill does."""

    def engine(work: object, worker: object, tasks: Iterator[Task], workers: int | None) -> Generator[Row]:
        done = 0
        for task in tasks:
            if not done:
                on_first()
            for number, address in task:
                yield make_row(number, address)
                done += 1
                if done == most:
                    raise StopError

    return engine


def note_seconds(seconds: list[float], started: float) -> None:
    """How long ago something started."""
    seconds.append(time.perf_counter() - started)


def measure_leader(out: Path, images: int) -> None:
    """A batch of a list, ended at its half, resumed until its first task, resumed to its end, and resumed when done."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    text = out / "list.txt"
    with text.open("w", encoding="utf-8") as file:
        file.writelines(f"photographs/{name_picture(number)}\n" for number in range(images))
    for what, most in {"first half": images // 2, "resume": 1, "second half": images, "resume when done": 1}.items():
        started, first = time.perf_counter(), list[float]()
        with measure(f"batch: {what}", images=images), suppress(StopError):
            engine = answer_at_once(most, partial(note_seconds, first, started))
            batch(BatchRequest(str(text), str(out / "results"), NoWork(), engine, workers=100))
        if first:
            print(json.dumps({"what": f"batch: {what}: until the first task", "seconds": float(f"{first[0]:.3g}")}))
    print(json.dumps({"what": "list", "MB": megabytes(out / "results" / LIST)}))


def measure_store(out: Path, images: int) -> None:
    """moto's S3 on this machine: list objects; count the requests of one result; publish and fetch a table."""
    import fsspec
    from aiobotocore.client import AioBaseClient
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    asked: Counter[str] = Counter()
    call = AioBaseClient._make_api_call

    async def count(self: Any, name: str, arguments: Any) -> Any:
        asked[name] += 1
        return await call(self, name, arguments)

    AioBaseClient._make_api_call = count
    fs = fsspec.filesystem("s3")
    fs.makedirs("many", exist_ok=True)
    fs.pipe({f"many/pictures/{name_picture(number)}": b"x" for number in range(images)})
    for what, url in {"folder": "s3://many/pictures", "pattern": "s3://many/pictures/**/*.jpg"}.items():
        fs.invalidate_cache()
        asked.clear()
        with measure(f"store: list a {what}", images=images, requests=asked):
            assert sum(1 for _ in find_images(url, "s3://many/results")) == images
    fs.invalidate_cache()
    storage = Remote("s3://many/results")
    results = 5
    asked.clear()
    with measure("store: results", results=results, requests=asked):
        for number in range(results):
            with storage.result(name_folder(number, "a.jpg")) as folder:
                for name in ("summary.json", *map(str, range(FILES - 1))):
                    (folder / name).write_bytes(bytes(1000 * KILOBYTES))
    (out / "list").parent.mkdir(parents=True, exist_ok=True)
    asked.clear()
    with measure("store: fetch and publish a list of 100 MB", requests=asked):
        (out / "list").write_bytes(bytes(10**8))
        storage.upload(out / "list", "images.jsonl")
        storage.download("images.jsonl", out / "again")
    server.stop()


def measure_gallery(out: Path, images: int) -> None:
    """A page of results that all link to one real one."""
    from bench_batch import CHEAP, METHODS, write_pictures

    from spade_cli.cli import main as spade

    shutil.rmtree(out, ignore_errors=True)
    pictures = write_pictures(out / "pictures", 1)
    if spade(["batch", f"images={pictures}", f"out={out / 'one'}", *CHEAP, METHODS, "--quiet"]) != 0:
        raise SystemExit("the one real result failed")
    (real,) = (out / "one" / "images").glob("*/*")
    with Table(out, "index.csv", images) as table:
        for number in range(images):
            row = make_row(number, name_picture(number))
            (out / row.folder).parent.mkdir(parents=True, exist_ok=True)
            (out / row.folder).symlink_to(real.resolve())
            table.append(row)
    with measure("gallery", results=images) as figures:
        figures["page_MB"] = megabytes(write_gallery(out))
    thumbnails = [path.stat().st_size for path in (out / "thumbnails").iterdir()]
    print(json.dumps({"what": "thumbnails", "files": len(thumbnails), "MB": round(sum(thumbnails) / 1e6, 1)}))


PARTS: dict[str, Callable[[Path, int], None]] = {
    "table": measure_table,
    "list": measure_list,
    "leader": measure_leader,
    "store": measure_store,
    "gallery": measure_gallery,
}

if __name__ == "__main__":
    main()
