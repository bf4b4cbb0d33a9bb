import json
from pathlib import Path

import numpy as np
import pytest

from speechtok.errors import AudioError, MissingFileError, quoted
from training.manifest import Phone, Utterance, find_utterances, phones_at, read_manifest


def write(path: Path, *rows: dict) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return path


def test_a_line_becomes_an_utterance(tmp_path):
    row = {"audio": "a.flac", "id": "one", "seconds": 2, "text": "good morning", "speaker": "s", "lang": "en"}
    phones = [["SIL", 0, 0.1], ["AH", 0.1, 0.3], ["+NOISE+", 0.3, 0.5]]
    manifest = write(tmp_path / "m.jsonl", row | {"phones": phones, "gender": "f", "other": [1, 2]})
    aligned = (Phone("SIL", 0, 0.1), Phone("AH", 0.1, 0.3), Phone("SIL", 0.3, 0.5))
    expected = Utterance(tmp_path / "a.flac", "one", 2.0, "good morning", aligned, "s", "en", "f")
    assert read_manifest(manifest) == [expected]


def test_only_the_audio_is_required_and_null_means_absent(tmp_path):
    fields = ("id", "seconds", "text", "phones", "speaker", "lang", "gender")
    manifest = write(
        tmp_path / "m.jsonl",
        {"audio": "b/a.flac"},
        {"audio": "b/a.flac", **dict.fromkeys(fields)},
        {"audio": "b/a.flac", "phones": []},
    )
    assert read_manifest(manifest) == [Utterance(tmp_path / "b" / "a.flac", "b/a.flac")] * 3


def test_numbered_ids_and_speakers_are_read_as_strings(tmp_path):
    (utterance,) = read_manifest(write(tmp_path / "m.jsonl", {"audio": "a.flac", "id": 7, "speaker": 237}))
    assert (utterance.id, utterance.speaker) == ("7", "237")


def test_audio_may_be_outside_the_folder_of_the_manifest(tmp_path):
    elsewhere = tmp_path / "elsewhere" / "a.flac"
    assert read_manifest(write(tmp_path / "m.jsonl", {"audio": str(elsewhere)}))[0].audio == elsewhere


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_and_windows_line_endings_are_accepted(tmp_path, ending, mark):
    lines = ['{"audio": "übung.wav"}', "", '{"audio": "b.wav"}', ""]
    (tmp_path / "m.jsonl").write_bytes((mark + ending.join(lines)).encode())
    assert [u.id for u in read_manifest(tmp_path / "m.jsonl")] == ["übung.wav", "b.wav"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0c", "\x1c"])
def test_line_separators_inside_a_text_are_kept(tmp_path, separator):
    text = f"one{separator}two"
    # JSON allows these characters unescaped, except for control characters below U+0020
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"audio": "a.wav", "text": text}, ensure_ascii=separator < " "), encoding="utf-8"
    )
    assert read_manifest(tmp_path / "m.jsonl")[0].text == text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("no json", "expected a JSON object with an 'audio' path"),
        ("3", "expected a JSON object with an 'audio' path"),
        ('{"text": "no path"}', "expected a JSON object with an 'audio' path"),
        ("[" * 100_000, "expected a JSON object with an 'audio' path"),
        ('{"audio": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "expected a JSON object with an 'audio' path"),
        ('{"audio": ""}', "expected 'audio' to be the path of a file"),
        ('{"audio": ["a"]}', "expected 'audio' to be the path of a file"),
        ('{"audio": "a\\u0000b"}', "expected 'audio' to be the path of a file"),
        ('{"audio": "a\\ud800"}', "half a surrogate pair"),
        ('{"audio": "a", "id": {}}', "expected 'id' to be a string"),
        ('{"audio": "a", "text": 3}', "expected 'text' to be a string"),
        ('{"audio": "a", "seconds": "3"}', "expected 'seconds' to be the duration in seconds"),
        ('{"audio": "a", "seconds": -1}', "expected 'seconds' to be the duration in seconds"),
        ('{"audio": "a", "seconds": 1e400}', "expected 'seconds' to be the duration in seconds"),
        (f'{{"audio": "a", "seconds": 1{"0" * 400}}}', "expected 'seconds' to be the duration in seconds"),
        (f'{{"audio": "a", "phones": [["AH", 0, 1{"0" * 400}]]}}', "expected phone times in seconds"),
        (f'{{"audio": "a", "seconds": {"9" * 5_000}}}', "too many digits"),
        ('{"audio": "a", "text": "\\ud800"}', "half a surrogate pair"),
        ('{"audio": "a", "x": ' + "[" * 70 + "]" * 70 + "}", "levels deep"),
        ('{"audio": "a", "seconds": NaN}', "NaN is not JSON"),
        ('{"audio": "a", "phones": "AH"}', "expected 'phones' to be rows"),
        ('{"audio": "a", "phones": {"AH": 1}}', "expected 'phones' to be rows"),
        ('{"audio": "a", "phones": [["AH", 0]]}', "is not a row"),
        ('{"audio": "a", "phones": [[1, 2, 3]]}', "is not a row"),
        ('{"audio": "a", "phones": ["AAA"]}', "is not a row"),
        ('{"audio": "a", "phones": [["AH", 0, 1e400]]}', "expected phone times in seconds"),
        ('{"audio": "a", "phones": [["AH", 0, Infinity]]}', "Infinity is not JSON"),
        ('{"audio": "a", "phones": [["AH", -1, 0]]}', "expected phone times in seconds"),
        ('{"audio": "a", "phones": [["AH", true, 2]]}', "expected phone times in seconds"),
        ('{"audio": "a", "phones": [["AH", 0.3, 0.2]]}', "ends before it starts"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, expected):
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav"}\n' + line + "\n")
    with pytest.raises(AudioError) as raised:
        read_manifest(tmp_path / "m.jsonl")
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / 'm.jsonl'}, line 2 is {quoted(line)}; ")
    assert expected in message
    assert len(message) < len(str(tmp_path)) + 400


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "x/" * 3_000])
def test_a_name_that_no_file_can_have_is_a_missing_file(name):
    with pytest.raises(MissingFileError, match="does not exist"):
        find_utterances(name)


