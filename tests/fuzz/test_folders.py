from tests.fuzz.folders import run


def test_any_folders_are_used_or_refused_with_an_error_of_ours():
    report = run(100)
    assert not report.faults, str(report)
    assert report.passed > report.checked / 2
    assert report.used > report.inputs / 20
