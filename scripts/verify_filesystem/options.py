"""The options of scripts/verify-filesystem, read with Python alone: `--help` installs nothing."""

import argparse


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(
        prog="scripts/verify-filesystem",
        description="Tries on a file system what evalmon relies on there: that its lock excludes, that a file which is "
        "replaced is never seen by half, that a name has one maker. Many processes do it at once, through one mount, "
        "through two of the same directory (DIR2), or on several hosts: "
        "srun -N2 --ntasks-per-node=1 scripts/verify-filesystem DIR --hosts 2",
    )
    options.add_argument(
        "dir", metavar="DIR", help="a directory there; the check makes a directory of its own in it, and removes it"
    )
    options.add_argument("dir2", metavar="DIR2", nargs="?", help="the same directory through another mount")
    options.add_argument(
        "--kind", choices=["flock", "soft"], help="the lock to try (default: the one evalmon would use)"
    )
    options.add_argument(
        "--hosts", type=int, default=1, help="so many of this program run at the same time (default: 1)"
    )
    options.add_argument("--meet", metavar="NAME", help="the same name for all hosts (default: the Slurm step's)")
    options.add_argument("--processes", type=int, default=4, help="on each mount of each host (default: 4)")
    options.add_argument("--rounds", type=int, default=200, help="of each process (default: 200)")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    parser().parse_args()
