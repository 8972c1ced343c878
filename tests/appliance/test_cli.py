"""The command line: every verb, both forms of output, exit codes, errors in one line."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import pytest

from appliance.cli import watching
from appliance.cli.main import app, hoist, run
from appliance.sizes import parse_size
from tests.appliance.serving import COMMAND, ONE_LINE, Filer

ROOT = Path(__file__).parents[2]


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def verbs() -> list[tuple[str, ...]]:
    """Every noun and verb there is."""
    found = [(str(verb.name),) for verb in app.registered_commands]
    for group in app.registered_groups:
        nested = group.typer_instance
        assert nested is not None
        for verb in nested.registered_commands:
            name = verb.name or verb.callback.__name__
            found.append((str(nested.info.name), str(name)))
    return found


# Without a control process


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_every_verb_has_help(verb):
    done = command(*verb, "--help")
    assert done.returncode == 0
    assert f"Usage: snapreel {' '.join(verb)}" in done.stdout
    assert done.stderr == ""


def test_help_is_quick_and_imports_little():
    began = time.process_time(), os.times().children_user
    assert command("--help").returncode == 0
    assert os.times().children_user - began[1] < 0.5
    code = "import sys, appliance.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"trio", "apsw", "rich", "pyfuse3", "crc32c", "asyncio"}
    assert not heavy & set(done.stdout.split())


def test_no_noun_shows_help_and_is_no_success():
    done = command()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: snapreel" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["burn"], "No such command 'burn'; see: snapreel --help [usage]"),
        (["volume"], "Missing command; see: snapreel volume --help [usage]"),
        (["volume", "burn"], "No such command 'burn'; see: snapreel volume --help"),
        (["volume", "show"], "Missing argument"),
        (["volume", "show", "a", "b"], "unexpected extra argument"),
        (["volume", "list", "--colour"], "No such option"),
        (
            ["volume", "create", "a", "--files", "many"],
            "Input should be a valid integer",
        ),
        (["session", "show", "x"], "'session': Input should be a valid integer"),
        (["dump", "/vol/vol1"], "Missing option '--to'"),
        (["--output", "xml", "volume", "list"], "'xml' is neither table nor json"),
        (["volume", "list", "--output"], "requires an argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_errors_are_one_line(arguments, words):
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("snapreel: ")
    assert words in done.stderr


def test_usage_errors_as_documents():
    for arguments in (["--output", "json", "burn"], ["volume", "burn", "--output=json"]):
        done = command(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        error = json.loads(done.stderr)["error"]
        assert (error["code"], error["exit_code"]) == ("usage", 2)
        assert error["message"] == "No such command 'burn'"


def test_hoist():
    assert hoist(["volume", "list", "--root", "/x"]) == ["--root", "/x", "volume", "list"]
    assert hoist(["volume", "list", "--output=json"]) == ["--output=json", "volume", "list"]
    assert hoist(["restore", "--", "--root", "x"]) == ["restore", "--", "--root", "x"]
    assert hoist(["volume", "list", "--root"]) == ["--root"]


def test_the_root_comes_from_the_environment_too(tmp_path):
    done = command("volume", "list", SNAPREEL_ROOT=str(tmp_path))
    assert str(tmp_path) in done.stderr
    done = command("--root", "/elsewhere", "volume", "list", SNAPREEL_ROOT=str(tmp_path))
    assert "/elsewhere" in done.stderr


def test_a_root_that_is_none(tmp_path):
    for arguments in (["volume", "list"], ["serve"], ["status"], ["dump", "/vol/v", "--to", "x"]):
        done = command("--root", str(tmp_path / "none"), *arguments)
        assert done.returncode == 1
        assert done.stderr.endswith("[server.not_initialised]\n")
    assert not (tmp_path / "none").exists()


def test_init_where_nothing_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("--root", str(tmp_path / "file" / "root"), "init")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Not a directory" in done.stderr
    for size in ("x", "-1", "1Z", ""):
        done = command("--root", str(tmp_path / "r"), "init", f"--size={size}")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    with subprocess.Popen(
        [*COMMAND, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as p:
        assert p.stdout is not None
        assert p.stderr is not None
        p.stdout.close()
        assert b"Traceback" not in p.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "closed"),
    [
        ("dump /vol/v --to -", "output"),
        ("dump /vol/v --to file:/x", "output"),
        ("restore --from - /vol/v", "input"),
        ("restore --from file:/x /vol/v", "output"),
        ("restore --from file:/x --list", "output"),
        ("session watch 1", "output"),
    ],
)
def test_a_closed_standard_stream(tmp_path, arguments, closed):
    redirection = {"output": ">&-", "input": "<&-"}[closed]
    line = shlex.join([*COMMAND, "--root", str(tmp_path)])
    done = subprocess.run(
        f"{line} {arguments} {redirection}", shell=True, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"snapreel: standard {closed}: it is closed")
    assert ONE_LINE.fullmatch(done.stderr)


def test_errors_without_a_standard_error(tmp_path):
    line = shlex.join([*COMMAND, "--root", str(tmp_path), "volume", "list"])
    done = subprocess.run(f"{line} 2>&-", shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize("verb", ["init", "serve"])
def test_only_root_makes_and_serves_a_root(tmp_path, verb, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(["--root", str(tmp_path / "r"), verb]) == 3
    assert "this needs root; try it with sudo" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


class Starting:
    """A connection whose `dump.start` is met by Ctrl-C, `times` times, before it answers."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.called: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def call(self, method: str, params: Any, **_: Any) -> Any:
        self.called.append(method)
        if method.endswith(".start"):
            for _number in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return {"id": 7}


