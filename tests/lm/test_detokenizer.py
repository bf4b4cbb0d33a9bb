import itertools

import pytest
import torch

from speechtok.lm import SpeechDetokenizer


def read(processor, ids, prompt=(), step=1):
    """Text and audio of a stream of ids."""
    stream = SpeechDetokenizer(processor, prompt)
    pieces = [piece for start in range(0, len(ids), step) for piece in stream.feed(ids[start : start + step])]
    pieces += stream.end()
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return text, torch.cat([torch.zeros(0), *(piece for piece in pieces if not isinstance(piece, str))]), pieces


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_streamed_text_and_audio_equal_those_of_the_whole_sequence(processor, tokens, step):
    text = "über naïve café<|speech|> 12 Boote …<|speech|>hello world"
    ids = processor(text, [tokens])["input_ids"][0].tolist()
    said = processor.decode(ids)
    streamed, audio, pieces = read(processor, ids, step=step)
    assert streamed == said.replace("<|speech|>", "")
    decode = processor.speech_tokenizer.decode
    assert torch.equal(audio, torch.cat([decode(one)[0] for one in said.speech]))
    kinds = [kind for kind, _ in itertools.groupby(type(piece) for piece in pieces)]
    assert kinds == [str, torch.Tensor, str, torch.Tensor, str]


def test_characters_of_several_ids_arrive_whole(one):
    ids = one("naïve 🗣 café")["input_ids"][0].tolist()
    _, _, pieces = read(one, ids)
    assert "".join(pieces) == one.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)
    cut = one("🗣")["input_ids"][0].tolist()[:-1]  # the generation was stopped within a character
    assert read(one, cut)[0] == one.decode(cut)


def test_speech_of_the_prompt_is_continued_and_not_played(one, tokens):
    ids = one.vocabulary.to_ids(tokens[0])[0].tolist()
    whole = one.speech_tokenizer.decode(one.vocabulary.to_codes(ids))[0]
    cut = 1 + 3 * one.vocabulary.num_codebooks
    _, audio, _ = read(one, ids[cut:], prompt=ids[:cut])
    assert torch.equal(audio, whole[3 * one.speech_tokenizer.hop_length :])


def test_any_ids_are_accepted(one):
    v = one.vocabulary
    text, audio, _ = read(one, [v.eos_id, 5, v.bos_id, v.first_code, 6, v.placeholder_id, v.bos_id, v.stop_id + 9])
    assert not len(audio)
    assert text == one.decode([5, 6]).text


def test_requests_do_not_meet(one, tokens):
    ids = [one.vocabulary.to_ids(tokens[row])[0].tolist() for row in range(2)]
    streams, pieces = [SpeechDetokenizer(one) for _ in range(2)], [[], []]
    for pair in zip(*ids, strict=False):
        for stream, row, id_ in zip(streams, pieces, pair, strict=True):
            row += stream.feed([id_])
    for row, stream in enumerate(streams):
        done = min(map(len, ids))
        pieces[row] += stream.feed(ids[row][done:]) + stream.end()
        whole = one.speech_tokenizer.decode(one.vocabulary.to_codes(ids[row]))[0]
        assert torch.equal(torch.cat(pieces[row]), whole)
