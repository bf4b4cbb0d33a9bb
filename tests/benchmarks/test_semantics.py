import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import speechtok
from benchmarks.semantics import Aligned, Score, codebook_scores, main, score, table
from speechtok.metrics import PhoneScore
from training.phones import Phone, read_alignments

HALF = speechtok.ConvNeXtStackConfig(patch_dim=16, patch_depth=1, frame_dim=32, frame_depth=1)
TONES = {"AA": 300, "IY": 1200, "S": 4000, "SIL": 0}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = speechtok.ConvNeXtConfig(latent_dim=8, codebook_size=32, num_codebooks=3, encoder=HALF, decoder=HALF)
    directory = tmp_path_factory.mktemp("model")
    speechtok.ConvNeXtTokenizer(config).save(directory)
    return str(directory)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances whose phones are tones; the test manifest also has one without alignment, and one that is no audio."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(8):
        pieces, phones, at = [], [], 0
        for name in rng.choice(list(TONES), 8):
            samples = int(rng.uniform(0.1, 0.3) * 16_000)
            pieces.append(0.2 * np.sin(2 * np.pi * TONES[name] * np.arange(samples) / 16_000))
            phones.append([str(name), at / 16_000, (at + samples) / 16_000])
            at += samples
        soundfile.write(folder / f"{index}.wav", np.concatenate(pieces) + 0.001 * rng.standard_normal(at), 16_000)
        rows.append({"audio": f"{index}.wav", "phones": phones})
    (folder / "broken.wav").write_text("no audio")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows[:5])))
    (folder / "dev.jsonl").write_text("\n".join(map(json.dumps, [rows[7]])))
    rows += [{"audio": "0.wav"}, {"audio": "broken.wav", "phones": [["AA", 0.0, 1.0]]}]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, rows[5:])))
    return folder


def test_every_codebook_and_reference_is_scored_and_failures_are_told(model, data, capsys, tmp_path):
    out = tmp_path / "report"
    arguments = ["--data", str(data), "--model", model, "--teacher", "mfcc", "--layer", "1", "--out", str(out)]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "broken.wav cannot be read" in captured.err
    assert "3 utterances" in captured.out
    first, second = captured.out.split("| labels | ABX")
    rows = [line.split("|")[1].strip() for line in first.splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        "codebook 0",
        "codebook 0, without delay",
        "codebook 1",
        "codebook 2",
        "chance",
        "k-means (32) on MFCC",
        "k-means (32) on mfcc, layer 1",
    ]
    languages = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in second.splitlines() if line[:2] == "| "}
    assert list(languages) == ["codebook 0", *rows[-2:], "all codebooks", "chance"]
    assert [cell.strip() for cell in languages["chance"]] == ["50.0", "50.0", "", "–", "", ""]
    assert "not two speakers" in second
    tokens, perplexity, bits = (float(languages["codebook 0"][place]) for place in (2, 4, 5))
    assert 1 <= tokens <= 15  # frames of the longest phone
    assert 1 < perplexity < 64
    assert bits > 0
    assert (out / "semantics.md").read_text().startswith(captured.out.strip())
    found = json.loads((out / "semantics.json").read_text())
    assert [row["name"] for row in found["labels"]] == rows[1:]
    assert found["languages"][0]["speaker"] is None
    aligned = Aligned(read_alignments(data / "test.jsonl"), 320, 16_000)
    for row, delay in zip(found["labels"], (1, 0), strict=False):
        again = codebook_scores(speechtok.load(model), aligned, delay)[0]
        assert row["all"]["pnmi"] == pytest.approx(again.all.pnmi)
    clusters = [line for line in first.splitlines() if "k-means" in line]
    assert clusters[0].split("|")[2:] == clusters[1].split("|")[2:]
    assert float(clusters[0].split("|")[2]) > 0.6  # tones that never change are easy to tell apart


