"""Tests the documentation's site (`scripts/docs --site`), opened from the disk in a real Chromium."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    subprocess.run([SCRIPT, "--site", directory], check=True, timeout=300)
    return directory


@pytest.mark.full
@pytest.mark.parametrize("name", ["index.html", "docs/settings.html"])
def test_the_search_of_each_page_works_without_network(browser: Any, site: Path, name: str) -> None:
    page = browser.new_page()
    requests: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((site / name).as_uri())
    page.keyboard.press("/")
    page.keyboard.type("gpu_hour_price")
    page.locator(".md-search-result a", has_text="Settings").first.click()
    page.wait_for_url("**/docs/settings.html*")
    assert "gpu_hour_price" in page.inner_text("main")
    assert [url for url in requests if not url.startswith(site.as_uri())] == []
    assert problems == []


@pytest.mark.full
def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    root = SCRIPT.parents[1]
    pages = tmp_path / "pages"
    (pages / "docs").mkdir(parents=True)
    (tmp_path / "mkdocs.yml").write_text((root / "mkdocs.yml").read_text())
    (pages / "README.md").write_text("[a page](docs/missing.md)\n")
    argv = [root / ".venv/bin/python", "-m", "mkdocs", "build", "--strict", "-f", tmp_path / "mkdocs.yml"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "docs/missing.md" in done.stderr
