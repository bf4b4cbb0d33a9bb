import json
import math
from pathlib import Path

import pytest
import torch

from examples.speech_lm import phone_writer, talker, train
from examples.speech_lm.evaluate import evaluate, phone_agreement, phones_of_codes
from examples.speech_lm.phones import Phone, Word
from examples.speech_lm.prepare import TokenizedUtterance
from speechtok.errors import InputError
from speechtok.tokens import SpeechTokens
from tests.examples.speech_lm.conftest import config_of, voice_of


@pytest.mark.slow
def test_memorised_utterances_are_synthesized_exactly_and_transcribed(trained):
    config, _ = trained
    figures = evaluate(config)
    assert figures["utterances with exact codes"] == figures["utterances"] == 2
    assert figures["frames with the exact code"] == 1
    assert figures["character error rate of transcripts"] == 0
    assert json.loads((Path(config.out) / "evaluation.json").read_text()) == figures


@pytest.mark.slow
@pytest.mark.parametrize("phones", [False, True])
def test_dev_is_measured_beside_a_trigram_and_its_sentences_are_synthesized(
    values, trained, monkeypatch, phones, lexicon
):
    monkeypatch.setattr(talker, "MAX_SECONDS", 0.5)  # an undertrained model does not end an utterance
    monkeypatch.setattr(talker, "MAX_TEXT_IDS", 20)
    monkeypatch.setattr(talker, "MAX_PHONES", 3)
    monkeypatch.setattr(phone_writer, "MAX_PHONES", 3)
    config = config_of(values, lexicon=lexicon if phones else "")
    train.train(config)
    figures = evaluate(config, str(trained[1]), sentences=2, candidates=2)
    assert all(math.isfinite(value) for value in figures.values())
    if phones:
        assert 0 < figures["phone agreement, original"] <= 1
    assert phones == ("phone error rate, transcripts" in figures)
    assert phones == ("phone error rate, generated pronunciations" in figures)
    assert 1 < figures["perplexity of a trigram"] < 100
    assert 1 < figures["perplexity"] < 1000
    given = "phones" if phones else "text"
    own, other = figures[f"perplexity given the {given}"], figures[f"perplexity given other {given}"]
    assert own != other or phones  # only one sentence has phones
    assert {path.suffix for path in (Path(config.out) / "said").iterdir()} == {".wav", ".json"}


def test_frames_whose_code_belongs_to_their_phone_are_counted():
    def utterance(codes: list[int], letters: str) -> TokenizedUtterance:
        frames = torch.tensor([len(codes)])
        tokens = SpeechTokens(torch.tensor([[codes]]), frames, 320 * frames, 16_000, 320, 4, "")
        return TokenizedUtterance("", letters, "", tokens, (Word(letters, tuple(Phone(x, 1) for x in letters)),))

    phones = phones_of_codes([utterance([0, 0, 1, 1, 1], "aabbA"), utterance([0, 3], "b_")], 4)
    assert phones == ["a", "b", "", "_"]
    assert phone_agreement([utterance([0, 1, 2, 0, 3], "abb__")], phones) == pytest.approx(2 / 3)


def test_a_voice_cannot_be_evaluated_alone(values):
    with pytest.raises(InputError, match="stage is voice"):
        evaluate(voice_of(values))
