from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import speechtok
from speechtok.errors import VocabularyError
from speechtok.lm import Parallel, Pattern, Semantic
from speechtok.lm.layout import first_true, make_format

from .cases import INFO, INTERLEAVED_PATTERNS, PATTERNS, utterances, vocabularies


@settings(max_examples=30)
@given(utterances())
def test_ids_are_those_of_the_vocabulary_and_not_of_the_text(case):
    vocab, tokens = case
    ids = vocab.to_ids(tokens)
    assert not ids.numel() or (int(ids.min()) >= vocab.offset and int(ids.max()) < vocab.stop_id)
    assert vocab.is_grid or len(set(vocab.tokens)) == vocab.size


@settings(max_examples=30)
@given(utterances())
def test_any_prefix_decodes_to_complete_frames_and_longer_ones_to_more(case):
    vocab, tokens = case
    row, codes = vocab.to_ids(tokens)[0], tokens[0].codes[0]
    count = 0
    for length in range(len(row) + 1):
        got = vocab.to_codes(row[:length]).codes[0]
        assert torch.equal(got, codes[: len(got), : got.shape[1]])
        assert got.numel() >= count
        assert torch.equal(got, vocab.to_codes(row[:length], strict=False).codes[0])
        count = got.numel()
    assert count == codes[: vocab.num_codebooks].numel()


@settings(max_examples=25)
@given(utterances(), st.data())
def test_continuations_are_exactly_the_ids_that_can_follow(case, data):
    vocab, tokens = case
    row = vocab.to_ids(tokens[0])[0]
    for length in range(len(row)):
        allowed, following = vocab.continuations(row[:length]), row[length]
        if vocab.is_grid:
            is_allowed = allowed.gather(-1, following[..., None])[:, 0]
            # codebook 0 alone ends the utterance: heads of one step do not see each other
            assert bool(is_allowed[0])
            assert bool((is_allowed | (following == vocab.eos_id)).all())
        else:
            assert bool(allowed[following])
    if not vocab.is_grid:
        refused = (~vocab.continuations(row[:-1])).nonzero().flatten().tolist()
        for id_ in data.draw(st.lists(st.sampled_from(refused), max_size=4)):
            with pytest.raises(VocabularyError):
                vocab.to_codes([*row[:-1].tolist(), id_, vocab.eos_id])


@settings(max_examples=25)
@given(vocabularies(), st.integers(0, 2**31))
def test_ids_drawn_from_continuations_are_valid(vocab, seed):
    random = torch.Generator().manual_seed(seed)
    step = torch.full((vocab.num_codebooks,), vocab.bos_id) if vocab.is_grid else torch.tensor(vocab.bos_id)
    row = step[None]
    for _ in range(30):
        weights = vocab.continuations(row).float()
        weights[..., vocab.eos_id] *= 4  # so that some utterances end
        step = torch.multinomial(weights, 1, generator=random)
        row = torch.cat([row, step.T if vocab.is_grid else step])
        vocab.to_codes(row)
        if not vocab.is_grid and int(step) == vocab.eos_id:
            break


