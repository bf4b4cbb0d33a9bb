from pathlib import Path

import pytest
import torch

import speechtok
from examples.speech_lm import train
from examples.speech_lm.evaluate import _with_text_of, memorisation
from examples.speech_lm.prepare import prepare
from examples.speech_lm.talker import Talker
from examples.speech_lm.voice import load_voice
from speechtok.errors import InputError
from tests.examples.speech_lm.conftest import grid_of

pytestmark = pytest.mark.slow  # the models are trained first


def test_with_phones_utterances_are_memorised_and_transcribed(trained_with_phones):
    talker = Talker(Path(trained_with_phones.out) / "model")
    utterances = prepare(trained_with_phones, talker.tokenizer, "train")
    figures = memorisation(talker, utterances)
    assert figures["utterances with exact codes"] == figures["utterances"] == 2
    assert figures["character error rate of transcripts"] == 0
    for utterance in utterances:
        letters = "".join(phone.letter for word in utterance.words for phone in word.phones)
        assert talker.transcribe(utterance.tokens) == (utterance.text, letters)
        spoken = talker.say(utterance.text)
        assert spoken.words == utterance.words
        other = next(other for other in utterances if other is not utterance)
        assert talker.transcript_nll(spoken) < talker.transcript_nll(_with_text_of(spoken, other))


@pytest.mark.parametrize("by_phones", [False, True])
def test_streamed_audio_equals_the_decoded_utterance(trained, trained_with_phones, by_phones):
    folder = Path((trained_with_phones if by_phones else trained).out) / "model"
    talker, chunks = Talker(folder), []
    spoken = talker.say("über 12 boote", play=chunks.append)
    assert len(chunks) > 3
    assert torch.equal(torch.cat(chunks), talker.tokenizer.decode(spoken.tokens)[0])


@pytest.mark.parametrize("by_phones", [False, True])
def test_audio_streamed_in_a_voice_equals_the_decoded_utterance(
    trained, trained_with_phones, by_phones, prompt, voice_model
):
    folder = Path((trained_with_phones if by_phones else trained).out) / "model"
    talker, chunks = Talker(folder), []
    voice = load_voice(talker.tokenizer, prompt, voice_model, "a high voice", seed=2)
    spoken = talker.say("über 12 boote", play=chunks.append, voice=voice)
    assert len(chunks) > 3
    assert torch.equal(torch.cat(chunks), talker.tokenizer.decode(voice.complete(spoken.tokens))[0])


def test_the_candidate_with_the_most_likely_transcript_is_kept(trained):
    talker = Talker(Path(trained.out) / "model")
    utterance = prepare(trained, talker.tokenizer, "train")[0]
    right, wrong = utterance.tokens.codes[0, :1], torch.zeros(1, 30, dtype=torch.int64)
    talker._generate_codes = lambda *_, **__: [wrong, right, wrong[:, :0]]
    assert torch.equal(talker.say(utterance.text, candidates=3).tokens.codes[0], right)


def test_a_continuation_is_cut_to_the_requested_duration(trained, data):
    talker = Talker(Path(trained.out) / "model")
    tokens = talker.tokenizer.encode(*speechtok.read_audio(data / "dev0.flac"))
    requested = []

    def generate_codes(prompt, seconds, candidates, temperature, min_seconds):
        requested.append((seconds, min_seconds))
        before = talker.vocabulary.to_codes(prompt[0]).codes[0]
        assert torch.equal(before, tokens.codes[0, :1])
        return [torch.cat([before, torch.arange(1000)[None] % 32], 1)]

    talker._generate_codes = generate_codes
    assert talker.continue_speech(tokens, 0.5).tolist() == list(range(25))
    assert requested == [(0.5, 0.25)]


def test_a_model_of_another_stage_is_refused(values):
    with pytest.raises(InputError, match="a model of the stage speech; expected one of the stage language"):
        Talker(train.train(grid_of(values, steps=1)))


def test_generated_tokens_say_what_generated_them(trained):
    assert Talker(Path(trained.out) / "model").say("yes").tokens.generated_by == "examples.speech_lm"
