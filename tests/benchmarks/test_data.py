import json

import numpy as np
import pytest
import soundfile

from benchmarks.data import read_utterances
from speechtok.errors import InputError


def test_a_manifest_and_a_folder_with_a_test_manifest_are_read(tmp_path):
    row = {"audio": "a.wav", "id": "one", "lang": "en", "phones": [["AA", 0, 1]]}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    (utterance,) = read_utterances(tmp_path)
    assert (utterance.id, utterance.audio, utterance.lang) == ("one", tmp_path / "a.wav", "en")
    assert read_utterances(tmp_path / "test.jsonl") == read_utterances(str(tmp_path)) == [utterance]


@pytest.mark.parametrize("count", [1, 3, 120])
def test_any_folder_of_audio_is_read_whole(tmp_path, count):
    (tmp_path / "sub").mkdir()
    names = [f"{'sub/' * (i % 2)}{i:03}.wav" for i in range(count)]
    for name in names:
        soundfile.write(tmp_path / name, np.zeros(100), 16_000)
    assert [utterance.id for utterance in read_utterances(tmp_path)] == sorted(names)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "line 1 is '{}'; expected a JSON object with an 'audio' path"),
        ("no json", "line 1 is 'no json'"),
        ('{"audio": "a"}\n{"audio": "a"}', "lists the id 'a' more than once"),
        ("\n", "lists no utterances"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_reported(tmp_path, text, says):
    path = tmp_path / "m.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_utterances(path)


def test_missing_data_are_named(tmp_path):
    with pytest.raises(InputError, match="none does not exist"):
        read_utterances(tmp_path / "none")
    with pytest.raises(InputError, match="lists no audio"):
        read_utterances(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"audio": "a.wav"}')
    with pytest.raises(InputError, match=r"has train\.jsonl but no test\.jsonl"):
        read_utterances(tmp_path)
