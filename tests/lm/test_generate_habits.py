"""``generate`` of transformers in the ways that users call it, with a small Llama and a small Qwen."""

import pytest
import torch
from transformers import LogitsProcessorList

from speechtok.lm import AudioStreamer, SpeechLogitsProcessor
from tests.lm.conftest import FAMILIES, make_language_model

TEXTS = ["Say: hello world<|speech_begin|>", "What<|speech_begin|>"]
LENGTH = 14


@pytest.fixture(params=list(FAMILIES))
def family(request):
    return request.param


@pytest.fixture
def model(family, one):
    return make_language_model(family, one)


@pytest.fixture
def generate(model, one):
    """``generate(texts, **options)``: the new ids."""

    def run(texts=TEXTS[:1], **options):
        prompt = one(texts, padding_side="left")
        ids = model.generate(
            **prompt,
            **{
                "max_new_tokens": LENGTH,
                "do_sample": False,
                "eos_token_id": one.vocabulary.eos_id,
                "pad_token_id": one.pad_id,
                "logits_processor": LogitsProcessorList([SpeechLogitsProcessor(one.vocabulary)]),
                **options,
            },
        )
        return ids[:, prompt["input_ids"].shape[1] :]

    return run


def check_valid(processor, ids):
    """Rows continue an utterance validly, and have speech."""
    v = processor.vocabulary
    for row in ids.tolist():
        row = [id_ for id_ in row if id_ != processor.pad_id]
        assert v.to_codes([v.bos_id, *row]).codes.shape[1] == v.num_codebooks
        assert row


def test_a_batch_with_padding_on_the_left_writes_what_its_rows_write_alone(generate, one):
    batch = generate(TEXTS)
    check_valid(one, batch)
    for row, text in zip(batch, TEXTS, strict=True):
        alone = generate([text])[0]
        assert row[: len(alone)].tolist() == alone.tolist()


def test_a_static_cache_gives_the_ids_of_the_default_cache(generate):
    assert torch.equal(generate(cache_implementation="static"), generate())


def test_assisted_decoding_gives_the_ids_of_the_model_alone(generate, one, family):
    for seed in (0, 1):  # an assistant that agrees, and one that does not
        assistant = make_language_model(family, one, seed)
        assert torch.equal(generate(assistant_model=assistant), generate())


def test_a_draft_from_the_prompt_gives_the_ids_of_the_model_alone(generate):
    texts = ["Say: hello hello hello<|speech_begin|>"]
    assert torch.equal(generate(texts, prompt_lookup_num_tokens=3), generate(texts))


def test_beams_and_several_sequences_are_valid_speech(generate, one):
    beams = generate(TEXTS, num_beams=3, num_return_sequences=3)
    assert len(beams) == 6
    check_valid(one, beams)
    assert len({tuple(row) for row in beams[:3].tolist()}) == 3
    torch.manual_seed(0)
    samples = generate(num_return_sequences=4, do_sample=True)
    check_valid(one, samples)
    assert len({tuple(row) for row in samples.tolist()}) == 4


def test_a_streamer_plays_what_assisted_and_static_generation_return(generate, one, family):
    tok = one.speech_tokenizer
    for options in (
        {"cache_implementation": "static"},
        {"assistant_model": make_language_model(family, one)},  # several ids arrive at once
        {"prompt_lookup_num_tokens": 2},
    ):
        chunks = []
        ids = generate(**options, streamer=AudioStreamer(one.vocabulary, tok, chunks.append))[0].tolist()
        spoken = one.vocabulary.to_codes([one.vocabulary.bos_id, *ids], strict=False)
        assert torch.equal(torch.cat(chunks), tok.decode(spoken)[0]), options


def test_a_streamer_of_several_sequences_is_refused(generate, one):
    streamer = AudioStreamer(one.vocabulary, one.speech_tokenizer, print)
    for options in ({"num_beams": 2}, {"texts": TEXTS}):
        with pytest.raises(ValueError, match=r"streamer|batch of one"):
            generate(**options, streamer=streamer)
