import pytest
import torch

import speechtok
from examples.speech_lm.voice import load_voice
from speechtok.errors import FingerprintError, InputError, TokensError
from speechtok.voice import VoiceModel


def test_a_voice_completes_codes_as_its_model_does_whole_and_in_a_stream(tiny, speech, prompt, voice_model):
    voice = load_voice(tiny, prompt, voice_model, "a high voice", seed=5)
    said, heard = tiny.encode(speech(0.3), 16_000), tiny.encode(*speechtok.read_audio(prompt))
    expected = VoiceModel(tiny, voice_model).complete(said, heard, "a high voice", 5)
    tokens = voice.complete(said)
    assert torch.equal(tokens.codes, expected.codes)
    assert tokens.generated_by == voice.model.name
    stream = voice.stream()
    assert torch.equal(torch.cat([stream.push(said.codes[:, 0]), stream.flush()], 2), expected.codes)
    assert not torch.equal(load_voice(tiny, heard, voice_model, seed=6).complete(said).codes, expected.codes)


def test_without_a_prompt_there_is_no_voice(tiny):
    assert load_voice(tiny, None) is None


def test_a_voice_that_cannot_be_used_is_refused_when_it_is_loaded(tiny, new_tokenizer, speech, prompt, voice_model):
    with pytest.raises(InputError, match=r"voice-model is .* without a voice; expected --voice PROMPT"):
        load_voice(tiny, None, voice_model)
    with pytest.raises(InputError, match="hihg"):
        load_voice(tiny, prompt, voice_model, "a hihg voice")
    with pytest.raises(TokensError, match="prompt 0 has"):
        load_voice(tiny, tiny.encode(speech(0.1), 16_000), voice_model)
    with pytest.raises(FingerprintError, match="load the tokenizer that it was trained for"):
        load_voice(new_tokenizer(seed=1), prompt, voice_model)
    with pytest.raises(FingerprintError, match="there is no voice model for tokenizer"):
        load_voice(tiny, prompt)
