import json
from pathlib import Path

import numpy as np
import pytest

from speechtok.errors import AudioError, MissingFileError
from training.phones import Phone, phones_at, read_alignments


def test_fillers_are_silence_and_utterances_without_phones_are_left_out(tmp_path: Path):
    rows = [
        {"audio": "a.flac", "phones": [["SIL", 0, 0.1], ["AH", 0.1, 0.3], ["+NOISE+", 0.3, 0.5]]},
        {"audio": "b.flac"},
        {"audio": "c.flac", "phones": None},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = read_alignments(tmp_path / "m.jsonl")
    assert list(found) == [tmp_path / "a.flac"]
    assert [phone.name for phone in found[tmp_path / "a.flac"]] == ["SIL", "AH", "SIL"]


def test_a_time_has_the_phone_that_is_spoken_then_and_none_in_gaps():
    rows = (Phone("T", 0.5, 0.6), Phone("AH", 0.1, 0.3), Phone("??", 0.7, 0.8))
    times = np.array([0.0, 0.1, 0.29, 0.3, 0.55, 0.6, 0.75, 2.0])
    assert phones_at(rows, times, ["SIL", "AH", "T"]).tolist() == [-1, 1, 1, -1, 2, -1, -1, -1]
    assert phones_at((), times, ["SIL"]).tolist() == [-1] * 8


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        '{"phones": []}',
        '{"audio": "a", "phones": [["AH", 0]]}',
        '{"audio": "a", "phones": [[1, 2, 3]]}',
        "3",
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str):
    (tmp_path / "m.jsonl").write_text(line)
    with pytest.raises(AudioError, match="line 1"):
        read_alignments(tmp_path / "m.jsonl")


def test_a_missing_manifest_is_named(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"none\.jsonl"):
        read_alignments(tmp_path / "none.jsonl")
