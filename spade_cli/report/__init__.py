"""A run's folder: pictures, summary, checkpoint."""

from spade_cli.report.checkpoint import export, load_trace
from spade_cli.report.folder import run_folder

__all__ = ["export", "load_trace", "run_folder"]
