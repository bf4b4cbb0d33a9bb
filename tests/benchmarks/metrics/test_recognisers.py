import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

import speechtok
from benchmarks.metrics.recognisers import Pocketsphinx, Whisper, describe, identity, load_recogniser
from speechtok.errors import InputError


@pytest.mark.slow
def test_pocketsphinx_gives_the_same_transcript_in_any_order():
    spoken, _ = speechtok.read_audio(Path(str(resources.files("speechtok") / "assets" / "sample.flac")))
    random = torch.Generator().manual_seed(0)
    speech = (spoken + 0.01 * torch.randn(len(spoken), generator=random)).numpy()
    recognise = Pocketsphinx()
    first = recognise(speech, "en")
    recognise(0.3 * torch.randn(16_000, generator=random).numpy(), "en")  # it adapts to noise
    assert recognise(speech, "en") == first
    assert recognise.understands("en")
    assert not recognise.understands("de")


@pytest.mark.slow
@pytest.mark.parametrize("source", ["/none", "tests"])
def test_a_missing_whisper_model_is_reported(source):
    with pytest.raises(InputError, match="cannot be loaded by transformers"):
        load_recogniser(f"whisper:{source}")


@pytest.mark.parametrize("name", ["ear", "whisper", "whisper:", "pocketsphinx:x", ""])
def test_unknown_recognisers_are_refused(name):
    with pytest.raises(InputError, match="expected pocketsphinx or whisper:SOURCE"):
        load_recogniser(name)


def test_a_local_model_is_named_by_its_folder_and_known_by_its_files(tmp_path):
    model = tmp_path / "whisper-tiny"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"1")
    name = f"whisper:{model}"
    assert describe(name) == "whisper-tiny"
    before = identity(name)
    json.dumps(before)
    (model / "model.safetensors").write_bytes(b"12")
    assert identity(name) != before


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of two layers with random weights and a vocabulary of its own."""
    import transformers
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    folder = tmp_path_factory.mktemp("whisper")
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>"]
    special += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    letters = [chr(c) for c in range(33, 127)] + ["Ġ"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate([*letters, "<|endoftext|>"])}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), unk_token="<|endoftext|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in special}
    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer), encoder_attention_heads=2, decoder_attention_heads=2, max_target_positions=16,
        decoder_start_token_id=ids["<|startoftranscript|>"], eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"], suppress_tokens=None,
        begin_suppress_tokens=None, **size,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.WhisperForConditionalGeneration(config)
    generation = model.generation_config
    generation._from_model_config = False  # else it is made anew when the model is loaded
    generation.lang_to_id = {f"<|{code}|>": ids[f"<|{code}|>"] for code in ("en", "de")}
    generation.task_to_id = {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]}
    generation.no_timestamps_token_id, generation.is_multilingual = ids["<|notimestamps|>"], True
    generation.suppress_tokens, generation.begin_suppress_tokens, generation.max_length = [1], None, 12
    model.save_pretrained(folder)
    transformers.WhisperProcessor(transformers.WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_whisper_transcribes_any_length_in_its_languages_and_repeats_itself(whisper):
    recognise = Whisper(str(whisper))
    assert [recognise.understands(lang) for lang in ("en", "de", "nl", None)] == [True, True, False, True]
    speech = 0.1 * np.random.default_rng(0).standard_normal(31 * 16_000).astype(np.float32)
    long, short = recognise(speech, "de"), recognise(speech[: 30 * 16_000], "de")
    assert long.startswith(short)
    assert recognise(speech, "de") == long
    assert isinstance(recognise(np.zeros(0, np.float32), "en"), str)
