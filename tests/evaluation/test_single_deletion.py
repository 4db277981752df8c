"""Single deletion on a grid against its definition, restated cell by cell."""

import pytest
import torch
from networks import small
from scipy import stats

from spade_cli.evaluation.measures.single_deletion import find_drops, number_cells, single_deletion


def cell_of(row: int, column: int, height: int, width: int, grid: int) -> tuple[int, int]:
    return int(row * grid / height), int(column * grid / width)


def test_single_deletion_is_the_correlation_of_relevance_and_drop() -> None:
    torch.manual_seed(0)
    network, x, relevance, grid = small(), torch.randn(1, 3, 14, 14), torch.randn(2, 14, 14), 4
    drops, sums = [], [[], []]
    with torch.no_grad():
        whole = network(x)[0, 3].item()
        for down in range(grid):
            for across in range(grid):
                without, totals = x.clone(), [0.0, 0.0]
                for i in range(14):
                    for j in range(14):
                        if cell_of(i, j, 14, 14, grid) == (down, across):
                            without[0, :, i, j] = 0
                            totals = [total + one[i, j].item() for total, one in zip(totals, relevance, strict=True)]
                drops.append(whole - network(without)[0, 3].item())
                for listed, total in zip(sums, totals, strict=True):
                    listed.append(total)
    found = find_drops(network, x, 3)
    assert torch.allclose(found.flatten(), torch.tensor(drops).double(), atol=1e-4)
    expected = [stats.spearmanr(one, drops).statistic for one in sums]
    assert single_deletion(relevance, found).tolist() == pytest.approx(expected, abs=1e-6)


def test_limits() -> None:
    drops = torch.rand(4, 4).double()
    perfect = drops.repeat_interleave(3, 0).repeat_interleave(2, 1)[None]
    assert single_deletion(torch.cat([perfect, -perfect, 0 * perfect]), drops).tolist() == pytest.approx([1, -1, 0])
    assert single_deletion(perfect, 0 * drops).item() == 0
    assert number_cells(5, 7, 2).tolist() == [[0, 0, 0, 0, 1, 1, 1]] * 3 + [[2, 2, 2, 2, 3, 3, 3]] * 2
