"""Audio in the voice of a prompt while a language model writes semantic codes."""

import pytest
import torch

from speechtok import AudioVocabulary
from speechtok.errors import InputError, VocabularyError
from speechtok.lm import AudioStreamer
from tests.voice.networks import LOOKAHEAD, make_voice_model


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return make_voice_model(tiny, tmp_path_factory.mktemp("voice") / "voice.safetensors")


@pytest.fixture(scope="module")
def prompt(tiny, speech):
    return tiny.encode(speech(0.6, seed=2), 16_000)


def play(vocabulary, tokenizer, ids, voice, joined=False):
    chunks = []
    streamer = AudioStreamer(vocabulary, tokenizer, chunks.append, joined, voice)
    streamer.put(torch.tensor([[0]]))
    for id_ in ids:
        streamer.put(torch.tensor([id_]))
    counts = len(chunks)
    streamer.end()
    return chunks, counts


def test_semantic_ids_are_played_in_the_voice_of_the_prompt(tiny, model, prompt, speech):
    vocabulary = AudioVocabulary(tiny, "semantic", offset=1)
    tokens = vocabulary.to_codes(vocabulary.to_ids(tiny.encode(speech(0.4), 16_000))[0])
    ids = vocabulary.to_ids(tokens)[0].tolist()
    chunks, early = play(vocabulary, tiny, ids + ids, lambda: model.stream(prompt))
    expected = tiny.decode(model.complete(tokens, prompt))[0]
    assert torch.equal(torch.cat(chunks), torch.cat([expected, expected]))
    assert early > tokens.codes.shape[2]  # of the first utterance at least, before the end


def test_audio_comes_as_soon_as_the_lookahead_is_there(tiny, model, prompt, speech):
    vocabulary = AudioVocabulary(tiny, "semantic", offset=1)
    codes = vocabulary.to_ids(tiny.encode(speech(0.4), 16_000))[0]
    chunks = []
    streamer = AudioStreamer(vocabulary, tiny, chunks.append, voice=lambda: model.stream(prompt))
    streamer.put(torch.tensor([[vocabulary.bos_id]]))
    frames = 0
    for id_ in codes[1:-1]:
        streamer.put(id_[None])
        frames += len(vocabulary.to_codes(torch.tensor([vocabulary.bos_id, id_, vocabulary.eos_id])).codes[0, 0])
        assert sum(map(len, chunks)) == max(0, frames - LOOKAHEAD - 1) * tiny.hop_length


def test_pieces_of_an_utterance_have_no_seam(tiny, model, prompt, speech):
    vocabulary = AudioVocabulary(tiny, "semantic", offset=1)
    tokens = vocabulary.to_codes(vocabulary.to_ids(tiny.encode(speech(0.4), 16_000))[0])
    pieces = [tokens.crop(0, 7), tokens.crop(7, tokens.codes.shape[2])]
    ids = [id_ for piece in pieces for id_ in [*vocabulary.to_ids(piece)[0].tolist(), 0]]
    chunks, _ = play(vocabulary, tiny, ids, lambda: model.stream(prompt), joined=True)
    assert torch.equal(torch.cat(chunks), tiny.decode(model.complete(tokens, prompt))[0])


def test_a_vocabulary_with_acoustic_codes_needs_no_voice(tiny, model, prompt):
    with pytest.raises(VocabularyError, match="codebook 0 alone"):
        AudioStreamer(AudioVocabulary(tiny, "flatten"), tiny, print, voice=lambda: model.stream(prompt))


def test_a_stream_in_place_of_what_opens_one_is_named(tiny, model, prompt):
    with pytest.raises(InputError, match=r"voice is .*lambda: model\.stream\(prompt\)"):
        AudioStreamer(AudioVocabulary(tiny, "semantic"), tiny, print, voice=model.stream(prompt))
