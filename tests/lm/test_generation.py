import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList

import speechtok
from speechtok.errors import FingerprintError, InputError, VocabularyError
from speechtok.lm import AudioStreamer, Parallel, Semantic, SpeechLogitsProcessor, extend_model

from ..conftest import make_tokenizer  # isort: skip

TOK = make_tokenizer()
OFFSET = 20
VOCABULARIES = [
    *(speechtok.AudioVocabulary(TOK, name, offset=OFFSET) for name in ("flatten", "semantic", "coarse_first", "delay")),
    speechtok.AudioVocabulary(TOK, Semantic(4), offset=OFFSET),
    speechtok.AudioVocabulary(TOK, "flatten", 2, offset=OFFSET),
    speechtok.AudioVocabulary(TOK, "parallel"),
    speechtok.AudioVocabulary(TOK, Parallel((0, 1, 1, 2))),
]


def played(vocab, prompt, generated, joined=False):
    """The chunks of a streamed generation."""
    chunks = []
    streamer = AudioStreamer(vocab, TOK, chunks.append, joined)
    streamer.put(torch.tensor(prompt).T if vocab.is_grid else torch.tensor(prompt)[None])
    for step in generated:
        streamer.put(torch.tensor(step).view(-1))
    streamer.end()
    return chunks


def joined(chunks):
    return torch.cat([torch.zeros(0), *chunks])


def codes_of(frames, seed=0):
    codes = torch.randint(32, (1, 4, frames), generator=torch.Generator().manual_seed(seed))
    codes[:, 0] //= 16  # runs
    return codes


