"""Shared by all tests: two threads at most, and tests may import their siblings."""

import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(folder) for folder in (HERE, *sorted(HERE.iterdir())) if folder.is_dir()]
torch.set_num_threads(min(2, torch.get_num_threads()))
