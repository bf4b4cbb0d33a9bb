import json

import pytest

import speechtok
from benchmarks.semantics.__main__ import main
from benchmarks.semantics.labellers import code_labeller
from benchmarks.semantics.labelling import AlignedUtterances
from benchmarks.semantics.phone_scores import codebook_scores
from training.manifest import read_manifest


@pytest.mark.slow
def test_every_codebook_and_reference_is_scored_and_failures_are_reported(model, data, capsys, tmp_path):
    out = tmp_path / "report"
    arguments = ["--data", str(data), "--model", model, "--teacher", "mfcc", "--layer", "1", "--out", str(out)]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "broken.wav is text" in captured.err
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
    units = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in second.splitlines() if line[:2] == "| "}
    continuous = ["sum of the vectors of all codebooks", "features of MFCC", "features of mfcc, layer 1"]
    assert list(units) == ["codebook 0", *rows[-2:], *continuous, "all codebooks", "chance"]
    assert [cell.strip() for cell in units["chance"]] == ["50.0", "50.0", "", "–", "", ""]
    assert "lacks two speakers" in second
    per_phone, perplexity, bits = (float(units["codebook 0"][column]) for column in (2, 4, 5))
    assert 1 <= per_phone <= 15  # frames of the longest phone
    assert 1 < perplexity < 64
    assert bits > 0
    assert (out / "semantics.md").read_text().startswith(captured.out.strip())
    found = json.loads((out / "semantics.json").read_text())
    assert [row["name"] for row in found["labels"]] == rows[1:]
    assert found["units"][0]["speaker"] is None
    aligned = AlignedUtterances(read_manifest(data / "test.jsonl"), 320, 16_000)
    for row, delay in zip(found["labels"], (1, 0), strict=False):
        codes = aligned.label(code_labeller(speechtok.load(model)), "codes", delay)
        assert row["all"]["pnmi"] == codebook_scores(codes, aligned.silence, delay)[0].all.pnmi
    clusters = [line for line in first.splitlines() if "k-means" in line]
    assert clusters[0].split("|")[2:] == clusters[1].split("|")[2:]
    assert float(clusters[0].split("|")[2]) > 0.6  # constant tones are easy to distinguish


def test_data_that_cannot_be_used_are_named(model, tmp_path, capsys):
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
            link = tmp_path / f"{copy}{row['audio']}"
            link.symlink_to(data / row["audio"])
            rows.append(row | {"audio": link.name, "id": f"{copy}{row['audio']}", "speaker": "ab"[copy]})
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows[5:])))
    assert main(["--data", str(tmp_path), "--model", model]) == 0
    out = capsys.readouterr().out
    assert "The speaker probe distinguishes 2 speakers" in out
    clusters = next(line for line in out.split("| labels | ABX")[1].splitlines() if "k-means" in line).split("|")
    assert float(clusters[2]) < 15  # tones are easy to distinguish within a speaker
    assert float(clusters[3]) < 15  # and across speakers, who say the same
