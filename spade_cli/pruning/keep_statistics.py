"""Statistics on disk: a file per layer, so that another sparsity, schedule or pruner costs only the solve.

What is in a folder belongs to one network, one set of samples and one way of measuring: its name is the hash of all of
them.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from spade_cli.errors import SpadeError, UserError
from spade_cli.pruning.hessian import Statistics
from spade_cli.pruning.solvers.damped_hessian import Hessian, LowRank

FORMAT = "spade statistics 1"


class Store:
    """A folder of statistics; it is made at the first `write`."""

    def __init__(self, root: Path, name: str) -> None:
        self.folder = root / name

    def read(self, names: Iterable[str]) -> Statistics | None:
        """What is there of the named layers, on the CPU; None where nothing was ever written."""
        logits = self._load("logits", "all")
        if logits is None:
            return None
        hessians: dict[str, Hessian] = {}
        observations = {}
        for name in names:
            found = self._load("layer", name)
            if found is None:
                continue
            tensors, count = found
            if count:
                low_rank = "inputs" in tensors
                hessians[name] = LowRank(tensors["inputs"], tensors["damping"]) if low_rank else tensors["hessian"]
            observations[name] = count
        return Statistics(hessians, observations, logits[0]["logits"])

    def write(self, statistics: Statistics, names: Iterable[str]) -> None:
        """Write the named layers' statistics; a layer that never ran is written as such."""
        for name in names:
            hessian = statistics.hessians.get(name)
            tensors: dict[str, Tensor] = {}
            if isinstance(hessian, LowRank):
                tensors = {"inputs": hessian.inputs, "damping": hessian.damping}
            elif hessian is not None:
                tensors = {"hessian": hessian}
            self._save("layer", name, tensors, statistics.observations.get(name, 0))
        self._save("logits", "all", {"logits": statistics.logits}, 0)  # last: what is not there is measured again

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / f"{kind}-{name}.safetensors"

    def _load(self, kind: str, name: str) -> tuple[dict[str, Tensor], int] | None:
        path = self._path(kind, name)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
                return tensors, int(file.metadata()["observations"])
        except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"calibration.save: {path} cannot be read ({error}); delete it") from error

    def _save(self, kind: str, name: str, tensors: dict[str, Tensor], observations: int) -> None:
        """Beside its place, then renamed: runs that share a folder never see half a file."""
        path = self._path(kind, name)
        ready = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".part-", dir=self.folder) as beside:
                partial = Path(beside) / path.name
                partial.write_bytes(save(ready, {"format": FORMAT, "observations": str(observations)}))
                partial.replace(path)
        except OSError as error:
            raise SpadeError(f"calibration.save: cannot write {path}: {error}; give another folder") from error
