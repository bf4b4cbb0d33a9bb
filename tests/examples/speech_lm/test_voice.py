import pytest
import torch

from examples.speech_lm.voice import UNKNOWN, Voice, fill

pytestmark = pytest.mark.slow  # the models are trained first


def test_a_voice_keeps_codebook_0_of_any_length(trained):
    voice = Voice(trained[1])
    reference = torch.randint(0, 32, (3, 40))
    for frames in (1, voice.frames, 2 * voice.frames + 3):
        codes = torch.randint(0, 32, (frames,))
        for known in (None, reference):
            completed = voice(codes, known)
            assert completed.shape == (3, frames)
            assert torch.equal(completed[0], codes)
            assert 0 <= int(completed.min()) <= int(completed.max()) < 32


def test_unknown_codes_are_the_most_likely_ones(trained):
    voice = Voice(trained[1])
    v = voice.vocabulary
    given = torch.randint(0, 32, (3, 8))
    given[1:] = UNKNOWN
    filled = fill(voice.model, v, given, temperature=0.0)
    ids = v.to_ids(filled[None])
    with torch.inference_mode():
        logits = voice.model(input_ids=ids).logits[0, :-2]  # at each id for the next one, without the end token
    for position, id_ in enumerate(ids[0, 1:-1].tolist()):
        first = v.first_code + (id_ - v.first_code) // 32 * 32
        if first > v.first_code:
            assert int(logits[position, first : first + 32].argmax()) == id_ - first
