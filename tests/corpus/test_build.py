"""What a build writes: each utterance once, in shards that depend on the sources and the settings alone."""

import itertools
import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from speechtok import SpeechTokens, read_audio
from speechtok.corpus import Corpus
from speechtok.corpus.engines import LocalEngine
from speechtok.errors import InputError


def rows_of(folder) -> list[dict]:
    return [row for file in sorted((folder / "data").iterdir()) for row in pq.read_table(file).to_pylist()]


def test_rows_hold_the_codes_of_the_tokenizer_and_the_fields_of_the_manifest(recordings, tmp_path, build_corpus, tiny):
    built = build_corpus(recordings / "list.jsonl", tmp_path / "corpus")
    assert built.manifest["utterances"] == built.planned == 7
    utterances = list(Corpus(tmp_path / "corpus"))
    assert [u.id for u in utterances] == [f"u{i}" for i in range(7)]
    for index, utterance in enumerate(utterances):
        expected = tiny.encode(*read_audio(recordings / f"{'more/' * (index % 2)}r{index}.wav"))
        assert torch.equal(utterance.tokens.codes, expected.codes)
        assert utterance.tokens.to_bytes() == expected.to_bytes()
        assert (utterance.text, utterance.speaker, utterance.lang) == (f"text {index}", f"s{index % 2}", "en")


def test_every_way_to_write_codes_gives_the_same_tokens(recordings, tmp_path, build_corpus):
    build_corpus(recordings, tmp_path / "lists")
    build_corpus(recordings, tmp_path / "packed", encoding="packed")
    file = "data/shard-00000.parquet"
    lists, packed = (SpeechTokens.from_parquet(tmp_path / name / file) for name in ("lists", "packed"))
    assert lists.to_bytes() == packed.to_bytes()
    assert len(lists) == 7


def test_shards_depend_on_the_seed_and_not_on_the_workers(recordings, tmp_path, build_corpus, monkeypatch):
    monkeypatch.setattr("speechtok.corpus.plan.MAX_ITEMS", 2)
    small = {"shard_hours": 1e-3 / 3.6}  # a shard for each second
    for name, seed, jobs in (("a", 1, 0), ("b", 1, 2), ("c", 2, 0), ("d", None, 0)):
        build_corpus(recordings, tmp_path / name, seed=seed, jobs=jobs, **small)
    a, b, c, d = (rows_of(tmp_path / name) for name in "abcd")
    assert len(list((tmp_path / "a" / "data").iterdir())) > 1
    for file in (tmp_path / "a" / "data").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "data" / file.name).read_bytes()
    assert a == b
    assert a != c
    assert sorted(row["id"] for row in a) == sorted(row["id"] for row in c) == [row["id"] for row in d]