@pytest.mark.parametrize(
    ("times", "called"), [(1, ["dump.start", "session.abort"]), (2, ["dump.start"])]
)
def test_ctrl_c_while_a_session_starts(monkeypatch, times, called):
    starting = Starting(times)
    monkeypatch.setattr(watching, "connect", lambda: starting)
    with pytest.raises(KeyboardInterrupt):
        watching.begin("dump.start", {}, [])
    assert starting.called == called
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# With one


@pytest.fixture(scope="module")
def stocked(filer: Filer) -> Filer:
    """Give a root with one of everything."""
    filer.ok("qtree", "create", "vol1/q1")
    filer.ok("lun", "create", "/vol/vol1/q1/lun0", "--size", "4M")
    filer.ok("snapshot", "create", "vol1", "monday")
    filer.ok("library", "load", "SR0002L8", "rst1")
    filer.ok("dump", "/vol/vol1", "--to", f"file:{filer.path}/out", "--level", "0")
    return filer


SHOWING = [
    ("status",),
    ("sysconfig",),
    ("aggregate", "list"),
    ("aggregate", "show", "aggr0"),
    ("volume", "list"),
    ("volume", "show", "vol1"),
    ("qtree", "list"),
    ("qtree", "list", "vol1"),
    ("lun", "list"),
    ("lun", "show", "/vol/vol1/q1/lun0"),
    ("snapshot", "list", "vol1"),
    ("snapshot", "locks", "vol1"),
    ("snapshot", "locks", "vol1", "monday"),
    ("session", "list"),
    ("session", "show", "1"),
    ("session", "show", "1", "--log"),
    ("session", "watch", "1"),
    ("dumpdates", "list"),
    ("dumpdates", "list", "/vol/vol1"),
    ("tape", "show"),
    ("tape", "show", "urst0m"),
    ("tape", "status", "rst0"),
    ("tape", "status", "nrst1a"),
    ("library", "list"),
    ("library", "show"),
    ("library", "show", "mc0"),
    ("library", "inventory", "lib0"),
    ("media", "list"),
    ("media", "show", "SR0002L8"),
]


@pytest.mark.root
@pytest.mark.parametrize("verb", SHOWING, ids=" ".join)
def test_what_shows_is_a_table_and_a_document(stocked, verb):
    table = stocked.ok(*verb)
    assert table.err == ""
    assert table.out.strip()
    assert not re.search(r"\bNone\b|\bTrue\b|\bFalse\b|[{}]", table.out), table.out
    assert isinstance(stocked.ok(*verb, "--output", "json").json, dict | list)


CHANGING = [
    ("volume", "create", "v", "--size", "100M", "--files", "1000", "--comment", "c",
     "--aggregate", "aggr0", "--security-style", "mixed"),
    ("volume", "modify", "v", "--size", "200M", "--no-snapdir", "--vm-align-sector", "63"),
    ("volume", "unmount", "v"),
    ("volume", "mount", "v"),
    ("volume", "offline", "v"),
    ("volume", "online", "v"),
    ("qtree", "create", "v/q", "--security-style", "ntfs", "--no-oplocks"),
    ("lun", "create", "/vol/v/l", "--size", "1M", "--ostype", "windows", "--comment", "c"),
    ("lun", "clone", "/vol/v/l", "/vol/v/q/copy"),
    ("lun", "resize", "/vol/v/l", "--size", "2M"),
    ("lun", "resize", "/vol/v/l", "--size", "1M", "--shrink"),
    ("lun", "delete", "/vol/v/l"),
    ("snapshot", "create", "v", "one"),
    ("lun", "clone", "/vol/v/q/copy", "/vol/v/second", "--snapshot", "one"),
    ("snapshot", "rename", "v", "one", "two"),
    ("snapshot", "delete", "v", "two"),
    ("qtree", "delete", "v/q"),
    ("volume", "delete", "v", "--force"),
    ("library", "load", "slot3", "rst0"),
    ("tape", "position", "nrst0a", "offline"),
    ("tape", "position", "nrst0a", "load"),
    ("tape", "position", "nrst0a", "eod"),
    ("tape", "position", "nrst0a", "rewind"),
    ("library", "unload", "rst0"),
    ("library", "transfer", "SR0003L8", "slot10"),
    ("library", "transfer", "slot10", "slot3"),
    ("library", "export", "SR0004L8"),
    ("library", "import"),
    ("library", "export", "SR0004L8", "--remove"),
    ("library", "import", "--insert", "SR0004L8"),
    ("dump", "/vol/vol1/q1", "--to", "file:/dev/null"),
    ("dumpdates", "forget", "/vol/vol1/q1"),
]  # fmt: skip