def test_a_teacher_that_hears_the_phones_scores_highest(model, data):
    aligned = Aligned(read_alignments(data / "dev.jsonl"), 320, 16_000)
    _, phones = aligned.label(lambda waveform, rate, centres: torch.zeros(1, len(centres), dtype=torch.long), "none")
    assert score("phones", phones, phones, aligned.silence).all.pnmi == 1.0
    mine = codebook_scores(speechtok.load(model), aligned)
    assert [row.name for row in mine] == ["codebook 0", "codebook 1", "codebook 2", "chance"]
    assert all(0 <= row.all.pnmi < 1 for row in mine)


def test_codes_and_phones_are_those_of_the_same_frames(model, data):
    tokenizer = speechtok.load(model)
    path = data / "7.wav"
    aligned = Aligned({path: (Phone("AA", 0.0, 0.045), Phone("S", 0.045, 0.065))}, 320, 16_000)
    rows = codebook_scores(tokenizer, aligned)
    codes = tokenizer.encode(*speechtok.read_audio(path)).codes[0]
    # centres at 10, 30, 50, 70 ms: two frames of the first phone, one of the second, and the rest outside
    expected = [score("", stage[:3].numpy(), np.array([0, 0, 1]), -5) for stage in codes]
    assert [row.all for row in rows[:-1]] == [row.all for row in expected]
    assert rows[0].all.frames == 3
    late = codebook_scores(tokenizer, aligned, delay=1)  # the same phones, each a frame later
    expected = [score("", stage[1:4].numpy(), np.array([0, 0, 1]), -5) for stage in codes]
    assert [row.all for row in (late[0], *late[2:-1])] == [row.all for row in expected]
    assert late[1].all == rows[0].all


def test_silence_is_left_out_of_the_second_number():
    phones = np.array([0, 0, 1, 1, 2, 2, -1])
    labels = np.array([5, 5, 1, 1, 1, 1, 9])
    row = score("x", labels, phones, silence=0)
    assert (row.all.frames, row.spoken.frames) == (6, 4)
    assert 0 < row.all.pnmi < 1
    assert row.spoken.pnmi == 0.0


def test_the_table_has_a_row_for_each():
    some = PhoneScore(0.5, 0.6, 0.7, 10)
    assert table([Score("codebook 0", some, PhoneScore(0.25, 0, 0, 5))]).splitlines()[-1] == (
        "| codebook 0 | 0.500 | 0.250 | 0.600 | 0.700 |"
    )


def test_what_cannot_be_measured_is_named(model, data, tmp_path, capsys):
    assert main(["--data", str(tmp_path / "none.jsonl"), "--model", model]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    (tmp_path / "test.jsonl").write_text(json.dumps({"audio": "a.wav"}))
    assert main(["--data", str(tmp_path), "--model", model]) == 1
    assert "no 'phones'" in capsys.readouterr().err
    (tmp_path / "test.jsonl").write_text(json.dumps({"audio": "a.wav", "phones": [["AA", 0, 1]]}))
    assert main(["--data", str(tmp_path), "--model", model]) == 1
    assert "train.jsonl" in capsys.readouterr().err


def test_speakers_count_in_abx_and_the_probe(model, data, tmp_path, capsys):
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    for copy in range(2):
        for row in rows[:5]:
            twin = row | {"audio": str(data / row["audio"]), "id": f"{copy}{row['audio']}", "speaker": "ab"[copy]}
            link = tmp_path / f"{copy}{row['audio']}"
            link.symlink_to(data / row["audio"])
            rows.append(twin | {"audio": link.name})
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows[5:])))
    assert main(["--data", str(tmp_path), "--model", model]) == 0
    out = capsys.readouterr().out
    assert "The probe tells 2 speakers apart" in out
    clusters = next(line for line in out.split("| labels | ABX")[1].splitlines() if "k-means" in line).split("|")
    assert float(clusters[2]) < 15  # tones are easy to tell apart, by one speaker
    assert float(clusters[3]) < 15  # and by another, who says the same
