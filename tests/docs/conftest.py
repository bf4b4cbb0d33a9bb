"""A folder with everything that the snippets name: audio, tokens, tokenizers, and small models for those of the hub."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import speechtok

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_audio(folder: Path, speech: Callable[..., Any]) -> None:
    """``in.wav``, ``voice.wav``, the folders ``recordings`` and ``corpus``, and the data set ``DIR``."""
    speechtok.write_audio(folder / "in.wav", speech(1.5), 16_000)
    speechtok.write_audio(folder / "voice.wav", speech(3.0, 1), 16_000)
    for name in ("recordings", "corpus", "DIR"):
        (folder / name).mkdir()
        for index in range(6 if name == "DIR" else 3):
            speechtok.write_audio(folder / name / f"{index}.wav", speech(1.0, index), 16_000)
    phones = [["SIL", 0, 0.3], ["AH", 0.3, 1.0]]
    rows = [{"audio": f"{index}.wav", "phones": phones, "text": "good morning", "lang": "en"} for index in range(6)]
    for name, count in {"train": 6, "dev": 1, "test": 2}.items():
        (folder / "DIR" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows[:count])), encoding="utf-8")


def write_tokenizers(folder: Path) -> None:
    """``in.tokens``, the default as ``tokenizer`` and under other names, and the same with another decoder."""
    tok = speechtok.load()
    tok.encode(*speechtok.read_audio(folder / "in.wav")).save(folder / "in.tokens")
    tok.save(folder / "tokenizer")
    for name in ("runs/25hz/tokenizer", "runs/trial/tokenizer", "org/name"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(folder / "tokenizer")
    with torch.no_grad():
        tok.decoder.head.bias.mul_(0.5)
    tok.save(folder / "other-decoder")


def write_language_model(folder: Path) -> None:
    """A text tokenizer of bytes and a small Llama."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    end = "<|endoftext|>"
    trainer = trainers.BpeTrainer(vocab_size=257, initial_alphabet=alphabet, special_tokens=[end], show_progress=False)
    tokenizer.train_from_iterator([], trainer)
    text = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end, chat_template=CHAT)
    text.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(text),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def write_codecs(folder: Path) -> None:
    """Small codecs of transformers, and a small SpeechTokenizer as it was published."""
    from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

    from benchmarks.seanet_speed import BASE, Reference, write_published

    encodec = EncodecConfig(num_filters=4, hidden_size=16, target_bandwidths=[1.5, 3.0])
    EncodecModel(encodec).save_pretrained(folder / "facebook/encodec_24khz")
    dac = DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=32, hidden_size=64, n_codebooks=2, codebook_size=64,
        downsampling_ratios=[2, 4, 5, 8], upsampling_ratios=[8, 5, 4, 2], sampling_rate=16_000,
    )  # fmt: skip
    DacModel(dac).save_pretrained(folder / "descript/dac_16khz")
    mimi = MimiConfig(
        num_filters=4, hidden_size=16, codebook_size=64, codebook_dim=8, vector_quantization_hidden_dimension=8,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8, intermediate_size=16,
        num_quantizers=2, upsample_groups=16,
    )  # fmt: skip
    MimiModel(mimi).save_pretrained(folder / "kyutai/mimi")
    small = {**BASE, "n_filters": 2, "dimension": 8, "semantic_dimension": 4, "codebook_size": 16, "n_q": 3}
    published = folder / "fnlp/SpeechTokenizer/speechtokenizer_hubert_avg"
    published.mkdir(parents=True)
    write_published(Reference(small), small, published)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory, speech: Callable[..., Any]) -> Path:
    """The folder. A name on the hub, such as ``kyutai/mimi``, is a folder in it, which every loader prefers."""
    folder = tmp_path_factory.mktemp("sandbox")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        write_audio(folder, speech)
        write_tokenizers(folder)
        write_language_model(folder / "Qwen/Qwen2.5-0.5B")
        write_codecs(folder)
    return folder
