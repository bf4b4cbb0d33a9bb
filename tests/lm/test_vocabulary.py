from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import speechtok
from speechtok.errors import FingerprintError, TokensError, VocabularyError
from speechtok.lm import CoarseFirst, Delay, Flatten, Line, Parallel, Semantic, TokenizerFacts, cells

from ..conftest import make_tokenizer  # isort: skip


@dataclass(frozen=True)
class FinestNext(Line):
    """A pattern of a user's own: codebook 0 of a frame, then the others from the last one back."""

    name: ClassVar[str] = "finest_next"

    def places(self, frames, num_codebooks):
        frame, codebook = cells(frames, num_codebooks)
        return frame * num_codebooks + (-codebook) % num_codebooks


LINES = [Flatten(), Semantic(), Semantic(4), CoarseFirst(), Delay(), Delay((0, 2, 2, 2)), FinestNext()]
PATTERNS = [*LINES, Parallel(), Parallel((0, 1, 2, 3)), Parallel((0, 2, 0, 1))]
FACTS = TokenizerFacts(16_000, 320, 32, 4, "0123456789abcdef")


def tokens_of(codes, lengths=None, facts=FACTS):
    lengths = torch.full((len(codes),), codes.shape[2]) if lengths is None else torch.tensor(lengths)
    codes = codes.masked_fill(torch.arange(codes.shape[2]) >= lengths[:, None, None], 0)
    return speechtok.SpeechTokens(codes, lengths, lengths * 320, 16_000, 320, 32, facts.fingerprint)


@st.composite
def spoken(draw, patterns=tuple(PATTERNS)):
    """A vocabulary and tokens for it, with runs."""
    pattern = draw(st.sampled_from(patterns))
    fixed = getattr(pattern, "delays", None) is not None
    most = pattern.most_codebooks or 4
    num_codebooks = 4 if fixed else draw(st.integers(1, most))
    offset = 0 if isinstance(pattern, Parallel) else draw(st.sampled_from([0, 1, 1000]))
    vocab = speechtok.AudioVocabulary(FACTS, pattern, num_codebooks, offset)
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=3))
    seed, values = draw(st.integers(0, 2**31)), draw(st.sampled_from([1, 3, 32]))
    codes = torch.randint(values, (len(lengths), 4, max(lengths)), generator=torch.Generator().manual_seed(seed))
    return vocab, tokens_of(codes, lengths)


@given(spoken())
def test_ids_are_exact_inverses_of_codes(case):
    vocab, tokens = case
    ids = vocab.to_ids(tokens)
    again = vocab.to_codes(ids)
    assert torch.equal(again.codes, tokens.codes[:, : vocab.num_codebooks])
    assert torch.equal(again.lengths, tokens.lengths)
    assert again.fingerprint == FACTS.fingerprint


@settings(max_examples=30)
@given(spoken())
def test_ids_never_collide_with_those_of_the_text(case):
    vocab, tokens = case
    ids = vocab.to_ids(tokens)
    assert not ids.numel() or (int(ids.min()) >= vocab.offset and int(ids.max()) < vocab.end)
    assert vocab.is_grid or len(set(vocab.tokens)) == vocab.size


@settings(max_examples=30)
@given(spoken())
def test_any_prefix_decodes_to_whole_frames_and_more_ids_to_more(case):
    vocab, tokens = case
    row, codes = vocab.to_ids(tokens)[0], tokens[0].codes[0]
    said = 0
    for length in range(len(row) + 1):
        got = vocab.to_codes(row[:length]).codes[0]
        assert torch.equal(got, codes[: len(got), : got.shape[1]])
        assert got.numel() >= said
        assert torch.equal(got, vocab.to_codes(row[:length], strict=False).codes[0])
        said = got.numel()
    assert said == codes[: vocab.num_codebooks].numel()


@settings(max_examples=25)
@given(spoken(), st.data())
def test_continuations_are_exactly_what_can_follow(case, data):
    vocab, tokens = case
    row = vocab.to_ids(tokens[0])[0]
    for length in range(len(row)):
        allowed, following = vocab.continuations(row[:length]), row[length]
        if vocab.is_grid:
            may = allowed.gather(-1, following[..., None])[:, 0]
            # codebook 0 alone tells the end: heads cannot agree on it
            assert bool(may[0])
            assert bool((may | (following == vocab.end_id)).all())
        else:
            assert bool(allowed[following])
    if not vocab.is_grid:
        refused = (~vocab.continuations(row[:-1])).nonzero().flatten().tolist()
        for id_ in data.draw(st.lists(st.sampled_from(refused), max_size=4)):
            with pytest.raises(VocabularyError):
                vocab.to_codes([*row[:-1].tolist(), id_, vocab.end_id])