def test_a_file_that_is_not_a_manifest_is_named(tmp_path):
    (tmp_path / "a.flac").write_bytes(b"fLaC\xff\xfe")
    for read in (read_manifest, find_utterances):
        with pytest.raises(AudioError, match=r"a\.flac' cannot be read as UTF-8 text .* expected a manifest"):
            read(tmp_path / "a.flac")
    with pytest.raises(AudioError, match="expected a manifest of JSON lines"):
        read_manifest(tmp_path)
    with pytest.raises(AudioError, match="expected a manifest of JSON lines"):
        read_manifest("a\0b")
    with pytest.raises(MissingFileError, match=r"none\.jsonl does not exist"):
        read_manifest(tmp_path / "none.jsonl")


def test_a_folder_with_manifests_trains_on_one_and_validates_on_the_other(tmp_path):
    write(tmp_path / "train.jsonl", *({"audio": f"{i}.flac"} for i in range(11)))
    write(tmp_path / "dev.jsonl", {"audio": "11.flac"}, {"audio": "12.flac"})
    train, dev = find_utterances(str(tmp_path))
    assert [u.id for u in train] == [f"{i}.flac" for i in range(11)]
    assert [u.audio for u in dev] == [tmp_path / "11.flac", tmp_path / "12.flac"]


def test_a_folder_of_audio_is_searched_and_a_part_is_held_out(tmp_path):
    (tmp_path / "deep").mkdir()
    for index in range(120):
        (tmp_path / "deep" / f"{index:03d}.wav").touch()
    (tmp_path / "notes.txt").touch()
    train, dev = find_utterances(tmp_path)
    assert [u.id for u in dev] == ["deep/000.wav", "deep/050.wav", "deep/100.wav"]
    assert len(train) == 117
    assert not {u.audio for u in train} & {u.audio for u in dev}


def test_hidden_files_are_left_out(tmp_path):
    (tmp_path / ".trash").mkdir()
    for name in ("a.wav", "b.wav", "._a.wav", ".trash/c.wav"):
        (tmp_path / name).touch()
    train, dev = find_utterances(tmp_path)
    assert [u.id for u in (*dev, *train)] == ["a.wav", "b.wav"]


def test_a_folder_with_one_file_trains_and_validates_on_it(tmp_path):
    (tmp_path / "one.wav").touch()
    only = [Utterance(tmp_path / "one.wav", "one.wav")]
    assert find_utterances(tmp_path) == (only, only)


def test_data_without_audio_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        find_utterances(tmp_path / "nowhere")
    with pytest.raises(MissingFileError, match="does not exist"):
        find_utterances("a\0b")
    with pytest.raises(AudioError, match="lists no audio"):
        find_utterances(tmp_path)
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(AudioError, match="lists no audio"):
        find_utterances(tmp_path)


def test_each_time_has_the_phone_spoken_then():
    rows = (Phone("T", 0.5, 0.6), Phone("AH", 0.1, 0.3), Phone("??", 0.7, 0.8))
    times = np.array([0.0, 0.1, 0.29, 0.3, 0.55, 0.6, 0.75, 2.0])
    assert phones_at(rows, times, ["SIL", "AH", "T"]).tolist() == [-1, 1, 1, -1, 2, -1, -1, -1]


@pytest.mark.parametrize("phones", [(), None])
def test_no_phone_is_spoken_without_an_alignment(phones):
    assert phones_at(phones, np.arange(8), ["SIL"]).tolist() == [-1] * 8