@pytest.mark.parametrize("vocab", VOCABULARIES, ids=repr)
@pytest.mark.parametrize("frames", [0, 1, 2, 9])
def test_streamed_audio_equals_decoding_the_whole_utterance(vocab, frames):
    ids = vocab.to_ids(codes_of(frames))[0]
    for cut in (0, 1, len(ids) // 2, len(ids)):  # ids in the prompt
        prompt, generated = ids[:cut].tolist(), ids[cut:].tolist()
        if not cut:
            prompt = [[0] * vocab.num_codebooks] if vocab.is_grid else [1, 2]
        audio = joined(played(vocab, prompt, generated))
        whole = TOK.decode(vocab.to_codes(ids))[0]
        heard = vocab.to_codes(ids[:cut]) if cut else None
        if cut == len(ids) and not vocab.is_grid:
            assert not len(audio)  # speech of the prompt is not played
        elif vocab.pattern.name != "coarse_first":
            assert torch.equal(audio, whole[0 if heard is None else int(heard.num_samples) :])
        elif cut <= 1:
            assert torch.equal(audio, whole)


@settings(max_examples=40)
@given(
    st.sampled_from(VOCABULARIES), st.lists(st.integers(-3, 3000), max_size=12), st.integers(0, 20), st.integers(1, 6)
)
def test_the_valid_prefix_of_any_generation_is_played(vocab, noise, place, frames):
    steps = vocab.to_ids(codes_of(frames))[0].tolist()
    noise = [[value] * vocab.num_codebooks if vocab.is_grid else value for value in noise]
    generated = [*steps[:place], *noise]
    audio = joined(played(vocab, [[0] * vocab.num_codebooks] if vocab.is_grid else [1, 2], generated))
    if noise and vocab.bos_id in (noise[0][:1] if vocab.is_grid else noise):
        return  # another utterance starts
    expected = TOK.decode(vocab.to_codes(generated or [], strict=False))[0] if place else torch.zeros(0)
    assert len(audio) == len(expected)
    if vocab.pattern.name != "coarse_first":  # its end is played with fewer codebooks
        assert torch.equal(audio, expected)


def test_the_first_audio_is_played_after_the_fewest_ids():
    for name, first in (("flatten", 2 * 4), ("delay", 4 * 5 // 2 + 4), ("semantic", 2), ("coarse_first", 3 * 9 + 2)):
        vocab = speechtok.AudioVocabulary(TOK, name)
        chunks = []
        streamer = AudioStreamer(vocab, TOK, chunks.append)
        streamer.put(torch.tensor([[vocab.bos_id]]))
        for count, id_ in enumerate(vocab.to_ids(codes_of(9))[0, 1:], 1):
            streamer.put(id_[None])
            assert bool(chunks) == (count >= first), name


def test_a_streamer_plays_several_utterances_and_can_be_reused():
    vocab = VOCABULARIES[0]
    one, two = vocab.to_ids(codes_of(3, 1))[0].tolist(), vocab.to_ids(codes_of(2, 2))[0].tolist()
    expected = [TOK.decode(codes_of(3, 1))[0], TOK.decode(codes_of(2, 2))[0]]
    audio = joined(played(vocab, [1], [*one, 5, *two, 6]))
    assert torch.equal(audio, torch.cat(expected))
    audio = joined(played(vocab, [1], [*one[:-1], *two]))  # without its end token
    assert torch.equal(audio, torch.cat(expected))
    chunks = []
    streamer = AudioStreamer(vocab, TOK, chunks.append)
    for ids in (one, two):
        streamer.put(torch.tensor([[1, 2]]))
        for id_ in ids:
            streamer.put(torch.tensor([id_]))
        streamer.end()
    assert torch.equal(joined(chunks), torch.cat(expected))


@pytest.mark.parametrize("vocab", [v for v in VOCABULARIES if not v.is_grid], ids=repr)
def test_joined_pieces_with_text_between_them_are_played_without_a_seam(vocab):
    tokens = vocab.to_codes(vocab.to_ids(codes_of(12))[0])
    pieces = [tokens.crop(start, stop) for start, stop in ((0, 3), (3, 3), (3, 4), (4, 12))]
    ids = [[5, *vocab.to_ids(piece)[0].tolist(), 6, 7] for piece in pieces]
    written = list(itertools.chain.from_iterable(ids))
    listened = vocab.to_ids(codes_of(5, seed=1))[0].tolist()  # a complete utterance in the prompt
    whole = TOK.decode(tokens)[0]
    for _ in range(2):
        assert torch.equal(joined(played(vocab, [1, *listened], written, joined=True)), whole)
    begun = [1, *listened, *ids[0][:-4]]  # the prompt ends in the first piece
    heard = int(vocab.to_codes(ids[0][1:-4]).num_samples)
    if vocab.pattern.name != "coarse_first":
        audio = joined(played(vocab, begun, written[len(ids[0]) - 4 :], joined=True))
        assert torch.equal(audio, whole[heard:])
    apart = joined(played(vocab, [1, *listened], written))
    assert torch.equal(apart, torch.cat([TOK.decode(piece)[0] for piece in pieces]))
    assert not torch.equal(apart, whole)


def test_several_sequences_and_another_tokenizer_are_refused():
    streamer = AudioStreamer(VOCABULARIES[0], TOK, print)
    with pytest.raises(InputError, match="batch of one"):
        streamer.put(torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(FingerprintError, match="pass the tokenizer"):
        AudioStreamer(VOCABULARIES[0], make_tokenizer(1), print)


@pytest.mark.parametrize("vocab", [v for v in VOCABULARIES if not v.is_grid], ids=repr)
def test_an_untrained_model_generates_valid_speech_and_it_is_played(vocab, new_model):
    torch.manual_seed(0)
    model = new_model(OFFSET + 3)
    extend_model(model, vocab, TOK)
    prompt = torch.tensor([[1, 2, vocab.bos_id]])
    chunks = []
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        max_new_tokens=30,
        eos_token_id=vocab.eos_id,
        pad_token_id=0,
        logits_processor=LogitsProcessorList([SpeechLogitsProcessor(vocab)]),
        streamer=AudioStreamer(vocab, TOK, chunks.append),
    )
    tokens = vocab.to_codes(out[0, 2:])  # strict
    if vocab.pattern.name != "coarse_first":
        assert torch.equal(joined(chunks), TOK.decode(tokens)[0])


def test_beam_search_gives_valid_speech(new_model):
    torch.manual_seed(0)
    vocab, model = VOCABULARIES[3], new_model(OFFSET)
    extend_model(model, vocab, TOK)
    prompt = torch.tensor([[1, vocab.bos_id], [2, vocab.bos_id]])
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        num_beams=3,
        max_new_tokens=15,
        pad_token_id=vocab.pad_id,
        logits_processor=LogitsProcessorList([SpeechLogitsProcessor(vocab)]),
    )
    for row in out:
        for span in vocab.spans(row):
            vocab.to_codes(row[span])


def test_outside_of_speech_any_text_is_allowed_and_codes_are_not():
    vocab = VOCABULARIES[0]
    scores = SpeechLogitsProcessor(vocab)(torch.tensor([[1, 2], [1, vocab.bos_id]]), torch.zeros(2, vocab.stop_id + 3))
    assert scores[0].isfinite().nonzero().flatten().tolist() == [
        *(*range(OFFSET), vocab.bos_id),
        *range(vocab.stop_id, vocab.stop_id + 3),
    ]
    first = [*range(vocab.first_code, vocab.first_code + 32)]
    assert scores[1].isfinite().nonzero().flatten().tolist() == [vocab.eos_id, *first]


def test_each_head_of_a_grid_is_masked_by_its_delay():
    vocab = VOCABULARIES[-1]  # delays 0, 1, 1, 2
    rows = torch.tensor([[vocab.bos_id, 3]] * 4)
    rows[1:, 1] = vocab.pad_id
    scores = SpeechLogitsProcessor(vocab)(rows, torch.zeros(4, vocab.size))
    allowed = [row.isfinite().nonzero().flatten().tolist() for row in scores]
    codes = [*range(32)]
    assert allowed == [[*codes, vocab.eos_id], codes, codes, [vocab.pad_id]]


def test_a_model_with_fewer_ids_than_the_vocabulary_is_refused():
    with pytest.raises(VocabularyError, match="extend_model"):
        SpeechLogitsProcessor(VOCABULARIES[0])(torch.tensor([[1]]), torch.zeros(1, OFFSET))