@settings(max_examples=25)
@given(spoken(), st.data())
def test_whatever_follows_continuations_is_valid(case, data):
    vocab, _ = case
    seed = data.draw(st.integers(0, 2**31))
    random = torch.Generator().manual_seed(seed)
    step = torch.full((vocab.num_codebooks,), vocab.begin_id) if vocab.is_grid else torch.tensor(vocab.begin_id)
    row = step[None]
    for _ in range(30):
        weights = vocab.continuations(row).float()
        weights[..., vocab.end_id] *= 4  # ends come early enough to be seen
        step = torch.multinomial(weights, 1, generator=random)
        row = torch.cat([row, step.T if vocab.is_grid else step])
        vocab.to_codes(row)
        if not vocab.is_grid and int(step) == vocab.end_id:
            break


@settings(max_examples=60)
@given(spoken(), st.data())
def test_reading_id_by_id_gives_what_reading_at_once_does(case, data):
    vocab, tokens = case
    row = vocab.to_ids(tokens[0])[0][1:].clone()
    if len(row) > 1 and data.draw(st.booleans()):  # something wrong in it, anywhere
        place = data.draw(st.integers(0, len(row) - 1))
        row[place] = data.draw(st.integers(0, vocab.end - 1))
        assume(not (row[0] == vocab.begin_id).any())  # that is right: the mark was left off for the reader only
    row = row[: data.draw(st.integers(0, len(row)))]
    reader, parts = vocab.reader(), []
    for step in row.reshape(-1, vocab.num_codebooks if vocab.is_grid else 1).tolist():
        try:
            symbols = [value - vocab.first_code for value in step]
            if min(symbols) < 0 or (not vocab.is_grid and step[0] in (vocab.end_id, vocab.begin_id)):
                break
            parts.append(reader.take(symbols))
        except VocabularyError:
            break
    expected = vocab.to_codes(row, strict=False).codes[0]
    codes = torch.cat([torch.zeros(vocab.num_codebooks, 0, dtype=torch.int64), *parts], 1)
    rest = reader.finish()
    assert torch.equal(torch.cat([codes[: len(rest)], rest], 1), expected)


@given(spoken(), st.lists(st.integers(-5, 5000), max_size=20), st.data())
def test_nothing_that_a_model_writes_is_an_error_without_strict(case, noise, data):
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


@pytest.fixture(scope="module")
def vocab():
    return speechtok.AudioVocabulary(FACTS, "flatten", offset=100)


@pytest.fixture(scope="module")
def row(vocab):
    return vocab.to_ids(torch.arange(12).view(1, 4, 3))[0].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: [5, *ids], r"id 5, which is none of 100 to"),
        (lambda ids: ids[1:], r"begins with a code of codebook 0 .*expected <\|speech_begin\|>"),
        (lambda ids: [*ids[:2], 99, *ids[2:]], r"id 99.* at place 2; expected a code of codebook 1"),
        (lambda ids: [*ids[:2], ids[3], ids[2], *ids[4:]], "codebook 2 .* at place 2; expected a code of codebook 1"),
        (lambda ids: [*ids[:2], *ids], "utterances cannot be nested"),
        (lambda ids: [*ids[:3], ids[-1]], r"<\|speech_end\|>.* within a frame; expected a code of codebook 2"),
        (lambda ids: [*ids, *ids], "after the end of its utterance"),
        (lambda ids: [*ids[:5], 10**9, *ids[5:]], r"1000000000.*expected a code of codebook 0 .* or the mark"),
        (lambda ids: [[*ids], [0, *ids]], "row 1"),
    ],
)
def test_what_is_wrong_with_ids_is_said_with_the_way_out(vocab, row, change, message):
    with pytest.raises(VocabularyError, match=message) as error:
        vocab.to_codes(change(row))
    assert "strict=False" in str(error.value)
    vocab.to_codes(change(row), strict=False)


@pytest.mark.parametrize("ids", ["ids", [1.5], [[True]], torch.zeros(2, 2, 2, dtype=torch.int64), [["x"]], None, {}])
def test_what_is_no_ids_is_an_error_always(vocab, ids):
    with pytest.raises(VocabularyError, match="expected"):
        vocab.to_codes(ids, strict=False)


