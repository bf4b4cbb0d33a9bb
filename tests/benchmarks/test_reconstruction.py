import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import speechtok
from benchmarks.reconstruction import (
    Reconstruction,
    Score,
    Utterance,
    main,
    measure,
    perplexities,
    read_manifest,
    table,
)
from speechtok.errors import InputError

HALF = speechtok.ConvNeXtConfig(patch_dim=16, patch_depth=1, frame_dim=32, frame_depth=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    config = speechtok.TokenizerConfig(latent_dim=8, codebook_size=32, num_codebooks=4, encoder=HALF, decoder=HALF)
    directory = tmp_path_factory.mktemp("model")
    speechtok.SpeechTokenizer(config).save(directory)
    return str(directory)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    envelope = np.sin(np.arange(32_000) / 2000) ** 2
    for index in range(3):
        soundfile.write(folder / f"{index}.wav", envelope * rng.standard_normal(32_000) * 0.1, 16_000)
    soundfile.write(folder / "3.wav", np.zeros(16_000), 16_000)
    (folder / "4.wav").write_text("no audio")
    (folder / "test.jsonl").write_text("\n".join(json.dumps({"audio": f"{i}.wav"}) for i in range(5)))
    return folder / "test.jsonl"


def test_the_numbers_do_not_depend_on_the_number_of_workers(model, manifest):
    paths = read_manifest(str(manifest))
    alone = [Reconstruction(model, [4, 1])(path) for path in paths[:2]]
    pooled = measure(paths[:2], model, [4, 1], workers=2)
    assert [u.path for u in pooled] == paths[:2]
    assert [u.scores for u in pooled] == [u.scores for u in alone]


def test_a_file_that_fails_and_a_silent_one_leave_the_others_done(model, manifest, capsys):
    assert main(["--data", str(manifest.parent), "--model", model, "--num-codebooks", "4", "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert "4.wav cannot be read as audio" in captured.err
    assert "4 utterances" in captured.out
    assert "nan" not in captured.out


def test_scores_are_those_of_the_reference_libraries(model, manifest):
    from pesq import pesq
    from pystoi import stoi

    path = read_manifest(str(manifest))[0]
    utterance = Reconstruction(model, [4])(path)
    tokenizer = speechtok.load(model)
    waveform, _ = speechtok.read_audio(path)
    decoded = tokenizer.decode(tokenizer.encode(waveform, 16_000))[0].numpy()
    assert utterance.scores[4].pesq == pytest.approx(pesq(16_000, waveform.numpy(), decoded, "wb"))
    assert utterance.scores[4].stoi == pytest.approx(stoi(waveform.numpy(), decoded, 16_000))
    assert utterance.scores[4].bits == 100 * 4 * 5


def test_the_table_means_over_utterances_and_measures_the_rate():
    utterances = [
        Utterance(Path("a"), {2: Score(2.0, 0.8, 3000, 1.0)}, np.zeros((2, 1), np.int32)),
        Utterance(Path("b"), {2: Score(3.0, 0.6, 1000, 3.0)}, np.zeros((2, 1), np.int32)),
        Utterance(Path("c"), {}, np.empty((0, 0), np.int32), "broken"),
    ]
    assert table(utterances, [2]).splitlines()[-1] == "| 2 | 1.00 | 2.500 | 0.7000 |"


def test_perplexity_is_the_number_of_codes_used_evenly():
    codes = np.array([[0, 1, 2, 3], [5, 5, 5, 5]], np.int32)
    assert perplexities([Utterance(Path("a"), {1: Score(1, 1, 1, 1)}, codes)], 8) == pytest.approx([4, 1])


def test_a_missing_manifest_is_named(tmp_path, capsys):
    with pytest.raises(InputError, match=r"test\.jsonl"):
        read_manifest(str(tmp_path))
    assert main(["--data", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
