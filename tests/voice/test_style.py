"""Styles in words, numbers and tokens, and as measured."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtok.errors import InputError
from speechtok.voice.prosody import Prosody
from speechtok.voice.style import BOUNDS, NUM_STEPS, QUANTITIES, STYLE_TOKENS, WORDS, Style, as_style
from tests.voice.voices import RATE, make_noise, make_voice

STYLES = st.builds(Style, **{name: st.sampled_from([None, *words]) for name, words in WORDS.items()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a high, lively, soft voice", {"pitch": "high", "range": "lively", "energy": "soft"}),
        ("Soft and very high voice.", {"pitch": "very high", "energy": "soft"}),
        ("slightly dark, monotone", {"brightness": "slightly dark", "range": "monotone"}),
        ("a voice with medium pitch and very low energy", {"pitch": "medium", "energy": "very soft"}),
        ("high-pitched, high-energy speech", {"pitch": "high", "energy": "loud"}),
        ("low range; high brightness", {"range": "monotone", "brightness": "bright"}),
        ("deep, flat and quiet", {"pitch": "low", "range": "monotone", "energy": "soft"}),
        ("a high voice, high pitch", {"pitch": "high"}),
        ("a voice", {}),
        ("", {}),
    ],
)
def test_descriptions_are_read(text, expected):
    assert Style.parse(text) == Style(**expected) == as_style(text)
    assert Style.parse(text).to_dict() == expected


def test_the_order_of_a_description_does_not_matter():
    phrases = ["very low", "slightly lively", "loud", "medium brightness"]
    assert len({Style.parse(", ".join(order) + " voice") for order in itertools.permutations(phrases)}) == 1


@given(STYLES)
@settings(max_examples=60)
def test_every_form_of_a_style_gives_it_back(style):
    assert Style.parse(str(style)) == style
    assert Style.from_dict(style.to_dict()) == style == as_style(style.to_dict())
    assert Style.from_steps(style.steps()) == style
    assert Style.from_tokens(reversed(style.tokens())) == style == as_style(style)


@given(
    st.text()
    | st.lists(st.sampled_from(["very", "slightly", "medium", "high", "soft", "pitch", "energy"])).map(" ".join)
)
@settings(max_examples=100)
def test_any_text_is_read_or_refused(text):
    try:
        style = Style.parse(text)
    except InputError as error:
        style, message = None, str(error)
    if style is None:
        assert len(message) < 400
    else:
        assert Style.parse(str(style)) == style


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a hihg voice", "the word 'hihg', which is not known; did you mean 'high'"),
        ("a lovely voice", "did you mean 'lively'"),
        ("a xylophone", "'xylophone', which is not known; expected low, high"),
        ("low and high", "asks for 'low' and 'high'; expected one pitch"),
        ("very soft, with high energy", "asks for 'very soft' and 'loud'; expected one energy"),
        ("medium pitch, deep", "asks for 'medium pitch' and 'low'; expected one pitch"),
        ("medium voice", "'medium' alone; expected 'medium pitch'"),
        ("very", "'very' before ''; expected an adjective"),
        ("very medium pitch", "'very' before 'medium'; expected an adjective"),
        ("very slightly high", "'very' before 'slightly'"),
        ("pitch", "'pitch' without an adjective; expected 'high pitch'"),
        ("loud pitch", "'loud pitch'; expected 'low', 'medium' or 'high'"),
        (7, "style is 7; expected a description"),
    ],
)
def test_a_description_that_cannot_be_read_says_why(text, message):
    with pytest.raises(InputError) as error:
        Style.parse(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"picth": "high"}, "'picth', which is not a quantity; did you mean 'pitch'"),
        ({3: "high"}, "3, which is not a quantity; expected pitch, range, energy, brightness"),
        ({"pitch": "hihg"}, "pitch is 'hihg'; did you mean 'high'"),
        ({"pitch": "loud"}, "pitch is 'loud'"),
        ({"energy": 3}, "energy is 3; expected 'soft', 'medium' or 'loud'"),
        ({"energy": "very"}, "energy is 'very'"),
        ({"energy": "x" * 10_000}, "x…x"),
        (["high"], "expected a table"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(values, message):
    with pytest.raises(InputError) as error:
        Style.from_dict(values)
    assert message in str(error.value)


def test_words_are_read_in_any_case_and_synonyms_become_the_word():
    style = Style(pitch=" Very  DEEP", energy="quiet")
    assert style.to_dict() == {"pitch": "very low", "energy": "soft"}
    assert as_style(None) == Style()
    assert Style.from_dict({"pitch": "high", "range": None}) == Style(pitch="high")


def test_steps_count_from_the_lower_word_and_0_asks_for_nothing():
    style = Style(pitch="very low", energy="medium", brightness="very bright")
    assert style.steps().dtype == torch.int64
    assert style.steps().tolist() == [1, 0, 4, NUM_STEPS]
    for bad in ([0, 0, 0], [0, 0, 0, NUM_STEPS + 1], [-1, 0, 0, 0], [0.0, 0.0, 0.0, 0.0], "1234"):
        with pytest.raises(InputError, match="expected 4 whole numbers from 0 to 7"):
            Style.from_steps(bad)


def test_tokens_have_names_of_their_own_and_are_read_in_any_order():
    assert len(set(STYLE_TOKENS)) == NUM_STEPS * len(QUANTITIES)
    style = Style(energy="soft", pitch="very high")
    assert style.tokens() == ["<|style_pitch_very_high|>", "<|style_energy_soft|>"]
    assert set(style.tokens()) <= set(STYLE_TOKENS)
    with pytest.raises(InputError, match=r"did you mean '<\|style_pitch_high\|>'"):
        Style.from_tokens(["<|style_pich_high|>"])
    with pytest.raises(InputError, match="'low' and 'high'; expected one pitch"):
        Style.from_tokens(["<|style_pitch_low|>", "<|style_pitch_high|>"])


def test_a_voice_has_the_step_between_whose_bounds_its_pitch_lies():
    edges = [BOUNDS["pitch"][0] - 2, *BOUNDS["pitch"], BOUNDS["pitch"][-1] + 2]
    for word, (low, high) in zip(WORDS["pitch"], itertools.pairwise(edges), strict=True):
        voice = make_voice(100.0 * 2 ** ((low + high) / 24), 0.6)
        assert Style.of(voice, RATE).pitch == word == Style.of(Prosody.of(voice, RATE)).pitch


def test_effort_and_melody_move_the_style_their_way():
    soft, loud = (Style.of(make_voice(140.0, tilt=tilt), RATE) for tilt in (-12.0, -4.0))
    assert (soft.energy, loud.energy) == ("very soft", "very loud")
    assert (soft.brightness, loud.brightness) == ("dark", "bright")
    flat = Style.of(make_voice(140.0), RATE)
    lively = Style.of(make_voice(lambda t: 140 * 2 ** (0.9 * np.sin(9 * t)), 1.5), RATE)
    assert (flat.range, lively.range) == ("very monotone", "very lively")


def test_what_cannot_be_measured_is_not_in_the_style():
    assert Style.of(np.zeros(RATE), RATE) == Style()
    assert Style.of(make_noise(0.5), RATE) == Style()
    assert Style.of(make_voice(140.0, rate=8_000), 8_000).brightness is None


def test_bounds_rise():
    assert set(BOUNDS) == set(QUANTITIES)
    for bounds in BOUNDS.values():
        assert len(bounds) == NUM_STEPS - 1
        assert all(np.diff(bounds) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["style", "speech"])
def test_a_text_tokenizer_takes_style_tokens_before_and_after_speech(first, tiny, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the lm extra is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers

    from speechtok.lm import AudioVocabulary, Semantic, extend_model, extend_tokenizer

    words = Tokenizer(models.WordLevel({"<unk>": 0, "hello": 1, "world": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    text_tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    vocab = AudioVocabulary(tiny, Semantic())
    if first == "style":
        text_tokenizer.add_tokens(list(STYLE_TOKENS), special_tokens=True)
    vocab = extend_tokenizer(text_tokenizer, vocab)
    if first == "speech":
        text_tokenizer.add_tokens(list(STYLE_TOKENS), special_tokens=True)
    assert extend_tokenizer(text_tokenizer, vocab) == vocab  # a second call changes nothing

    style, codes = Style(pitch="very high", energy="soft"), torch.randint(0, tiny.codebook_size, (1, 1, 9))
    style_ids = text_tokenizer.convert_tokens_to_ids(list(STYLE_TOKENS))
    assert len(set(style_ids)) == len(STYLE_TOKENS)
    assert not set(style_ids) & {0, 1, 2, *range(vocab.offset, vocab.stop_id)}
    text_tokenizer.save_pretrained(tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompt = loaded("".join(style.tokens()) + "hello world")["input_ids"]
    assert len(prompt) == 4
    assert Style.from_tokens(loaded.convert_ids_to_tokens(prompt[:2])) == style
    ids = [*prompt, *vocab.to_ids(codes)[0].tolist(), style_ids[0]]
    (span,) = vocab.spans(ids)
    assert torch.equal(vocab.to_codes(ids[span]).codes, codes)
    allowed = vocab.continuations(torch.tensor(prompt))
    assert allowed[vocab.bos_id]

    config = transformers.LlamaConfig(
        vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = transformers.LlamaForCausalLM(config)
    model.resize_token_embeddings(len(text_tokenizer), mean_resizing=False)
    extend_model(model, vocab, tiny)
    assert model(torch.tensor([ids])).logits.shape == (1, len(ids), len(text_tokenizer))


def test_quantities_are_those_of_the_prosody():
    prosody = Prosody.of(make_voice(150.0), RATE)
    assert prosody.median_pitch == pytest.approx(12 * math.log2(1.5), abs=0.1)
    assert Style.of(prosody).to_dict().keys() == set(QUANTITIES)
