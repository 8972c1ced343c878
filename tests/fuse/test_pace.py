"""When writes are made at once and when threads wait for them."""

import pytest

from fuse import pace
from fuse.pace import Pace


def test_a_slow_call_makes_cautious_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    subject = Pace(slow=0.02, caution=1.0)

    def call(seconds: float) -> bool:
        with subject.call() as brisk:
            clock[0] += seconds
        return brisk

    assert [call(0.01), call(0.01)] == [True, True]
    assert [call(0.05), call(0.01), call(0.05)] == [True, False, False]
    clock[0] += 0.9
    assert not call(0.0)
    clock[0] += 0.2
    assert call(0.0)


def test_a_call_that_fails_is_timed_too() -> None:
    subject = Pace(slow=-1.0, caution=60.0)
    with pytest.raises(OSError, match="full"), subject.call():
        raise OSError("full")
    with subject.call() as brisk:
        assert not brisk
