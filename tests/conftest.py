"""Shared by all tests: two threads at most, and tests may import their siblings."""

import sys
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "pruning")]
torch.set_num_threads(min(2, torch.get_num_threads()))