@pytest.mark.slow
@given(utterances(), st.lists(st.integers(-5, 5000), max_size=20), st.data())
def test_generated_ids_are_never_an_error_without_strict(case, noise, data):
    vocab, tokens = case
    row = vocab.to_ids(tokens)[0]
    place = data.draw(st.integers(0, len(row)))
    shape = (-1, vocab.num_codebooks) if vocab.is_grid else (-1,)
    noise = noise[: len(noise) // vocab.num_codebooks * vocab.num_codebooks]
    mixed = torch.cat([row[:place], torch.tensor(noise, dtype=torch.int64).view(shape), row[place:]])
    vocab.to_codes(mixed, strict=False)
    vocab.continuations(mixed)
    if not vocab.is_grid:
        vocab.spans(mixed)


@settings(max_examples=30)
@given(utterances(tuple(PATTERNS[-3:])), st.data())
def test_a_wrong_id_of_a_grid_is_named_with_its_codebook(case, data):
    vocab, tokens = case
    row = vocab.to_ids(tokens[0])[0]
    place, q = data.draw(st.integers(1, len(row) - 1)), data.draw(st.integers(0, vocab.num_codebooks - 1))
    row[place, q] = vocab.stop_id
    message = ""
    try:
        vocab.to_codes(row)
    except VocabularyError as error:
        message = str(error)
    # where codebook 0 ends, codebooks without a delay may have any id
    at_end = vocab.pattern.codebook_delays(vocab.num_codebooks)[q] == 0 and row[place, 0] == vocab.eos_id
    assert f"for codebook {q}. Pass strict=False" in message or (at_end and not message)


@pytest.fixture(scope="module")
def vocab():
    return speechtok.AudioVocabulary(INFO, "flatten", offset=100)


@pytest.fixture(scope="module")
def row(vocab):
    return vocab.to_ids(torch.arange(12).view(1, 4, 3))[0].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: [5, *ids], r"the id 5, which is not one of 100 to 231"),
        (lambda ids: ids[1:], r"starts with a code of codebook 0 .*expected <\|speech_begin\|>"),
        (lambda ids: [*ids[:2], 99, *ids[2:]], r"id 99.* at position 2; expected a code of codebook 1"),
        (
            lambda ids: [*ids[:2], ids[3], ids[2], *ids[4:]],
            "codebook 2 .* at position 2; expected a code of codebook 1",
        ),
        (lambda ids: [*ids[:2], *ids], "utterances cannot be nested"),
        (lambda ids: [*ids[:3], ids[-1]], r"<\|speech_end\|>.* within a frame; expected a code of codebook 2"),
        (lambda ids: [*ids, *ids], "after the end of the utterance"),
        (
            lambda ids: [*ids[:5], 10**9, *ids[5:]],
            r"1000000000.*expected a code of codebook 0 .* or the token <\|speech_e",
        ),
        (lambda ids: [[*ids], [0, *ids]], "row 1"),
    ],
)
def test_a_wrong_id_is_described_with_the_way_out(vocab, row, change, message):
    with pytest.raises(VocabularyError, match=message) as error:
        vocab.to_codes(change(row))
    assert "strict=False" in str(error.value)
    vocab.to_codes(change(row), strict=False)


def test_an_interrupted_utterance_keeps_its_valid_frames(vocab, row):
    codes = torch.arange(12).view(1, 4, 3)
    broken = [*row[:7], 3, *row[7:]]  # text within frame 1
    assert torch.equal(vocab.to_codes(broken, strict=False).codes, codes[:, :, :1])
    assert torch.equal(vocab.to_codes(row[1:9], strict=False).codes, codes[:, :, :2])  # no start token


def test_an_interrupted_coarse_first_utterance_keeps_all_frames_with_complete_codebooks():
    vocab, codes = speechtok.AudioVocabulary(INFO, "coarse_first"), torch.arange(12).view(1, 4, 3)
    ids = vocab.to_ids(codes)[0]
    assert torch.equal(vocab.to_codes(ids[: 1 + 3 + 3 + 2]).codes, codes[:, :2])
    assert torch.equal(vocab.to_codes(ids[: 1 + 2]).codes, codes[:, :1, :2])


def test_run_lengths_shorten_runs():
    vocab = speechtok.AudioVocabulary(INFO, Semantic(4))
    codes = torch.tensor([[[7] * 6 + [3] + [9] * 4]]).expand(1, 4, -1)
    ids = vocab.to_ids(codes)
    names = [vocab.tokens[i] for i in ids[0].tolist()]
    assert names[1:-1] == [
        *("<|speech_0_7|>", "<|speech_run_4|>", "<|speech_0_7|>", "<|speech_run_2|>"),
        *("<|speech_0_3|>", "<|speech_0_9|>", "<|speech_run_4|>"),
    ]
    assert torch.equal(vocab.to_codes(ids).codes, codes[:, :1])
    with pytest.raises(VocabularyError, match=r"a run length .* at position 1; expected a code"):
        vocab.to_codes([vocab.bos_id, vocab.size - 1])