def test_files_that_cannot_be_read_are_counted_by_reason_and_listed(recordings, tmp_path, build_corpus):
    good = (recordings / "r0.wav").read_bytes()
    (recordings / "cut.wav").write_bytes(good[: len(good) // 2])
    (recordings / "empty.wav").write_bytes(b"")
    (recordings / "page.wav").write_bytes(b"<html>not found</html>")
    manifest = recordings / "list.jsonl"
    extra = [
        {"audio": "cut.wav"},
        {"audio": "empty.wav"},
        {"audio": "page.wav"},
        {"audio": "gone.wav", "text": "kept"},
        {"audio": "r0.wav", "id": "u0"},
        {"audio": "r0.wav", "offset": 50, "duration": 1},
        {"sound": "r0.wav"},
    ]
    manifest.write_text(manifest.read_text() + "\n" + "\n".join(map(json.dumps, extra)))
    built = build_corpus(manifest, tmp_path / "corpus")
    assert built.manifest["utterances"] == 7
    assert built.manifest["quarantined"] == {
        "total": 7,
        "bad_line": 1,
        "duplicate_id": 1,
        "empty": 1,
        "missing": 1,
        "not_audio": 1,
        "outside": 1,
        "truncated": 1,
    }
    listed = pq.read_table(tmp_path / "corpus" / "quarantine" / "shard-00000.parquet").to_pylist()
    assert built.manifest["planned"] == 7 + len(listed)
    assert next(row for row in listed if row["reason"] == "missing")["text"] == "kept"


class StoppedError(Exception):
    pass


class StopsAfter(LocalEngine):
    """Ends the build after some parts, as a kill does."""

    def __init__(self, encoder, count):
        super().__init__(encoder, 0)
        self.left = count

    def run(self, tasks):
        for pair in super().run(tasks):
            if self.left == 0:
                raise StoppedError
            self.left -= 1
            yield pair


def test_an_interrupted_build_continues_and_encodes_nothing_twice(recordings, tmp_path, build_corpus, monkeypatch):
    monkeypatch.setattr("speechtok.corpus.plan.MAX_ITEMS", 1)
    small = {"shard_hours": 1e-3 / 3.6, "seed": 3}
    build_corpus(recordings, tmp_path / "whole", **small)
    for count in (0, 1, 1):  # each leaves one more part than it counted
        with pytest.raises(StoppedError):
            build_corpus(recordings, tmp_path / "parts", engine=lambda e, n=count: StopsAfter(e, n), **small)
    again = []

    class Counts(LocalEngine):
        def run(self, tasks):
            for task, done in super().run(tasks):
                again.append((task.shard, task.part))
                yield task, done

    build_corpus(recordings, tmp_path / "parts", engine=lambda e: Counts(e, 0), **small)
    assert 0 < len(again) < 7
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "parts")
    assert (tmp_path / "whole" / "manifest.json").read_bytes() == (tmp_path / "parts" / "manifest.json").read_bytes()


def test_new_files_of_a_source_become_further_shards(recordings, tmp_path, build_corpus, speech):
    first = build_corpus(recordings, tmp_path / "corpus")
    before = (tmp_path / "corpus" / "data" / "shard-00000.parquet").stat().st_mtime_ns
    assert build_corpus(recordings, tmp_path / "corpus").manifest == first.manifest
    shutil.copy(recordings / "r0.wav", recordings / "new.wav")
    built = build_corpus(recordings, tmp_path / "corpus")
    assert (built.planned, built.manifest["utterances"]) == (1, 8)
    assert [shard["rows"] for shard in built.manifest["shards"]] == [7, 1]
    assert (tmp_path / "corpus" / "data" / "shard-00000.parquet").stat().st_mtime_ns == before


def test_other_settings_and_foreign_folders_are_refused(recordings, tmp_path, build_corpus):
    build_corpus(recordings, tmp_path / "corpus")
    with pytest.raises(InputError, match="other settings \\(seed\\)"):
        build_corpus(recordings, tmp_path / "corpus", seed=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="not empty"):
        build_corpus(recordings, tmp_path / "mine")


def test_long_recordings_are_cut_at_pauses_and_nothing_is_lost(tmp_path, build_corpus, speech):
    import numpy as np
    import soundfile

    words = [np.concatenate([speech(0.9, seed), np.zeros(4_000, np.float32)]) for seed in range(6)]
    whole = np.concatenate(words)
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "talk.wav", whole, 16_000, subtype="FLOAT")
    build_corpus(tmp_path / "in", tmp_path / "corpus", max_utterance=2.5)
    rows = rows_of(tmp_path / "corpus")
    assert [row["id"] for row in rows] == [f"talk.wav#{i:05}" for i in range(len(rows))]
    assert sum(row["num_samples"] for row in rows) == len(whole)
    assert max(row["seconds"] for row in rows) <= 2.5
    for row, following in itertools.pairwise(rows):
        end = round((row["source_start"] + row["source_seconds"]) * 16_000)
        assert end == round(following["source_start"] * 16_000)
        assert not whole[end - 800 : end + 800].any()  # in a pause
