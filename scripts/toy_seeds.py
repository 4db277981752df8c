"""How the two-dimensional example fares with ten seeds: the table of docs/world.md."""

from spade_cli.world import toy

SEEDS = 10


def main() -> None:
    """Print a Markdown row a seed: where the visualizations of each network land."""
    print("| seed | dense: large, small | traces, large disk: large | traces, small disk: large, small |")
    print("|---|---|---|---|")
    for seed in range(SEEDS):
        dense, large, small = toy.visualize_networks(toy.train_network(seed), seed)
        cells = [f"{one.share(disk):.0%}" for one in (dense, large, small) for disk in toy.DISKS]
        print(f"| {seed} | {cells[0]}, {cells[1]} | {cells[2]} | {cells[4]}, {cells[5]} |")


if __name__ == "__main__":
    main()
