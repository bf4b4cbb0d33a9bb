"""Every kind of source gives the same codes for the same audio."""

import gzip
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from speechtok.corpus import Corpus


@pytest.fixture
def expected(recordings, tmp_path, build_corpus) -> dict[str, tuple]:
    build_corpus(recordings / "list.jsonl", tmp_path / "expected")
    return contents(tmp_path / "expected")


def contents(folder) -> dict[str, tuple]:
    return {u.id: (u.tokens.to_bytes(), u.text, u.speaker) for u in Corpus(folder)}


def paths(recordings):
    return [(f"u{i}", f"{'more/' * (i % 2)}r{i}.wav", f"text {i}", f"s{i % 2}") for i in range(7)]


def nemo(recordings, tmp_path):
    rows = [
        {"audio_filepath": path, "duration": 1.0, "text": text, "speaker": s, "id": key}
        for key, path, text, s in paths(recordings)
    ]
    (recordings / "nemo.json").write_text("\n".join(map(json.dumps, rows)))
    return recordings / "nemo.json"


def moshi(recordings, tmp_path):
    rows = [
        {"path": path, "duration": 1.0, "id": key, "text": text, "speaker": s}
        for key, path, text, s in paths(recordings)
    ]
    with gzip.open(recordings / "moshi.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    return recordings / "moshi.jsonl.gz"


def kaldi(recordings, tmp_path):
    for name, column in (("wav.scp", 1), ("text", 2), ("utt2spk", 3)):
        (recordings / name).write_text("".join(f"{row[0]} {row[column]}\n" for row in paths(recordings)))
    return recordings


def lhotse(recordings, tmp_path):
    rows = [
        {
            "id": key,
            "start": 0,
            "duration": 1.0,
            "channel": 0,
            "type": "MonoCut",
            "recording": {"id": key, "duration": 1.0, "sources": [{"type": "file", "channels": [0], "source": path}]},
            "supervisions": [{"id": key, "text": text, "speaker": s, "language": "en"}],
        }
        for key, path, text, s in paths(recordings)
    ]
    (recordings / "cuts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return recordings / "cuts.jsonl"


def webdataset(recordings, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for index, (key, path, text, speaker) in enumerate(paths(recordings)):
            facts = json.dumps({"id": key, "speaker": speaker}).encode()
            for suffix, data in (("json", facts), ("txt", text.encode()), ("wav", (recordings / path).read_bytes())):
                info = tarfile.TarInfo(f"{index:06}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return tmp_path / "*.tar"


def parquet(recordings, tmp_path):
    rows = [
        {"id": k, "audio": {"bytes": (recordings / p).read_bytes(), "path": None}, "transcription": t, "speaker_id": s}
        for k, p, t, s in paths(recordings)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "audio.parquet", row_group_size=3)
    return tmp_path / "audio.parquet"


def memory(recordings, tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    for file in recordings.rglob("*.*"):
        store.pipe_file(f"/bucket/{file.relative_to(recordings)}", file.read_bytes())
    return "memory://bucket/list.jsonl"


@pytest.mark.parametrize("make", [nemo, moshi, kaldi, lhotse, webdataset, parquet, memory])
def test_the_same_recordings_give_the_same_rows(make, recordings, tmp_path, build_corpus, expected):
    build_corpus(make(recordings, tmp_path), tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == expected


def test_parts_of_a_recording_are_cut_by_their_times(recordings, tmp_path, build_corpus, tiny):
    import soundfile

    (recordings / "segments").write_text("a rec 0.1 0.2\nb rec 0.2 0.35\nc other 0 1\nd rec 2 1\n")
    (recordings / "wav.scp").write_text("rec r3.wav\n" if (recordings / "r3.wav").exists() else "rec more/r3.wav\n")
    built = build_corpus(recordings / "wav.scp", tmp_path / "corpus")
    whole, rate = soundfile.read(recordings / "more" / "r3.wav", dtype="float32")
    rows = {u.id: u.tokens for u in Corpus(tmp_path / "corpus")}
    assert rows["a"].to_bytes() == tiny.encode(whole[1600:3200], rate).to_bytes()
    assert rows["b"].to_bytes() == tiny.encode(whole[3200:5600], rate).to_bytes()
    assert built.manifest["quarantined"] == {"total": 2, "bad_line": 1, "missing": 1}


def test_commands_of_kaldi_are_not_run(recordings, tmp_path, build_corpus):
    (recordings / "wav.scp").write_text(f"a touch {tmp_path}/ran; cat r0.wav |\nb r0.wav\n")
    built = build_corpus(recordings / "wav.scp", tmp_path / "corpus")
    assert built.manifest["quarantined"] == {"total": 1, "command": 1}
    assert not (tmp_path / "ran").exists()


def test_recordings_of_two_folders_may_have_the_same_names(recordings, tmp_path, build_corpus):
    build_corpus([recordings, recordings / "more"], tmp_path / "corpus")
    ids = [u.id for u in Corpus(tmp_path / "corpus")]
    assert "recordings/more/r1.wav" in ids
    assert "more/r1.wav" in ids
    assert len(set(ids)) == len(ids) == 10
