"""engine=ray on real clusters of this machine: two workers, and two nodes of which one is killed with its worker."""

import os
import time
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from many import alike, dies_once, pictures
from PIL import Image
from test_batch import asked

from spade_cli.batch import batch
from spade_cli.batch.batch_request import BatchRequest
from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.images import augment

ray = pytest.importorskip("ray", reason="Ray is not installed")
from spade_cli.batch.engines.ray import ray as engine  # noqa: E402 (the skip comes first)

SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    pictures(tmp_path / "pictures", 4)
    return tmp_path


@pytest.fixture
def pixel(here):
    """Of the picture at which a worker or its node is killed."""
    return int(np.array(Image.open("pictures/dogs 0/é 1.png"))[0, 0, 0])


def through(out, *, address, **changes):
    request = asked(out, workers=2, **changes)
    return BatchRequest(**{**vars(request), "engine": partial(engine, address=address)})


def ends_its_node(image, samples, preprocessing, seed, *, marker, pixel):
    """The paper's augmentation; at one picture it names its node and waits for the end, until `marker` is there."""
    if image[0, 0, 0] == pixel and not Path(marker).exists():
        beside = Path(f"{marker}.part")
        beside.write_text(ray.get_runtime_context().get_node_id())
        beside.rename(marker)
        time.sleep(60)
        os._exit(1)  # nobody killed the node: the batch goes on, and the test sees that the node is there
    return augment.paper(image, samples, preprocessing, seed)


def kill_node(cluster, marker):
    """Kill the node that is named in the file `marker`, as soon as it is there."""
    limit = time.monotonic() + 100
    while not marker.exists() and time.monotonic() < limit:
        time.sleep(0.1)
    (node,) = (node for node in cluster.worker_nodes if node.node_id == marker.read_text())
    cluster.remove_node(node, allow_graceful=False)


def test_two_workers_of_which_one_dies(here, pixel):
    whole = batch(asked("whole", augmentation=augment.paper))
    deadly = partial(dies_once, marker=str(here / "died"), pixel=pixel)
    batch(through("out", address="local", augmentation=deadly))
    assert (here / "died").exists() and alike("out", whole)
    assert not ray.is_initialized(), "what was started is ended"


def test_two_nodes_of_which_one_dies_with_its_worker(here, pixel):
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": SOON},
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        whole = batch(asked("whole", augmentation=augment.paper))
        deadly = partial(ends_its_node, marker=str(here / "node"), pixel=pixel)
        killer = Thread(target=kill_node, args=(cluster, here / "node"), daemon=True)
        killer.start()
        batch(through("out", address=cluster.address, augmentation=deadly))
        killer.join(10)
        assert len(cluster.worker_nodes) == 1 and alike("out", whole)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_cluster_that_does_not_answer_is_one_line(here):
    with pytest.raises(UserError, match=r"engine.address=nowhere: no Ray cluster answers"):
        batch(through("out", address="nowhere"))
    assert not Path("out").exists()
    assert main(["batch", "images=pictures", "engine=ray", "engine.cpus=x", "out=out"]) == 2