@pytest.mark.root
def test_what_changes_says_what_it_did(stocked):
    """Run every changing verb, in both forms by turns."""
    for number, verb in enumerate(CHANGING):
        if number % 2:
            assert stocked.ok(*verb).out.strip()
        else:
            assert isinstance(stocked.json(*verb), dict | list)
    for number, verb in enumerate(CHANGING):
        if number % 2:
            assert isinstance(stocked.json(*verb), dict | list)
        else:
            assert stocked.ok(*verb).out.strip()


@pytest.mark.root
@pytest.mark.parametrize(
    ("verb", "code", "words"),
    [
        (("aggregate", "create", "aggr0", "--size", "1G"), 3, "aggregate aggr0 exists already"),
        (("aggregate", "create", "b"), 2, "one of size, device and directory"),
        (("aggregate", "create", "b", "--device", "/dev/none"), 1, "/dev/none"),
        (("aggregate", "show", "b"), 1, "aggregate b does not exist"),
        (("volume", "create", "vol1"), 3, "volume vol1 exists already"),
        (("volume", "create", "a/b"), 2, "a/b"),
        (("volume", "create", ".."), 2, "cannot be used"),
        (("volume", "create", "v", "--size", "12Q"), 2, "size 12Q"),
        (("volume", "create", "v", "--aggregate", "b"), 1, "aggregate b"),
        (("volume", "create", "v", "--security-style", "dos"), 2, "unix, ntfs, mixed"),
        (("volume", "show", "v"), 1, "volume v does not exist"),
        (("volume", "modify", "vol1"), 2, "say what to change"),
        (("volume", "modify", "vol1", "--size", "1K"), 2, "size"),
        (("volume", "delete", "vol1"), 3, "it is online"),
        (("volume", "delete", "v"), 1, "volume v does not exist"),
        (("qtree", "create", "vol1"), 2, "VOLUME/QTREE"),
        (("qtree", "create", "vol1/a/b"), 2, "VOLUME/QTREE"),
        (("qtree", "create", "vol1/q1"), 3, "exists already"),
        (("qtree", "delete", "vol1/none"), 1, "does not exist"),
        (("lun", "create", "/vol/vol1", "--size", "1M"), 2, "it is a volume, not a LUN"),
        (("lun", "create", "/vol/vol1/x", "--size", "100"), 2, "512"),
        (("lun", "show", "/vol/vol1/none"), 1, "does not exist"),
        (("lun", "clone", "/vol/vol1/q1/lun0", "/vol/v/x"), 2, "same volume"),
        (("lun", "resize", "/vol/vol1/q1/lun0", "--size", "1M"), 3, "say --shrink"),
        (("lun", "unrestrict", "/vol/vol1/q1/lun0", "--yes"), 3, "not restricted"),
        (("snapshot", "create", "vol1", "monday"), 3, "exists already"),
        (("snapshot", "create", "vol1", "a/b"), 2, "cannot be used"),
        (("snapshot", "rename", "vol1", "none", "x"), 1, "does not exist"),
        (("snapshot", "delete", "vol1", "none"), 1, "does not exist"),
        (("tape", "status", "rst9"), 1, "rst9"),
        (("tape", "status", "st0"), 1, "st0"),
        (("tape", "position", "rst1", "fly"), 2, "rewind"),
        (("tape", "position", "rst1", "fsf", "0"), 2, "count 0"),
        (("tape", "position", "rst1", "fsf"), 1, "end of data"),
        (("tape", "position", "rst1", "bsf"), 1, "beginning of tape"),
        (("tape", "position", "rst0", "rewind"), 4, "no cartridge"),
        (("library", "load", "SR9999L8", "rst0"), 1, "SR9999L8"),
        (("library", "load", "slot10", "rst0"), 3, "holds no cartridge"),
        (("library", "load", "SR0003L8", "rst1"), 3, "it holds SR0002L8"),
        (("library", "load", "SR0003L8", "rst7"), 1, "rst7"),
        (("library", "unload", "rst0"), 3, "holds no cartridge"),
        (("library", "unload", "rst1", "slot3"), 3, "it holds SR0003L8"),
        (("library", "transfer", "slot3", "slot5"), 3, "it holds SR0005L8"),
        (("library", "show", "lib9"), 1, "library lib9"),
        (("library", "import"), 3, "no cartridge in its mail slots"),
        (("library", "import", "--insert", "SR0003L8"), 3, "in the library already"),
        (("media", "show", "SR9999L8"), 1, "cartridge SR9999L8"),
        (("dumpdates", "forget", "/vol/v"), 1, "volume v"),
        (("dumpdates", "forget", "/vol/vol1", "--level", "32"), 2, "0 to 31"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be(stocked, verb, code, words):
    stocked.run(*verb).refused(code, words)


@pytest.mark.root
def test_a_move_that_cannot_be_leaves_a_record(stocked):
    error = stocked.run("--output", "json", "library", "load", "SR9999L8", "rst0").error
    (session,) = stocked.json("session", "list", "--limit", "1")
    assert session["id"] == error["session"]
    kept = [session[name] for name in ("kind", "path", "target", "state", "reason")]
    assert kept == ["load", "SR9999L8", "rst0", "failed", error["message"]]


@pytest.mark.root
def test_errors_as_documents(stocked):
    error = stocked.run("--output", "json", "volume", "show", "v").error
    assert error == {
        "code": "storage.not_found",
        "message": "volume v does not exist",
        "advice": "list what is there with: snapreel volume list",
        "exit_code": 1,
        "data": {"kind": "volume", "name": "v"},
    }


@pytest.mark.root
def test_aggregates(fresh):
    fresh.start()
    made = fresh.json("aggregate", "create", "aggr1", "--size", "256M")
    assert (made["name"], made["state"]) == ("aggr1", "online")
    fresh.run("volume", "create", "v").refused(3, "--aggregate", "aggr0, aggr1")
    fresh.ok("volume", "create", "v", "--aggregate", "aggr1")
    # Clients see all volumes side by side, so a name is taken in every aggregate.
    fresh.run("volume", "create", "v", "--aggregate", "aggr0").refused(3, "volume v exists")
    assert fresh.json("aggregate", "show", "aggr1")["volumes"] == ["v"]
    assert fresh.json("aggregate", "show", "aggr0")["volumes"] == []
    assert fresh.json("volume", "show", "v")["aggregate"] == "aggr1"


@pytest.mark.root
def test_clients_see_at_once_what_the_engine_changed(stocked):
    top = stocked.mount("vol1")
    assert "new" not in os.listdir(top)
    assert not (top / "new").exists()
    stocked.ok("qtree", "create", "vol1/new")
    assert (top / "new").is_dir()
    assert not (top / "new" / "lun").exists()
    stocked.ok("lun", "create", "/vol/vol1/new/lun", "--size", "1M")
    assert (top / "new" / "lun").stat().st_size == 1 << 20
    stocked.ok("lun", "resize", "/vol/vol1/new/lun", "--size", "2M")
    assert (top / "new" / "lun").stat().st_size == 2 << 20
    stocked.ok("lun", "delete", "/vol/vol1/new/lun")
    assert not (top / "new" / "lun").exists()
    stocked.ok("snapshot", "create", "vol1", "now")
    assert (top / ".snapshot" / "now" / "new").is_dir()
    stocked.ok("snapshot", "delete", "vol1", "now")
    assert "now" not in os.listdir(top / ".snapshot")
    stocked.ok("qtree", "delete", "vol1/new")
    assert not (top / "new").exists()


@pytest.mark.root
def test_names_that_are_not_utf8(stocked):
    stocked.mount("vol1").joinpath("caf\udce9").mkdir()
    stocked.mount("vol1").joinpath("caf\udce9", "file").write_text("x")
    stocked.ok("dump", "/vol/vol1/caf\udce9", "--to", f"file:{stocked.path}/bytes")
    assert stocked.json("session", "list", "--limit", "1")[0]["files"] == 1
    stocked.run("dump", "/vol/vol1/nothing\udce9", "--to", "file:/dev/null").refused(2)


@pytest.mark.root
def test_the_table_of_methods_is_in_the_documentation(stocked):
    text = (ROOT / "docs" / "control.md").read_text()
    for method in stocked.call("api.methods"):
        assert f"`{method['name']}`" in text, method["name"]
        for parameter in method["parameters"]:
            assert f"`{parameter['name']}`" in text, (method["name"], parameter["name"])


def test_sizes():
    assert [parse_size(t) for t in ("0", "512", "1K", "1.5k", "2M", "8G", "1TB", "1GiB")] == [
        0, 512, 1024, 1536, 2 << 20, 8 << 30, 1 << 40, 1 << 30,
    ]  # fmt: skip
