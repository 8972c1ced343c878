"""The README's tour works when pasted, and its links lead somewhere."""

import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text()


def tour() -> str:
    section = README.partition("## Five minutes")[2].partition("\n## ")[0]
    match = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.mark.root
def test_the_tour_works_when_pasted(short_root: Path) -> None:
    root = short_root / "tour"
    commands = tour().replace("/var/tmp/snapreel-tour", str(root))
    assert str(root) in commands
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail"],
        input="trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + commands,
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={"PATH": os.environ["PATH"], **_marker()},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "READY" in lines
    assert "hello" in lines
    assert done.stdout.count("DUMP IS DONE") == 2
    assert done.stdout.count("RESTORE IS DONE") == 2
    assert not root.exists()


def _marker() -> dict[str, str]:
    """The environment that lets the guard find what the tour leaves."""
    return {name: os.environ[name] for name in ("SNAPREEL_RUN", "TMPDIR")}


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{path.name}" for path in sorted((TOP / "docs").glob("*.md")))]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (TOP / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert ((TOP / page).parent / target).exists(), target