def test_interrupted_speech_is_spoken_as_far_as_it_is_valid(vocab, row):
    codes = torch.arange(12).view(1, 4, 3)
    broken = [*row[:7], 3, *row[7:]]  # a text in the midst of frame 1
    assert torch.equal(vocab.to_codes(broken, strict=False).codes, codes[:, :, :1])
    assert torch.equal(vocab.to_codes(row[1:9], strict=False).codes, codes[:, :, :2])  # without its mark


def test_interrupted_coarse_first_keeps_all_frames_with_whole_codebooks():
    vocab, codes = speechtok.AudioVocabulary(FACTS, "coarse_first"), torch.arange(12).view(1, 4, 3)
    ids = vocab.to_ids(codes)[0]
    assert torch.equal(vocab.to_codes(ids[: 1 + 3 + 3 + 2]).codes, codes[:, :2])
    assert torch.equal(vocab.to_codes(ids[: 1 + 2]).codes, codes[:, :1, :2])


def test_runs_are_shorter_and_can_be_undone():
    vocab = speechtok.AudioVocabulary(FACTS, Semantic(4))
    codes = torch.tensor([[[7] * 6 + [3] + [9] * 4]]).expand(1, 4, -1)
    ids = vocab.to_ids(codes)
    named = [vocab.tokens[i] for i in ids[0].tolist()]
    assert named[1:-1] == [
        *("<|speech_0_7|>", "<|speech_run_4|>", "<|speech_0_7|>", "<|speech_run_2|>"),
        *("<|speech_0_3|>", "<|speech_0_9|>", "<|speech_run_4|>"),
    ]
    assert torch.equal(vocab.to_codes(ids).codes, codes[:, :1])
    with pytest.raises(VocabularyError, match=r"a run .* at place 1; expected a code"):
        vocab.to_codes([vocab.begin_id, vocab.size - 1])


def test_ids_and_names_are_where_the_documentation_says():
    vocab = speechtok.AudioVocabulary(FACTS, "flatten", offset=50)
    assert vocab.tokens[vocab.first_code - 50 + 2 * 32 + 5] == "<|speech_2_5|>"
    marks = [vocab.tokens[i - 50] for i in (vocab.begin_id, vocab.end_id, vocab.pad_id, vocab.slot_id)]
    assert marks == ["<|speech_begin|>", "<|speech_end|>", "<|speech_pad|>", "<|speech|>"]
    assert vocab.end == 50 + 4 + 4 * 32


def test_a_grid_has_codes_as_ids_and_late_codebooks_wait():
    vocab = speechtok.AudioVocabulary(FACTS, Parallel((0, 1, 1, 1)), 4)
    ids = vocab.to_ids(torch.arange(8).view(1, 4, 2))[0]
    b, e, p = vocab.begin_id, vocab.end_id, vocab.pad_id
    assert (b, e, p) == (32, 33, 34)
    assert ids.tolist() == [[b] * 4, [0, p, p, p], [1, 2, 4, 6], [e, 3, 5, 7], [e] * 4]
    ids[1, 1] = 5
    with pytest.raises(VocabularyError, match=r"step 1; expected what the pattern 'parallel'"):
        vocab.to_codes(ids)


def test_spans_find_speech_in_a_mixed_sequence(vocab, row):
    mixed = [1, 2, *row, 3, *row[:4], *row, 4, *row[:6]]
    n = len(row)
    assert vocab.spans(mixed) == [
        *(slice(2, 2 + n), slice(3 + n, 7 + n), slice(7 + n, 7 + 2 * n), slice(8 + 2 * n, 14 + 2 * n)),
    ]


def test_outside_of_speech_text_may_follow_and_no_codes(vocab, row):
    for ids in ([], [1, 2], [1, *row], [*row, 5]):
        allowed = vocab.continuations(ids).nonzero().flatten().tolist()
        assert allowed == [*range(100), vocab.begin_id]


def test_after_what_cannot_be_in_speech_only_its_end_may_follow(vocab, row):
    assert vocab.continuations([*row[:3], row[1]]).nonzero().flatten().tolist() == [vocab.end_id]


