"""Writes the demo's experiment: `make_experiment.py DIR [--gpu] [--own-cluster]`."""

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path
from string import Template

from cells import CELLS, TRAINED, Cell

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Fill the directory, which may exist, but must be empty."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--gpu", action="store_true", help="ask for one GPU in each cell.slurm")
    parser.add_argument("--own-cluster", action="store_true", help="settings for a cluster that nobody else uses")
    arguments = parser.parse_args()

    directory: Path = arguments.directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        sys.exit(f"{directory} is not empty; name another directory")
    shutil.copy(HERE / "tasks.py", directory / "tasks.py")
    for adapter, accuracy in TRAINED.items():
        _write(directory / adapter / "adapter.json", json.dumps({"accuracy": accuracy}) + "\n")
    for cell in CELLS:
        _write(directory / cell.directory / "cell.slurm", cell_script(cell, directory, gpu=arguments.gpu))
    if arguments.own_cluster:
        shutil.copy(HERE / "own_cluster.yaml", directory / "evalmon.yaml")


def cell_script(cell: Cell, experiment: Path, *, gpu: bool) -> str:
    """The text of one cell.slurm."""
    template = Template((HERE / "cell.slurm.in").read_text(encoding="utf-8"))
    return template.substitute(
        run=cell.run,
        task=cell.task,
        epoch=cell.epoch,
        time_limit=cell.time_limit,
        gres_line="#SBATCH --gres=gpu:1\n" if gpu else "",
        activate=shlex.quote(f"{sys.prefix}/bin/activate"),
        directory=shlex.quote(str(experiment / cell.directory)),
        tasks_file=shlex.quote(str(experiment / "tasks.py")),
        adapter=shlex.quote(str(experiment / cell.adapter_directory)),
        option_lines="".join(f"\n    -T {option} \\" for option in cell.options),
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
