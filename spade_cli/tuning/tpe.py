"""Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) over the shares of all blocks at once.

The study is an SQLite file: it can be resumed, and several processes may work on it.
"""

import os
import socket
import tempfile
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from spade_cli.errors import UserError
from spade_cli.tuning.space import BlockShares, Score, Space, Try

STUDY = "study.db"
PATIENCE = 60  # seconds that a process waits for another one's turn at the file
OWNER = "process"  # attribute of a trial: who is at work on it


def check_optuna() -> None:
    """Raises UserError where optuna is not installed."""
    if find_spec("optuna") is None:
        raise UserError(
            "tuner=tpe needs optuna, which is not installed: pip install 'optuna>=4' (or, from a clone, "
            "pip install -e '.[tune]'); tuner=greedy needs nothing"
        )


def tpe(space: Space, attempt: Try, *, trials: int, seed: int, folder: Path) -> BlockShares:
    """The best of `trials` settings; dense where none gains.

    The first settings give all blocks one share, each of the ladder; from then on the estimator proposes. A trial that
    was broken off counts as worse than all that were not, and the better the longer it lasted. What is proposed depends
    on the seed and the trials that are finished alone, so that a stop changes nothing.
    """
    study = _open_study(folder / STUDY)
    _release_dead(study)
    while _count_trials(study, failed=False) < trials:
        trial = study.ask()
        trial.set_user_attr(OWNER, f"{socket.gethostname()}:{os.getpid()}")
        number = trial.number - _count_trials(study, failed=True, before=trial.number)
        study.sampler = _sampler(space, number, seed)
        steps = {block: trial.suggest_int(block, 0, len(space.ladder)) for block in space.blocks}
        _report_score(study, trial, attempt(space.shares(steps)))
    gained = [trial for trial in study.trials if trial.state.name == "COMPLETE" and trial.value > 0]
    best = max(gained, key=lambda trial: (trial.value, -trial.number), default=None)
    return {} if best is None else space.shares(best.params)


def _report_score(study: Any, trial: Any, score: Score) -> None:
    import optuna

    if score.gain is not None:
        study.tell(trial, score.gain)
        return
    trial.report(score.so_far, step=score.seen)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _sampler(space: Space, number: int, seed: int) -> Any:
    from optuna.samplers import PartialFixedSampler, TPESampler

    own = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both are called experimental
        sampler = TPESampler(seed=own, constant_liar=True)  # the liar: processes keep away from each other's trials
        if number >= len(space.ladder):
            return sampler
        return PartialFixedSampler(dict.fromkeys(space.blocks, len(space.ladder) - number), sampler)


def _open_study(file: Path) -> Any:
    """The study in the file; a new one appears whole, since two processes may be the first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not file.exists():
        with tempfile.TemporaryDirectory(prefix=".part-", dir=file.parent) as beside:
            made = Path(beside, STUDY)
            storage = _storage(made)
            optuna.create_study(storage=storage, study_name="tune", direction="maximize")
            storage.engine.dispose()
            with suppress(FileExistsError):
                os.link(made, file)
    try:
        return optuna.load_study(study_name="tune", storage=_storage(file))
    except Exception as error:  # SQLAlchemy has a tree of them
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file} cannot be read as a study ({reason}); delete it to tune anew") from None


def _storage(file: Path) -> Any:
    from optuna.storages import RDBStorage

    return RDBStorage(f"sqlite:///{file.absolute()}", engine_kwargs={"connect_args": {"timeout": PATIENCE}})


def _release_dead(study: Any) -> None:
    """Trials of processes of this machine that have ended count as failed: nobody will finish them."""
    for trial in study.get_trials(deepcopy=False):
        host, _, process = trial.user_attrs.get(OWNER, "").rpartition(":")
        if trial.state.name == "RUNNING" and host == socket.gethostname() and not _is_alive(int(process)):
            study.tell(trial.number, state=_failed_state())


def _failed_state() -> Any:
    import optuna

    return optuna.trial.TrialState.FAIL


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # an older process had the same number: this one has not begun a trial
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _count_trials(study: Any, *, failed: bool, before: int | None = None) -> int:
    """How many trials failed, or did not, among those numbered below `before`."""
    trials = study.get_trials(deepcopy=False)[:before]
    return sum((trial.state.name == "FAIL") == failed for trial in trials)
