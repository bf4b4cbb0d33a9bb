from tests.fuzz.processors import run


def test_any_processors_are_used_or_refused_with_an_error_of_ours():
    report = run(30)
    assert not report.faults, str(report)
    assert report.passed > report.checked / 2
    assert report.used > report.inputs / 20
