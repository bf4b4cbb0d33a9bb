import json
from pathlib import Path

import pytest
import soundfile
import torch

import speechtok
from benchmarks import exactness
from benchmarks.exactness import alone, batched, decoded_streamed, elsewhere, interleaved, main, streamed
from speechtok.nn.native.library import load_library


@pytest.fixture(scope="module")
def waveforms(speech) -> list[torch.Tensor]:
    return [torch.from_numpy(speech(seconds, seed)) for seed, seconds in enumerate([0.05, 0.7, 0.31])]


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> str:
    directory = tmp_path_factory.mktemp("model")
    tiny.save(directory)
    return str(directory)


@pytest.fixture(scope="module")
def manifest(waveforms, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for index, x in enumerate(waveforms):
        soundfile.write(folder / f"{index}.wav", x.numpy(), 16_000, subtype="FLOAT")
    (folder / "test.jsonl").write_text("\n".join(json.dumps({"audio": f"{i}.wav"}) for i in range(len(waveforms))))
    return folder / "test.jsonl"


def test_every_way_encodes_every_utterance_whole(tiny, waveforms):
    expected = [tiny.encode(x, 16_000).codes[0] for x in waveforms]
    audio = alone(tiny, waveforms)[1]
    ways = [alone(tiny, waveforms)[0], batched(tiny, waveforms, 2)[0], streamed(tiny, waveforms)]
    for codes in [*ways, interleaved(tiny, waveforms, 2)]:
        assert all(torch.equal(a, b) for a, b in zip(codes, expected, strict=True))
    assert decoded_streamed(tiny, expected, waveforms) == audio == batched(tiny, waveforms, 2)[1]


def test_the_table_counts_what_differs(model, manifest, capsys, monkeypatch):
    ways = {"AVX2": exactness.PROCESSORS["AVX2"]}
    monkeypatch.setattr(exactness, "PROCESSORS", ways)
    monkeypatch.setattr(exactness, "COMPILED", {"generic": "compiled"})
    assert main(["--data", str(manifest), "--model", model]) == 0
    total = sum(
        t.numel() for t in alone(speechtok.load(model), [torch.zeros(800), torch.zeros(11_200), torch.zeros(4_960)])[0]
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 8 + (load_library() is not None)
    assert all(f"| {total} | 0 |" in row for row in rows)

    real = exactness.streamed
    monkeypatch.setattr(exactness, "streamed", lambda tok, x: [codes ^ 1 for codes in real(tok, x)])
    assert main(["--data", str(manifest), "--model", model, "--only", "streamed in chunks"]) == 1
    assert f"| {total} | {total} |" in capsys.readouterr().out


def test_another_interpreter_gets_the_same_audio(model, waveforms, tmp_path):
    import sys

    import numpy as np

    audio = tmp_path / "waveforms.npz"
    np.savez(audio, **{f"{i:06}": x.numpy() for i, x in enumerate(waveforms)})
    codes, digests = elsewhere(sys.executable, {"ATEN_CPU_CAPABILITY": "default"}, "float32", model, audio, tmp_path)
    expected, expected_digests = alone(speechtok.load(model), waveforms)
    assert all(torch.equal(a, b) for a, b in zip(codes, expected, strict=True))
    assert digests == expected_digests


def test_only_the_rows_that_are_asked_for_are_counted(model, manifest, capsys):
    assert main(["--data", str(manifest), "--model", model, "--only", "2 threads", "--only", "padded"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" |")[0] for row in rows] == ["| alone, 2 threads", "| in padded batches of 1 to 64"]


def test_rows_that_there_are_not_are_named(model, manifest, capsys):
    assert main(["--data", str(manifest), "--model", model, "--only", "zzz"]) == 1
    captured = capsys.readouterr()
    assert "--only is ['zzz'], in no row; expected some of alone, 2 threads, " in captured.err
    assert "|" not in captured.out


def test_data_that_are_not_there_are_told_in_a_line(model, tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none.jsonl"), "--model", model]) == 1
    expected = f"error: {tmp_path / 'none.jsonl'} does not exist; expected a manifest of JSON lines\n"
    assert capsys.readouterr().err == expected
