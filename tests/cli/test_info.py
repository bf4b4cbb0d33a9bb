"""``speechtok info``."""

import pytest
import torch

from speechtok import SpeechTokens, load
from speechtok.cli import main
from tests.cli.helpers import RATE, assert_error, make_tokenizer, rows, write


def test_info_describes_a_tokens_file_without_counting_padding(tmp_path, capsys):
    codes = torch.zeros(2, 2, 4, dtype=torch.int64)
    codes[0, 0], codes[0, 1] = torch.tensor([7, 8, 7, 9]), 5
    codes[1, :, :2] = 7
    lengths, num_samples = torch.tensor([4, 2]), torch.tensor([1280, 400])
    SpeechTokens(codes, lengths, num_samples, RATE, 320, 32, "0123456789abcdef").save(tmp_path / "a.tokens")
    assert main(["info", str(tmp_path / "a.tokens")]) == 0
    assert rows(capsys.readouterr().out) == {
        "utterances": "2",
        "duration": "0.10 s",  # 1680 samples
        "frames": "6 at 50 Hz",
        "codes": "(2, 2, 4)",
        "sample rate": "16000 Hz",
        "bitrate": "0.50 kbit/s",
        "fingerprint": "0123456789abcdef",
        "codebook 0": "3 of 32 entries used",
        "codebook 1": "2 of 32 entries used",
    }


def test_info_describes_a_tokenizer(model, tokenizer, capsys):
    assert main(["info", str(model)]) == 0
    table = rows(capsys.readouterr().out)
    count = sum(tensor.numel() for tensor in (*tokenizer.parameters(), tokenizer.quantizer.codebooks))
    assert table["fingerprint"] == tokenizer.fingerprint
    assert table["decoder fingerprint"] == tokenizer.decoder_fingerprint
    assert table["aliases"] == "none"
    assert table["parameters"].startswith(f"{count:,} ")
    assert table["bitrate"] == "1.00 kbit/s"  # 50 Hz, 4 codebooks, 5 bits
    assert table["frame rate"] == "50 Hz"
    assert (table["codebook_size"], table["num_codebooks"], table["encoder.patch_dim"]) == ("32", "4", "16")


def test_info_without_an_argument_describes_the_embedded_tokenizer(tmp_path, monkeypatch, capsys):
    packaged = make_tokenizer(2)
    packaged.save(tmp_path / "assets" / "speechtok-v1")
    monkeypatch.setattr("speechtok.loaders.resources.files", lambda _package: tmp_path)
    assert main(["info"]) == 0
    assert rows(capsys.readouterr().out)["fingerprint"] == packaged.fingerprint


def test_info_lists_the_aliases_of_a_fingerprint(capsys):
    assert main(["info", "speechtok-v1"]) == 0
    assert rows(capsys.readouterr().out)["aliases"].split(", ") == list(load("speechtok-v1").aliases) != []


@pytest.mark.parametrize("name", ["absent.tokens", "a.wav", "empty", "other.pt"])
def test_info_of_anything_else_is_an_error(tmp_path, capsys, name):
    write(tmp_path / "a.wav")
    (tmp_path / "empty").mkdir()
    torch.save({"weights": 1}, tmp_path / "other.pt")
    assert main(["info", str(tmp_path / name)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert_error(err, tmp_path / name)
