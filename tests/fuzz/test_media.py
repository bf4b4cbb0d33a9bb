import pytest

from tests.fuzz.media import run


@pytest.mark.slow
def test_any_audio_file_is_read_or_refused_with_an_error_of_ours():
    report = run(300)
    assert not report.faults, str(report)
    assert report.passed > report.checked / 2
    assert report.used > report.inputs / 20