def test_ids_and_names_are_as_documented():
    vocab = speechtok.AudioVocabulary(INFO, "flatten", offset=50)
    assert vocab.tokens[vocab.first_code - 50 + 2 * 32 + 5] == "<|speech_2_5|>"
    special = [vocab.tokens[i - 50] for i in (vocab.bos_id, vocab.eos_id, vocab.pad_id, vocab.placeholder_id)]
    assert special == ["<|speech_begin|>", "<|speech_end|>", "<|speech_pad|>", "<|speech|>"]
    assert vocab.stop_id == 50 + 4 + 4 * 32


def test_a_grid_has_codes_as_ids_and_padding_before_delayed_codebooks():
    vocab = speechtok.AudioVocabulary(INFO, Parallel((0, 1, 1, 1)), 4)
    ids = vocab.to_ids(torch.arange(8).view(1, 4, 2))[0]
    b, e, p = vocab.bos_id, vocab.eos_id, vocab.pad_id
    assert (b, e, p) == (32, 33, 34)
    assert ids.tolist() == [[b] * 4, [0, p, p, p], [1, 2, 4, 6], [e, 3, 5, 7], [e] * 4]
    ids[1, 1] = 5
    with pytest.raises(VocabularyError, match=r"at position 1; expected <\|speech_pad\|> \(34\) for codebook 1"):
        vocab.to_codes(ids)


@pytest.mark.parametrize("use", [lambda v: v.tokens, lambda v: v.placeholder_id, lambda v: v.spans([[0] * 4])])
def test_a_grid_cannot_be_mixed_with_text(use):
    with pytest.raises(VocabularyError, match="cannot be mixed with text; expected an interleaved pattern"):
        use(speechtok.AudioVocabulary(INFO, "parallel"))


def test_spans_find_speech_in_a_mixed_sequence(vocab, row):
    mixed = [1, 2, *row, 3, *row[:4], *row, 4, *row[:6]]
    n = len(row)
    assert vocab.spans(mixed) == [
        *(slice(2, 2 + n), slice(3 + n, 7 + n), slice(7 + n, 7 + 2 * n), slice(8 + 2 * n, 14 + 2 * n)),
    ]


def test_outside_of_speech_text_may_follow_and_codes_may_not(vocab, row):
    for ids in ([], [1, 2], [1, *row], [*row, 5]):
        allowed = vocab.continuations(ids).nonzero().flatten().tolist()
        assert allowed == [*range(100), vocab.bos_id]


def test_after_an_invalid_id_in_speech_only_the_end_may_follow(vocab, row):
    assert vocab.continuations([*row[:3], row[1]]).nonzero().flatten().tolist() == [vocab.eos_id]


@pytest.mark.parametrize("pattern", INTERLEAVED_PATTERNS + PATTERNS[-3:], ids=str)
def test_the_default_device_does_not_matter(pattern):
    # as torch.set_default_device("cuda") does for a whole program
    codes = torch.randint(32, (2, 4, 9), generator=torch.Generator().manual_seed(0))
    expected = speechtok.AudioVocabulary(INFO, pattern).to_ids(codes)
    with torch.device("meta"):
        vocab = speechtok.AudioVocabulary(INFO, pattern)
        ids = vocab.to_ids(codes)
        assert torch.equal(ids, expected)
        back = vocab.to_codes(ids)
        vocab.continuations(expected[0][: len(expected[0]) // 2])
        parser = vocab.parser()
        steps = (expected[0][1:] - vocab.first_code).view(-1, 4 if vocab.is_grid else 1)[:-1].tolist()
        steps = [step for step in steps if min(step) >= 0]
        parsed = torch.cat([*map(parser.feed, steps), parser.finish()], 1)
    assert torch.equal(back.lengths, torch.tensor([9, 9]))
    assert torch.equal(parsed, back[0].codes[0])


def test_a_pattern_of_another_base_class_is_refused():
    @dataclass(frozen=True)
    class Other(Pattern):
        name: ClassVar[str] = "other"

        def validate(self, num_codebooks):
            pass

    with pytest.raises(VocabularyError, match="is a Other; expected a subclass of InterleavedPattern or"):
        make_format(Other(), 4, 32, 0)


@given(st.lists(st.booleans(), max_size=10))
def test_first_true_is_the_first_index_or_the_length(values):
    assert first_true(torch.tensor(values, dtype=torch.bool)) == [*values, True].index(True)
