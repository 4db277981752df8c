"""Many images: lists of them, the folder and table that survive a kill, and who does the work."""

from spade_cli.batch.batch import batch

__all__ = ["batch"]