def test_tokens_of_another_tokenizer_and_too_few_codebooks_are_refused(vocab):
    with pytest.raises(FingerprintError, match="fedcba"):
        vocab.to_ids(tokens_of(torch.zeros(1, 4, 2, dtype=torch.int64), facts=replace(FACTS, fingerprint="fedcba")))
    with pytest.raises(TokensError, match="num_codebooks=2"):
        vocab.to_ids(torch.zeros(1, 2, 2, dtype=torch.int64))
    with pytest.raises(TokensError, match="0 to 31"):
        vocab.to_ids(torch.full((1, 4, 2), 32))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_vocabulary_comes_back_from_plain_values(pattern):
    vocab = speechtok.AudioVocabulary(FACTS, pattern)
    own = pattern if isinstance(pattern, FinestNext) else None
    assert speechtok.AudioVocabulary.from_dict(vocab.to_dict(), own) == vocab
    if own:
        with pytest.raises(VocabularyError, match="one of your own"):
            speechtok.AudioVocabulary.from_dict(vocab.to_dict())
        with pytest.raises(VocabularyError, match="the one that was saved"):
            speechtok.AudioVocabulary.from_dict(vocab.to_dict(), Flatten())


@pytest.mark.parametrize("values", [{}, {"pattern": 3}, {"pattern": {"name": "flatten"}, "tokenizer": {}}])
def test_what_describes_no_vocabulary_is_refused(values):
    with pytest.raises(VocabularyError, match="describes no vocabulary"):
        speechtok.AudioVocabulary.from_dict(values)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"num_codebooks": 0}, {"num_codebooks": 5}, {"num_codebooks": True}, {"offset": -1}, {"offset": 1.5}),
        *({"pattern": "semantic", "num_codebooks": 2}, {"pattern": "parallel", "offset": 9}, {"tokenizer": "mine"}),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_used_are_refused(arguments):
    with pytest.raises(VocabularyError, match="expected"):
        speechtok.AudioVocabulary(**{"tokenizer": FACTS, **arguments})


def test_it_knows_its_tokenizer_and_what_comes_back_decodes(speech):
    tok = make_tokenizer()
    tokens = tok.encode(speech(0.3), 16_000)
    vocab = speechtok.AudioVocabulary(tok, pattern="delay")
    assert vocab.fingerprint == tok.fingerprint
    again = tok.decode(vocab.to_codes(vocab.to_ids(tokens)))
    assert torch.equal(again[:, : int(tokens.num_samples)], tok.decode(tokens))


@pytest.mark.parametrize("pattern", LINES + PATTERNS[-3:], ids=str)
def test_what_tensors_are_made_of_by_default_does_not_matter(pattern):
    # as torch.set_default_device("cuda") does for a whole program
    codes = torch.randint(32, (2, 4, 9), generator=torch.Generator().manual_seed(0))
    tokens = tokens_of(codes, [9, 5])
    expected = speechtok.AudioVocabulary(FACTS, pattern).to_ids(tokens)
    with torch.device("meta"):
        vocab = speechtok.AudioVocabulary(FACTS, pattern)
        ids = vocab.to_ids(tokens)
        assert torch.equal(ids, expected)
        back = vocab.to_codes(ids)
        vocab.continuations(expected[0][: len(expected[0]) // 2])
        reader = vocab.reader()
        steps = (expected[0][1:-1] - vocab.first_code).view(-1, 4 if vocab.is_grid else 1).tolist()
        read = torch.cat([*map(reader.take, steps), reader.finish()], 1)
    assert torch.equal(back.lengths, tokens.lengths)
    assert torch.equal(read, back[0].codes[0])


@pytest.mark.parametrize(
    "ids", [torch.tensor([4, 5]).to_sparse(), torch.tensor([4, 5]).to("meta")], ids=["sparse", "meta"]
)
def test_ids_that_are_no_dense_tensor_are_refused(ids):
    vocab = speechtok.AudioVocabulary(FACTS)
    for use in (vocab.to_codes, vocab.continuations, vocab.spans, lambda ids: vocab.to_codes([ids, ids])):
        with pytest.raises(
            VocabularyError, match=r"row 0 of ids is sparse or without values .*; expected a dense tensor"
        ):
            use(ids)


def test_numbers_may_be_numpys_and_an_offset_is_no_more_than_ids_can_be():
    vocab = speechtok.AudioVocabulary(FACTS, num_codebooks=np.int64(2), offset=np.int32(7))
    assert vocab == speechtok.AudioVocabulary(FACTS, num_codebooks=2, offset=7)
    with pytest.raises(VocabularyError, match="offset is"):
        speechtok.AudioVocabulary(FACTS, offset=2**63)
