from collections.abc import Callable

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

import speechtok
from speechtok.lm import Semantic, SpeechProcessor, extend_model

CORPUS = ["Say the sentence: hello world.", "What was said in this recording?", "über 12 Boote, naïve café …"] * 3

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _wrapped(tokenizer: Tokenizer, **special_tokens: str) -> PreTrainedTokenizerFast:
    text_tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)
    text_tokenizer.chat_template = CHAT
    return text_tokenizer


def sentencepiece_style() -> PreTrainedTokenizerFast:
    """Unigram pieces with ▁ for spaces, as in Llama 2 and T5."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrapped(tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def bpe_style() -> PreTrainedTokenizerFast:
    """Lower-cased words with an end marker, as in the first GPT: its normalizer would change our tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=150, special_tokens=["<unk>", "</s>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return _wrapped(tokenizer, unk_token="<unk>", eos_token="</s>")


def tiktoken_style() -> PreTrainedTokenizerFast:
    """Bytes split by a regular expression, with special tokens after the words, as in GPT-4, Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    pattern = r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True), AddedToken("</s>", special=True)])
    return _wrapped(tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


STYLES = {"sentencepiece": sentencepiece_style, "bpe": bpe_style, "tiktoken": tiktoken_style}


@pytest.fixture(params=list(STYLES))
def text_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """A new text tokenizer of each kind."""
    return STYLES[request.param]()


@pytest.fixture
def tiktoken() -> PreTrainedTokenizerFast:
    return tiktoken_style()


@pytest.fixture
def new_model() -> Callable[..., LlamaForCausalLM]:
    def make(ids: int, tied: bool = True) -> LlamaForCausalLM:
        config = LlamaConfig(
            vocab_size=ids,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        return LlamaForCausalLM(config).eval()

    return make


@pytest.fixture
def processor(text_tokenizer, tiny):
    return SpeechProcessor(text_tokenizer, tiny, speechtok.AudioVocabulary(tiny, Semantic(8)))


@pytest.fixture
def one(tiktoken, tiny):
    """A processor with one text tokenizer, for tests where its kind does not matter."""
    return SpeechProcessor(tiktoken, tiny, speechtok.AudioVocabulary(tiny, "flatten"))


@pytest.fixture
def tokens(tiny, speech):
    audio = torch.stack([torch.from_numpy(speech(0.2, seed)) for seed in (0, 1)])
    return tiny.encode(audio, 16_000, lengths=[3200, 1700])


@pytest.fixture
def one_semantic(tiktoken, tiny):
    """A processor of codebook 0 alone."""
    return SpeechProcessor(tiktoken, tiny, speechtok.AudioVocabulary(tiny, "semantic"))


SIZES = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.5,  # random scores far apart: no ties, whatever the order of sums
}
FAMILIES = {"llama": (LlamaConfig, True), "qwen2": (Qwen2Config, False)}
"""Configs by name, and whether the embeddings are tied."""


def make_language_model(family: str, processor: SpeechProcessor, seed: int = 0) -> PreTrainedModel:
    """A small model of random weights, which knows the ids of a processor."""
    kind, tied = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = kind(vocab_size=processor.vocabulary.offset, tie_word_embeddings=tied, **SIZES)
        model = AutoModelForCausalLM.from_config(config)
    extend_model(model, processor.vocabulary, processor.speech_tokenizer)
    return model.eval()
