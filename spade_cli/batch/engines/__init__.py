"""Who does the work: this process and its children, a Ray cluster, or Slurm.

An engine is `(work, worker, tasks, workers, ...) -> rows`: it gives every task to a worker, and to another one where a
worker dies. `worker` is one that is open in this process. An image's row comes once, or twice where its worker died.
"""

ATTEMPTS = 3  # of an image whose worker dies: once may be chance, three times is the image
DIED = (
    "its worker process died {times} times ({how}): most likely the memory ran out; give fewer workers, or less to "
    "calibration.memory, and resume with batch.retry=true"
)
