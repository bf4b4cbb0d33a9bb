import signal

import pytest

from tests.fuzz.interrupts import run


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
def test_a_stream_whose_call_was_interrupted_is_closed_or_exactly_right():
    report = run(100)
    assert not report.faults, str(report)
    assert report.passed > report.inputs / 3
    assert report.used > report.inputs / 3
