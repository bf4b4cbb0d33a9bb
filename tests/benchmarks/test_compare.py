import json

import pytest

from benchmarks.compare import find_changes, main, read_report, table
from speechtok.errors import InputError


def test_significant_and_insignificant_differences_are_told_apart(new_report, tmp_path, capsys):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, gain in zip(paths, (0.0, -0.3), strict=True):
        path.write_text(json.dumps(new_report(gain)))
    assert main([str(path) for path in paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| identity | PESQ-WB | 2.17")
    assert "-0.300 (-0.300 to -0.300)" in lines[2]
    assert "worse *" in lines[2]
    assert lines[2].endswith("| 12 |")
    assert "not significant" in lines[3]
    a = read_report(paths[0])
    rows = find_changes(a, a, [("identity", "lowpass")])
    assert [row.codec for row in rows] == ["identity → lowpass"] * 2
    assert all(row.difference.difference == 0 and row.difference.count < 12 for row in rows)
    assert table(rows).count("\n") == 3


def test_reports_that_cannot_be_compared_are_refused(report, tmp_path, capsys):
    with pytest.raises(InputError, match="'opus' is not in the report; expected one of identity, lowpass"):
        find_changes(report, report, [("identity", "opus")])
    with pytest.raises(InputError, match="share 0 codecs, 2 metrics and 12 utterances"):
        find_changes(report, report | {"codecs": {}})
    other = tmp_path / "x.json"
    other.write_text("[]")
    assert main([str(other), str(tmp_path / "none.json")]) == 1
    assert "is not a report of format 2" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json"), str(other)]) == 1
    assert "none.json cannot be read" in capsys.readouterr().err
