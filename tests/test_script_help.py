"""Tests that every script prints its usage at once, also where nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NAMES = sorted(path.name for path in SCRIPTS.iterdir() if path.is_file() and os.access(path, os.X_OK))


INSTALLERS = ("apt-get", "pip", "pip3", "sudo", "uv", "conda", "curl", "wget")
AT_ONCE_S = 10.0
"""Ten times what the slowest takes; what installs takes minutes."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only the scripts: whatever they would install could not be installed."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return root


class Newcomer:
    """The owner of the checkout, with an empty home and no virtual environment; installers leave a mark and fail."""

    def __init__(self, checkout: Path, home: Path) -> None:
        self.checkout, self.home = checkout, home
        programs = home / "bin"
        programs.mkdir()
        for name in INSTALLERS:
            (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{home}/installed"\nexit 1\n')
            (programs / name).chmod(0o755)
        path = f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.environ = {"PATH": path, "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"}

    def asks(self, script: str, *words: str) -> tuple[int, str, str]:
        """The script's output; it must have created and changed nothing."""
        before = self.files()
        done = subprocess.run(
            [self.checkout / "scripts" / script, *words],
            cwd=self.checkout,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=AT_ONCE_S,
            check=False,
        )
        assert before == self.files()
        return done.returncode, done.stdout, done.stderr

    def files(self) -> dict[str, int]:
        """Every file in the checkout and the home, with its time of change."""
        return {
            str(path): path.lstat().st_mtime_ns for place in (self.checkout, self.home) for path in place.rglob("*")
        }


@pytest.fixture
def newcomer(checkout: Path, tmp_path: Path) -> Newcomer:
    return Newcomer(checkout, tmp_path)


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("name", NAMES)
def test_every_script_prints_its_usage_at_once_and_creates_nothing(name: str, option: str, newcomer: Newcomer) -> None:
    status, out, err = newcomer.asks(name, option)
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: scripts/{name}")


@pytest.mark.parametrize(
    "words", [("bench", "poll"), ("test", "--all"), ("soak", "--for", "5"), ("demo", "--dir", "x")]
)
def test_the_usage_is_printed_after_other_arguments_too(words: tuple[str, ...], newcomer: Newcomer) -> None:
    status, out, err = newcomer.asks(*words, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: scripts/{words[0]}")


def test_anything_that_a_script_installs_is_detected(newcomer: Newcomer) -> None:
    """Tests the check itself: the same script with other arguments creates files."""
    with pytest.raises(AssertionError):
        newcomer.asks("system-packages", "no-such-program-of-evalmon")
