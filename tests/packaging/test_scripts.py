"""The two commands of the README and what they are made of."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PACKAGING = TOP / "packaging"
SCRIPTS = [PACKAGING / "setup", PACKAGING / "demo", PACKAGING / "test", TOP / ".ci" / "run"]
REQUIREMENTS = sorted((PACKAGING / "requirements").glob("*.txt"))
NOBODY = 65534


def run(*command: str | Path, user: int | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        timeout=60,
        user=user,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_executable_and_parse(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert run("bash", "-n", script).returncode == 0


@pytest.mark.root
@pytest.mark.parametrize("name", ["setup", "demo", "test"])
def test_without_root_each_says_how_to_call_it(short_root: Path, name: str) -> None:
    short_root.chmod(0o755)
    shutil.copytree(PACKAGING, short_root / "packaging")  # where others can read it
    done = run(short_root / "packaging" / name, user=NOBODY)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"sudo packaging/{name}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("argument", ["--tests", "again"])
def test_an_unknown_argument_is_refused_in_one_line(argument: str) -> None:
    done = run(PACKAGING / "setup", argument)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"setup: error: unknown argument {argument}; usage: packaging/setup [--test]\n"
    )


@pytest.mark.parametrize("file", SCRIPTS + REQUIREMENTS, ids=lambda path: path.name)
def test_no_registry_is_named(file: Path) -> None:
    """Where packages come from is the machine's business: pip's and apt's own configuration."""
    text = file.read_text()
    assert "://" not in text
    assert not re.search(r"--(extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_by_hash(file: Path) -> None:
    logical = file.read_text().replace("\\\n", " ").splitlines()
    wanted = [line for line in logical if line.strip() and not line.lstrip().startswith("#")]
    assert wanted
    for line in wanted:
        assert re.match(r"[a-z0-9-]+==\S+ ", line), line
        assert "--hash=sha256:" in line, line


def pins(name: str) -> dict[str, str]:
    text = (PACKAGING / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))


def test_the_pins_cover_what_the_distribution_needs_and_agree() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=~!]", item)[0].replace("_", "-") for item in project["dependencies"]}
    run_pins, test_pins = pins("run.txt"), pins("test.txt")
    assert needed <= run_pins.keys()
    assert run_pins.items() <= test_pins.items()
