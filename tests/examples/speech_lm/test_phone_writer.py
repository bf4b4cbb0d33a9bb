from pathlib import Path

import pytest
import torch

from examples.speech_lm import phone_writer, talker, train
from examples.speech_lm.phone_writer import PhoneWriter, write_batch
from examples.speech_lm.talker import Talker
from speechtok.errors import InputError
from tests.examples.speech_lm.conftest import config_of


@pytest.mark.slow
@pytest.mark.parametrize("candidates", [1, 3])
def test_every_word_is_spoken_once_and_every_phone_ends(values, candidates, lexicon, monkeypatch):
    monkeypatch.setattr(talker, "MAX_SECONDS", 100.0)
    untrained = Talker(train.train(config_of(values, lexicon=lexicon, steps=1)))
    spoken = untrained._generate_speech("any, WORDS!", candidates, 2.0)
    assert len(spoken) == candidates
    for utterance in spoken:
        assert [word.text for word in utterance.words if word.text] == ["any", "words"]
        frames = [(phone.letter, phone.frames) for word in utterance.words for phone in word.phones]
        assert sum(n for _, n in frames) == utterance.tokens.codes.shape[2]
        # a run of 16 frames may end a phone with one frame left
        assert all(1 <= n <= (60 if letter == "_" else 30) + 15 for letter, n in frames)
        assert all(1 <= len(word.phones) <= 24 for word in utterance.words)
    with pytest.raises(InputError, match="has no words; expected something to pronounce"):
        untrained.say("...")


def test_an_utterance_that_is_too_long_is_cut_between_words(values, lexicon, monkeypatch):
    monkeypatch.setattr(talker, "MAX_SECONDS", 0.1)
    untrained = Talker(train.train(config_of(values, lexicon=lexicon, steps=1)))
    spoken = untrained.say("one two three four five six seven", temperature=1.0)
    words = [word.text for word in spoken.words if word.text]
    assert words == ["one", "two", "three", "four", "five", "six", "seven"][: len(words)]
    assert len(words) < 7


@pytest.mark.slow
def test_unconditional_scores_are_those_of_the_codes_alone(trained_with_phones, monkeypatch):
    model = Talker(Path(trained_with_phones.out) / "model")
    v, written, calls = model.vocabulary, [], []

    def recorded(writer):
        request = next(writer)
        while True:
            written.append((yield request))
            try:
                request = writer.send(written[-1])
            except StopIteration as stop:
                return stop.value

    def sample_speech(scores, unconditional, symbols, *_):
        calls.append((len(written), unconditional, symbols))
        return int(torch.multinomial(torch.softmax(scores, 0), 1))

    monkeypatch.setattr(phone_writer, "sample_speech", sample_speech)
    prompt = model.processor("Say: good über\n")["input_ids"]
    writer = PhoneWriter(model.processor, ["good", "über"], 16.0).write()
    ((codes, words),) = write_batch(model.model, prompt, [recorded(writer)], v, 1.0, guidance=2.0)
    assert [word.text for word in words if word.text] == ["good", "über"]
    assert len(calls) > codes.shape[1] / 16
    for count, unconditional, symbols in calls:
        codes_alone = [v.bos_id, *(i for i in written[:count] if i >= v.first_code)]
        with torch.inference_mode():
            logits = model.model(input_ids=torch.tensor([codes_alone])).logits[0, -1]
        assert torch.allclose(unconditional, logits[symbols + v.first_code], atol=1e-4)
