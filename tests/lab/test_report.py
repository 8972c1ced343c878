"""The demo's report counts every check, and one that fails is never lost."""

import pytest

from tests.lab.demo.report import Report, Row


def test_all_is_well_when_every_check_holds(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    with report.timed("dump") as row:
        row.files, row.bytes = 1234, 5_000_000
    report.compare(row, [])
    report.check(True, "the snapshot is gone")
    assert report.summary()
    output = capsys.readouterr().out
    assert "2 checks, 0 failed, differences: 0" in output
    assert "1,234  5,000,000" in output


@pytest.mark.parametrize("spoil", ["check", "compare"])
def test_one_failure_decides(capsys: pytest.CaptureFixture[str], spoil: str) -> None:
    report = Report()
    row = Row("compare the volume")
    report.rows.append(row)
    report.check(True, "fine")
    if spoil == "check":
        report.check(False, "the volume is gone")
    else:
        report.compare(row, [f"'file{number}': missing" for number in range(50)])
    report.check(True, "fine again")
    assert not report.summary()
    output = capsys.readouterr().out
    assert "1 failed" in output
    if spoil == "compare":
        assert "differences: 50" in output
        assert "'file19': missing" in output
        assert "... and 30 more" in output


def test_a_step_that_fails_gets_no_row() -> None:
    report = Report()
    with pytest.raises(OSError, match="broken"), report.timed("step"):
        raise OSError("broken")
    assert report.rows == []


def test_the_rate_is_in_millions_of_bytes_a_second() -> None:
    assert Row("x", files=1, bytes=30_000_000, seconds=2.0).cells()[4] == "15"
    assert Row("x").cells() == ("x", "", "", "", "", "")
