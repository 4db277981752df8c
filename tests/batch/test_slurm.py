"""engine=slurm: by submitit's local executor, and on a Slurm of one node that the test starts where it is installed."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from many import QUICK, alike, dies_once, pictures, table
from PIL import Image
from test_batch import asked

from spade_cli.batch import batch
from spade_cli.batch.batch_request import BatchRequest
from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.images import augment

pytest.importorskip("submitit", reason="submitit is not installed")
from spade_cli.batch.engines.slurm import slurm

DAEMONS = ("munged", "slurmctld", "slurmd")
PLACES = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where the system's packages put them
MISSING = [name for name in (*DAEMONS, "sbatch") if not shutil.which(name, path=PLACES)]
CONFIGURATION = """
ClusterName=spade
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=200000
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000 State=UNKNOWN
PartitionName=spade Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pictures", 4)
    return tmp_path


def test_jobs_of_this_machine_of_which_one_dies(here):
    pixel = int(np.array(Image.open("pictures/dogs 0/é 1.png"))[0, 0, 0])
    deadly = partial(dies_once, marker=str(here / "died"), pixel=pixel)
    whole = batch(asked("whole", augmentation=augment.paper))
    request = asked("out", workers=2, augmentation=deadly)
    engine = partial(slurm, cluster="local", images=2, minutes=10)
    batch(BatchRequest(**{**vars(request), "engine": engine}))
    assert Path("died").exists() and alike("out", whole)


def test_slurm_knows_its_clusters():
    with pytest.raises(UserError, match="slurm and local"):
        list(slurm(None, None, iter(()), 1, cluster="moon"))


@pytest.fixture
def one_node(here, monkeypatch):
    """A Slurm of this machine alone, in the test's folder; it ends with the test."""
    if MISSING:
        pytest.skip(f"{', '.join(MISSING)} not installed (apt install slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.skip("only root may start Slurm's daemons")
    monkeypatch.setenv("PATH", PLACES)
    with Slurm(here / "cluster") as cluster:
        monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
        cluster.wait()
        yield cluster
        cluster.wait_for_jobs()


class Slurm:
    """munged, slurmctld and slurmd with a configuration of their own."""

    def __init__(self, folder):
        self.folder, self.running = folder, []
        self.configuration = folder / "slurm.conf"

    def __enter__(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        with socket.socket() as one, socket.socket() as two:
            for free in (one, two):
                free.bind(("127.0.0.1", 0))
            ports = one.getsockname()[1], two.getsockname()[1]
        host = socket.gethostname().split(".")[0]
        text = CONFIGURATION.format(host=host, folder=self.folder, ports=ports, cores=os.cpu_count())
        self.configuration.write_text(text, encoding="utf-8")
        place = [f"--{name}={self.folder}/munge.{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        try:
            self.start("munged", "--foreground", "--force", f"--key-file={key}", *place)
            self.start("slurmctld", "-D", "-i", "-f", str(self.configuration))
            self.start("slurmd", "-D", "-f", str(self.configuration), "-N", host)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, *words):
        log = (self.folder / f"{words[0]}.out").open("w")
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        self.running.append(subprocess.Popen(words, stdout=log, stderr=log, env=environment, cwd=self.folder))

    def wait(self):
        """Until the node is idle."""
        limit, said = time.monotonic() + 30, ""
        while time.monotonic() < limit:
            asked = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
            said = asked.stdout.strip() or asked.stderr.strip()
            if said == "idle":
                return
            time.sleep(0.3)
        logs = [line for name in DAEMONS for line in (self.folder / f"{name}.out").read_text().splitlines()[-3:]]
        pytest.skip(f"Slurm does not start here: {said}; {' | '.join(logs)}")

    def wait_for_jobs(self):
        """A job's result is there before its processes end, and these outlive the daemons."""
        limit = time.monotonic() + 20
        while time.monotonic() < limit:
            if not subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout.strip():
                return
            time.sleep(0.2)

    def __exit__(self, *error):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_a_slurm_of_one_node(one_node, here, monkeypatch):
    monkeypatch.setattr("spade_cli.batch.engines.slurm.PAUSE", {"slurm": 0.5})
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    words = ("batch", "images=pictures", *QUICK)
    assert main([*words, "out=whole"]) == 0
    cluster = ("engine=slurm", "engine.images=2", "engine.cpus=1", "engine.memory=1.5", "engine.minutes=5")
    assert main([*words, "workers=2", *cluster, "out=out"]) == 0
    assert alike("out", "whole") and len(table("out")) == 4
    ran = {path.name.split("_")[0] for path in Path("slurm").rglob("*_result.pkl")}
    assert len(ran) == 2, "two jobs of two images"
    assert json.loads(Path("out/batch.json").read_text(encoding="utf-8"))["images"] == 4
