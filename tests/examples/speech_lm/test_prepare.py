import json
import math
import re
import shutil
import sys

import pytest
import torch
import yaml

import speechtok
from examples.speech_lm import prepare
from speechtok.errors import AudioError, InputError
from tests.examples.speech_lm.conftest import config_of


def test_codes_equal_those_of_each_utterance_alone_and_unreadable_audio_is_skipped(values, tiny, data, capsys):
    utterances = prepare.prepare(config_of(values, num_codebooks=4), tiny, "train")
    assert [(u.id, u.text) for u in utterances] == [
        ("train/0", "good morning"), ("train/1", "über 12 boote"), ("train/2", "yes"), ("train/3", "")
    ]  # fmt: skip
    assert "skipped 1 of 5" in capsys.readouterr().out
    for index, utterance in enumerate(utterances):
        codes = tiny.encode(*speechtok.read_audio(data / f"train{index}.flac")).codes
        assert torch.equal(utterance.tokens.codes, codes)


def test_an_interrupted_preparation_continues_and_encodes_nothing_twice(values, new_tokenizer, monkeypatch):
    monkeypatch.setattr(prepare, "SHARD", 2)
    config, tokenizer, calls = config_of(values, num_codebooks=4), new_tokenizer(), []
    encode = tokenizer.encode

    def interrupted(*arguments, **named):
        calls.append(len(arguments[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(*arguments, **named)

    monkeypatch.setattr(tokenizer, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(config, tokenizer, "train")
    first = prepare.prepare(config, tokenizer, "train")
    assert calls == [2, 2, 2]  # the third shard has no readable audio
    second = prepare.prepare(config, tokenizer, "train")
    assert calls == [2, 2, 2]
    assert all(torch.equal(a.tokens.codes, b.tokens.codes) for a, b in zip(first, second, strict=True))


def test_phones_become_words_on_the_frames_of_the_codes(values, tiny, lexicon):
    utterance = prepare.prepare(config_of(values, lexicon=lexicon), tiny, "train")[1]
    # the edges are at 0.1, 0.2 and 0.31 s plus one frame, and at the end of the codes
    assert [(word.text, [(phone.letter, phone.frames) for phone in word.phones]) for word in utterance.words] == [
        ("über", [("b", 6)]), ("", [("_", 5)]), ("12", [("i", 6)]), ("boote", [("t", 3)])
    ]  # fmt: skip
    assert all(not other.words for other in prepare.prepare(config_of(values), tiny, "train"))  # without a lexicon


def test_texts_and_phones_can_be_corrected_without_encoding_again(values, tiny, data, tmp_path, lexicon):
    folder = tmp_path / "corrected"
    shutil.copytree(data, folder)
    config = config_of(values, data=str(folder), lexicon=lexicon)
    prepare.prepare(config, tiny, "train")
    lines = (folder / "train.jsonl").read_text().replace("Good  Morning", "boote morning").replace('"G"', '"T"')
    (folder / "train.jsonl").write_text(lines)
    for path in folder.glob("*.flac"):
        path.unlink()
    utterance = prepare.prepare(config, tiny, "train")[0]
    assert (utterance.text, [word.text for word in utterance.words]) == ("boote morning", ["", "boote", "morning"])


@pytest.mark.parametrize("line", ["no JSON", '{"text": "x"}', '["a.flac"]', '{"audio": "a.flac", "text": 3}'])
def test_an_invalid_manifest_is_named_with_its_line(values, tiny, tmp_path, line):
    (tmp_path / "train.jsonl").write_text(f'{{"audio": "a.flac"}}\n{line}\n')
    with pytest.raises(InputError, match="line 2 is"):
        prepare.prepare(config_of(values, data=str(tmp_path)), tiny, "train")


def test_a_manifest_without_readable_audio_is_refused(values, tiny, tmp_path):
    (tmp_path / "train.jsonl").write_text('{"audio": "a.flac"}\n')
    with pytest.raises(AudioError, match="none of the 1 utterances"):
        prepare.prepare(config_of(values, data=str(tmp_path)), tiny, "train")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["Q", 0.1, 0.2], "one: phone 1 is 'Q' .*expected ARPAbet"),
        (["AA", 0.1, 0.1], "one: phone 1 is 'AA' from 0.1 to 0.1 s .it is empty"),
        (["AA", 0.02, 0.3], "one: phone 1 is 'AA' .*the previous phone ends at 0.1 s"),
        (["AA", 0.1, math.inf], "line 1 is"),
        (["AA", 0.1], "line 1 is"),
        ("AA", "line 1 is"),
    ],
)
def test_invalid_phones_are_named_with_their_utterance(values, tiny, data, tmp_path, row, message, lexicon):
    folder = tmp_path / "phones"
    shutil.copytree(data, folder)
    line = {"id": "one", "audio": "train0.flac", "text": "good", "phones": [["SIL", 0.0, 0.1], row]}
    (folder / "train.jsonl").write_text(json.dumps(line))
    with pytest.raises(InputError, match=message):
        prepare.prepare(config_of(values, data=str(folder), lexicon=lexicon), tiny, "train")


def test_a_lexicon_without_matching_phones_is_refused(values, tiny, data, tmp_path, lexicon):
    folder = tmp_path / "phones"
    shutil.copytree(data, folder)
    (folder / "train.jsonl").write_text(json.dumps({"audio": "train0.flac", "text": "good"}))
    with pytest.raises(InputError, match="has no phones that match its texts"):
        prepare.prepare(config_of(values, data=str(folder), lexicon=lexicon), tiny, "train")


def test_the_command_reports_utterances_and_ids_per_second(values, monkeypatch, capsys, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(sys, "argv", ["prepare", "--config", str(tmp_path / "config.yaml")])
    prepare.main()
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"train: 4 utterances, 3 with a text, 0\.0 minutes, [1-9]\d\.\d ids per second", lines[1])
    assert lines[2].startswith("dev: 2 utterances, 2 with a text")
