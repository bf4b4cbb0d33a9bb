import gc
import itertools
import random
import threading
import time
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from speechtok import NO_CODE, ConvNeXtConfig, ConvNeXtTokenizer, Stream
from speechtok.errors import AudioError, InputError, StreamError, TokensError

HOP = 320


def offline(tok: ConvNeXtTokenizer, waveform: Tensor) -> Tensor:
    """Codes ``(Q, T)`` of one utterance."""
    return tok.encode(waveform, tok.sample_rate).codes[0]


def cut(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """``x`` along its last axis in pieces of these sizes; the last piece is what they leave."""
    bounds = [min(b, x.shape[-1]) for b in itertools.accumulate(sizes, initial=0)]
    return [x[..., a:b] for a, b in itertools.pairwise([*bounds, x.shape[-1]])]


@pytest.fixture(scope="module")
def audio(speech) -> Tensor:
    return torch.from_numpy(speech(2.0))


chunk_sizes = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 3 * HOP), st.just(HOP)), max_size=25)


@settings(max_examples=60)
@given(samples=st.integers(1, 9_000), sizes=chunk_sizes)
def test_streamed_codes_are_those_of_the_whole(tiny, audio, samples, sizes):
    x = audio[:samples]
    with tiny.stream() as s:
        codes, frames, taken = [], 0, 0
        for chunk in cut(x, sizes):
            codes.append(s.encode(chunk))
            frames, taken = frames + codes[-1].shape[2], taken + len(chunk)
            assert frames == taken // HOP
        codes.append(s.flush())
        assert s.num_samples.tolist() == [samples]
    assert torch.equal(torch.cat(codes, 2)[0], offline(tiny, x))


@pytest.mark.parametrize("num_codebooks", [1, 3])
def test_one_sample_at_a_time(tiny, audio, num_codebooks):
    x = audio[: 5 * HOP + 7]
    with tiny.stream(num_codebooks=num_codebooks) as s:
        codes = []
        for index, sample in enumerate(x.split(1)):
            codes.append(s.encode(sample))
            # a frame comes with its last sample: the encoder looks at nothing after it
            assert codes[-1].shape == (1, num_codebooks, int((index + 1) % HOP == 0))
        codes.append(s.flush())
    assert torch.equal(torch.cat(codes, 2)[0], offline(tiny, x)[:num_codebooks])


@settings(max_examples=60)
@given(frames=st.integers(1, 30), sizes=st.lists(st.integers(0, 6), max_size=12), used=st.integers(1, 4))
def test_streamed_audio_is_that_of_the_whole_to_the_bit(tiny, audio, frames, sizes, used):
    codes = tiny.encode(audio[: frames * HOP], 16_000).codes[:, :used]
    with tiny.stream() as s:
        pieces = [s.decode(piece) for piece in cut(codes, sizes)]
        assert sum(piece.shape[1] for piece in pieces) == (frames - 1) * HOP
        pieces.append(s.drain())
    assert torch.equal(torch.cat(pieces, 1), tiny.decode(codes))


@settings(max_examples=40)
@given(data=st.data(), batch=st.integers(1, 9))
def test_rows_of_any_company_lengths_and_padding_keep_their_codes(tiny, audio, data, batch):
    lengths = data.draw(st.lists(st.integers(1, 4_000), min_size=batch, max_size=batch))
    starts = data.draw(st.lists(st.integers(0, 20_000), min_size=batch, max_size=batch))
    x = torch.full((batch, max(lengths) + data.draw(st.integers(0, 700))), 0.9)
    rows = [audio[start : start + n] for start, n in zip(starts, lengths, strict=True)]
    for padded, row in zip(x, rows, strict=True):
        padded[: len(row)] = row
    tokens = tiny.encode(x, 16_000, lengths=lengths)
    waveform = tiny.decode(tokens)
    for index, row in enumerate(rows):
        alone = tiny.encode(row, 16_000)
        assert torch.equal(tokens.codes[index, :, : tokens.lengths[index]], alone.codes[0])
        assert torch.equal(waveform[index, : len(row)], tiny.decode(alone)[0])


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_change_nothing(tiny, speech, threads):
    audio = torch.from_numpy(speech(8))  # so long that threads share it
    expected = tiny.encode(audio, 16_000)
    waveform = tiny.decode(expected)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(tiny.encode(audio, 16_000).codes, expected.codes)
        assert torch.equal(tiny.decode(expected), waveform)
        with tiny.stream() as s:
            codes = [s.encode(chunk) for chunk in audio.split(60_000)] + [s.flush()]
            sounds = [s.decode(some) for some in codes] + [s.drain()]
        assert torch.equal(torch.cat(codes, 2), expected.codes)
        assert torch.equal(torch.cat(sounds, 1)[:, : len(audio)], waveform)
    finally:
        torch.set_num_threads(before)


@settings(max_examples=40)
@given(data=st.data())
def test_rows_that_come_and_go_are_each_what_they_are_alone(tiny, audio, data):
    """A server: every row has its own caller, who brings samples at times, hangs up, and makes room for another."""
    batch = data.draw(st.integers(1, 4))
    rng = random.Random(data.draw(st.integers(0, 10_000)))
    utterances: list[list[Tensor]] = [[] for _ in range(batch)]
    codes: list[list[Tensor]] = [[] for _ in range(batch)]
    sounds: list[list[Tensor]] = [[] for _ in range(batch)]
    finished = []

    def keep(new: Tensor, heard: Tensor, lengths: Tensor) -> None:
        for row in range(batch):
            codes[row].append(new[row][:, new[row][0] != NO_CODE])
            sounds[row].append(heard[row, : lengths[row]])

    with tiny.stream(batch) as s:
        for _ in range(data.draw(st.integers(1, 12))):
            size = rng.choice([1, 160, 320, 500, 1_111])
            lengths = [rng.choice([0, size, rng.randint(0, size)]) for _ in range(batch)]
            chunk = torch.full((batch, size), 0.5)
            for row, n in enumerate(lengths):
                start = rng.randrange(10_000)
                chunk[row, :n] = audio[start : start + n]
                utterances[row].append(chunk[row, :n].clone())
            new = s.encode(chunk, lengths=lengths)
            keep(new, s.decode(new), s.audio_lengths)
            for row in rng.sample(range(batch), rng.randint(0, batch) if rng.random() < 0.3 else 0):
                new = s.flush(rows=[row])
                keep(new, s.decode(new), s.audio_lengths)
                sounds[row].append(s.drain(rows=[row])[row, : s.audio_lengths[row]])
                assert s.num_samples[row] == sum(map(len, utterances[row]))
                finished.append((utterances[row], codes[row], sounds[row]))
                utterances[row], codes[row], sounds[row] = [], [], []
                s.reset(rows=[row])
        last = s.flush()
        keep(last, s.decode(last), s.audio_lengths)
        rest = s.drain()
        for row in range(batch):
            sounds[row].append(rest[row, : s.audio_lengths[row]])
            finished.append((utterances[row], codes[row], sounds[row]))
    for pieces, row_codes, row_sounds in finished:
        x = torch.cat(pieces) if pieces else torch.zeros(0)
        if not len(x):
            assert sum(c.shape[1] for c in row_codes) == 0
            continue
        expected = tiny.encode(x, 16_000)
        assert torch.equal(torch.cat(row_codes, 1), expected.codes[0])
        assert torch.equal(torch.cat(row_sounds), tiny.decode(expected.codes)[0])


def test_a_hundred_interleaved_streams_give_what_each_gives_alone(tiny, audio):
    rng = random.Random(0)
    streams = [tiny.stream() for _ in range(100)]
    signals = [audio[(start := rng.randrange(20_000)) : start + rng.randint(1, 4_000)] for _ in streams]
    codes: list[list[Tensor]] = [[] for _ in streams]
    places = [0] * len(streams)
    while any(place < len(x) for place, x in zip(places, signals, strict=True)):
        index = rng.randrange(len(streams))
        size = rng.choice([1, 100, 320, 1_000])
        codes[index].append(streams[index].encode(signals[index][places[index] : places[index] + size]))
        places[index] += size
    for stream, kept, x in zip(streams, codes, signals, strict=True):
        kept.append(stream.flush())
        assert torch.equal(torch.cat(kept, 2)[0], offline(tiny, x))


def test_streams_in_many_threads_do_not_meet(new_tokenizer, audio):
    tok = new_tokenizer(seed=3)  # not yet used: the threads find its weights unprepared
    results: dict[int, Tensor] = {}
    ready = threading.Barrier(8)

    def caller(index: int) -> None:
        ready.wait()
        with tok.stream() as s:
            parts = [s.encode(chunk) for chunk in audio[index * 500 : index * 500 + 6_000].split(320 + index)]
            results[index] = torch.cat([*parts, s.flush()], 2)[0]

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(8):
        assert torch.equal(results[index], offline(tok, audio[index * 500 : index * 500 + 6_000]))


def test_calls_of_one_stream_from_two_threads_wait_for_each_other(new_tokenizer, audio, monkeypatch):
    tok = new_tokenizer()
    real, inside, most = tok.encode_frames, [], []

    def slowly(*arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        result = real(*arguments)
        inside.pop()
        return result

    monkeypatch.setattr(tok, "encode_frames", slowly)
    frames = []
    with tok.stream() as s:

        def caller() -> None:
            for chunk in audio[:6_400].split(100):
                frames.append(s.encode(chunk).shape[2])

        threads = [threading.Thread(target=caller) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert s.num_samples.tolist() == [12_800]
    assert sum(frames) == 40
    assert max(most) == 1


def test_a_call_that_fails_inside_leaves_the_stream_as_it_was(new_tokenizer, audio, monkeypatch):
    tok = new_tokenizer()
    with tok.stream(2) as s:
        x = audio[: 3 * HOP].repeat(2, 1)
        codes = [s.encode(x[:, :500], lengths=[500, 400])]
        audio_parts = [s.decode(codes[0])]
        with monkeypatch.context() as broken:

            def fail(*_):
                raise MemoryError

            real = tok.encode_frames
            calls = iter([real, fail])  # the second group of rows fails
            broken.setattr(tok, "encode_frames", lambda *a: next(calls)(*a))
            with pytest.raises(MemoryError):
                s.encode(x[:, 500:], lengths=[460, 460])
            broken.setattr(tok, "encode_frames", fail)
            with pytest.raises(MemoryError):
                s.flush()
            broken.setattr(tok, "decode_frames", fail)
            with pytest.raises(MemoryError):
                s.decode(codes[0])
            with pytest.raises(MemoryError):
                s.drain()
        assert s.num_samples.tolist() == [500, 400]
        codes.append(s.encode(x[:, 500:], lengths=[460, 460]))
        audio_parts.append(s.decode(codes[1]))
        assert torch.equal(torch.cat(codes, 2)[0], offline(tok, x[0]))
        assert audio_parts[1].shape[1] == 2 * HOP


def test_a_stream_opened_in_inference_mode_works_outside_and_the_other_way_round(tiny, audio):
    expected = offline(tiny, audio[:2_000])
    for first, second in ((True, False), (False, True)):
        with torch.inference_mode(first):
            stream = tiny.stream()
            codes = [stream.encode(audio[:1_000])]
            stream.decode(codes[0])
        with torch.inference_mode(second):
            codes += [stream.encode(audio[1_000:2_000]), stream.flush()]
            stream.decode(codes[1])
            stream.drain()
            stream.reset()
        assert torch.equal(torch.cat(codes, 2)[0], expected)


def test_a_stream_may_have_more_rows_than_its_chunks_have_samples(tiny):
    with tiny.stream(1_001, num_codebooks=1) as s:
        assert s.encode(torch.zeros(1_001, 1)).shape == (1_001, 1, 0)
        assert s.flush().shape == (1_001, 1, 1)


def test_pcm_and_arrays_are_taken_as_encode_takes_them(tiny, speech):
    pcm = (speech(0.5) * 32_767).astype(np.int16)
    with tiny.stream() as s:
        codes = torch.cat([s.encode(chunk) for chunk in np.array_split(pcm, 7)] + [s.flush()], 2)
    assert torch.equal(codes, tiny.encode(pcm, 16_000).codes)


@pytest.mark.parametrize("rate", [48_000, 44_100, 8_000, 11_025, 16_001])
@settings(max_examples=8)
@given(data=st.data(), batch=st.integers(1, 3))
def test_streams_of_other_sample_rates_give_the_codes_of_the_whole(tiny, speech, rate, data, batch):
    audio = torch.from_numpy(speech(0.5, sample_rate=rate))
    lengths = [data.draw(st.integers(1, len(audio))) for _ in range(batch)]
    codes: list[list[Tensor]] = [[] for _ in range(batch)]
    taken = [0] * batch

    def keep(new: Tensor) -> None:
        for row in range(batch):
            codes[row].append(new[row][:, new[row][0] != NO_CODE])

    with tiny.stream(batch, sample_rate=rate) as s:
        assert s.sample_rate == rate
        while taken != lengths:
            size = data.draw(st.sampled_from([1, rate // 50, rate // 10, rate]))
            new = [min(size, n - t) for n, t in zip(lengths, taken, strict=True)]
            chunk = torch.full((batch, size), 0.5)
            for row, n in enumerate(new):
                chunk[row, :n] = audio[taken[row] : taken[row] + n]
                taken[row] += n
            keep(s.encode(chunk, lengths=new, sample_rate=rate))
            if size > 1 and batch > 1:  # another utterance begins in a row, and the others go on
                s.reset(rows=[0])
                taken[0], codes[0] = 0, []
                lengths[0] = data.draw(st.integers(0, lengths[0] // 2))
        keep(s.flush(rows=[0]))
        keep(s.flush(rows=range(1, batch)) if batch > 1 else s.encode(torch.zeros(batch, 0)))
        for row, n in enumerate(lengths):
            expected = tiny.encode(audio[:n], rate) if n else None
            frames = torch.cat(codes[row], 1)
            assert torch.equal(frames, expected.codes[0]) if n else frames.shape[1] == 0
            assert s.num_samples[row] == (expected.num_samples if n else 0)
        s.reset()
        assert s.num_samples.tolist() == [0] * batch


def test_memory_of_a_stream_that_resamples_does_not_grow(tiny, speech):
    sizes = set()
    with tiny.stream(sample_rate=44_100) as s:
        for chunk in torch.from_numpy(speech(2.0, sample_rate=44_100)).split(882):
            s.encode(chunk)
            sizes.add(s.num_bytes)
    assert max(sizes) < min(sizes) + 10_000


def test_a_stream_of_too_many_rows_is_refused(tiny, monkeypatch):
    for batch_size in (10**9, 10**30):
        with pytest.raises(StreamError, match=f"batch_size is {batch_size}; expected at most 16384: open several"):
            tiny.stream(batch_size)

    def fail(_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(tiny, "encoder_state", fail)
    with pytest.raises(StreamError, match="there is no memory for 16384 rows"):
        tiny.stream(16_384)


@pytest.mark.parametrize("call", ["encode", "flush", "decode", "drain", "reset"])
def test_a_stream_is_closed_if_an_exception_comes_after_its_state_moved_on(tiny, audio, monkeypatch, call):
    """The exception stands for a signal handler's, which may come anywhere."""
    arguments = {"encode": [audio[:500]], "decode": [tiny.encode(audio[:700], 16_000).codes]}
    s = tiny.stream()
    s.decode(s.encode(audio[:1_000]))

    class Interrupt(BaseException):
        pass

    class Lock:
        def __enter__(self):
            pass

        def __exit__(self, *_):
            raise Interrupt

    with monkeypatch.context() as patched:
        patched.setattr(s, "_lock", Lock())
        with pytest.raises(Interrupt):
            getattr(s, call)(*arguments.get(call, []))
    with pytest.raises(StreamError, match="a call was interrupted, and its result is lost; open another"):
        s.encode(audio[:100])


def test_reset_starts_a_new_utterance(tiny, audio):
    with tiny.stream() as s:
        s.decode(s.encode(audio[:5_000]))
        s.flush()
        s.drain()
        s.reset()
        assert s.num_samples.tolist() == [0]
        codes = torch.cat([s.encode(audio[:3_000]), s.flush()], 2)
        sound = torch.cat([s.decode(codes), s.drain()], 1)
    assert torch.equal(codes[0], offline(tiny, audio[:3_000]))
    assert torch.equal(sound, tiny.decode(codes))


def test_nothing_in_nothing_out(tiny):
    with tiny.stream(2) as s:
        assert s.encode(torch.zeros(2, 0)).shape == (2, 4, 0)
        assert s.flush().shape == (2, 4, 0)
        assert s.decode(torch.zeros(2, 4, 0, dtype=torch.int64)).shape == (2, 0)
        assert s.drain().shape == (2, 0)
        assert s.audio_lengths.tolist() == [0, 0]


@pytest.mark.slow
def test_a_stream_keeps_less_than_a_megabyte_however_long_it_runs(audio):
    def everything_held(stream: Stream) -> int:
        gc.collect()
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in reachable(stream)}
        return sum(sizes.values())

    def reachable(stream: Stream) -> list[Tensor]:
        found, seen, queue = [], {id(stream._codec)}, [*vars(stream).values()]
        while queue:
            thing = queue.pop()
            if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FunctionType):
                continue
            seen.add(id(thing))
            found += [thing] if isinstance(thing, Tensor) else []
            queue += gc.get_referents(thing)
        return found

    tok = ConvNeXtTokenizer(ConvNeXtConfig())  # the size of the default
    with tok.stream() as s:
        s.decode(s.encode(audio[:1_000]))
        before = everything_held(s)
        assert s.num_bytes <= before < 1_000_000
        for chunk in (audio, audio[:7], audio[:16_000]):
            s.decode(s.encode(chunk))
            assert everything_held(s) == before


def test_a_stream_leaves_the_model_and_its_random_numbers_alone(new_tokenizer, audio):
    tok = new_tokenizer()
    fingerprint, state = tok.fingerprint, torch.get_rng_state()
    names = {name: set(vars(module)) for name, module in tok.named_modules()}
    with tok.stream() as s:
        s.decode(s.encode(audio[:2_000]))
    assert tok.fingerprint == fingerprint
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: set(vars(module)) for name, module in tok.named_modules()} == names


def test_codes_can_be_trained_on(tiny, audio):
    with torch.inference_mode(), tiny.stream() as s:
        s.encode(audio[:1_000])
    with tiny.stream() as s:
        assert not s.encode(audio[:1_000]).is_inference()


class TestMistakes:
    """Each gets its error, and the stream goes on as if the call had not been made."""

    @pytest.fixture(autouse=True)
    def stream(self, tiny, audio):
        self.tok, self.audio = tiny, audio
        with tiny.stream(2) as self.s:
            self.s.encode(audio[None, :1_000].repeat(2, 1))
            yield
            if not self.s._closed:
                self.s.reset(rows=[0])
                codes = torch.cat([self.s.encode(audio[None, 1_000:2_000].repeat(2, 1)), self.s.flush()], 2)
                assert torch.equal(codes[1][:, codes[1][0] != NO_CODE], offline(tiny, audio[:2_000])[:, 3:])

    @pytest.mark.parametrize(
        "chunk",
        [
            torch.zeros(320),
            torch.zeros(3, 320),
            torch.zeros(2, 1, 320),
            torch.tensor(0.0),
            [0.0],
            np.zeros((1, 5)),
            "ab",
        ],
    )
    def test_a_chunk_of_another_batch_size(self, chunk):
        with pytest.raises(
            AudioError, match=r"waveform has shape .*; expected \(2, S\): a row for each|expected .*\(S,\)"
        ):
            self.s.encode(chunk)

    def test_a_chunk_that_is_no_audio(self):
        with pytest.raises(AudioError, match="holds nan at row 0"):
            self.s.encode(torch.full((2, 10), float("nan")))
        with pytest.raises(AudioError, match=r"dtype torch\.int64"):
            self.s.encode(torch.zeros(2, 10, dtype=torch.int64))

    @pytest.mark.parametrize("rate", [8_000, 44_100.0, "16k", np.array([16_000, 16_000])])
    def test_a_chunk_of_another_sample_rate(self, rate):
        with pytest.raises(
            AudioError, match=r"sample_rate .*; expected (16000, the rate of this stream: open|whole hertz)"
        ):
            self.s.encode(torch.zeros(2, 10), sample_rate=rate)
        assert self.s.encode(torch.zeros(2, 0), sample_rate=16_000).shape[2] == 0

    @pytest.mark.parametrize(
        "lengths",
        [
            [[1], [2, 3]],
            torch.ones(2, dtype=torch.bfloat16),
            [1],
            [1, 11],
            [-1, 2],
            [1.0, 2.0],
            "ab",
            [[1, 2]],
            torch.tensor([1, 99]),
        ],
    )
    def test_lengths_that_do_not_fit(self, lengths):
        with pytest.raises(AudioError, match=r"lengths is .*; expected (2 whole numbers|0 to 10)"):
            self.s.encode(torch.zeros(2, 10), lengths=lengths)

    def test_a_chunk_after_flush(self):
        self.s.flush(rows=[0])
        with pytest.raises(StreamError, match=r"encode of row 0 after its flush; .* reset\(rows=\[0\]\)"):
            self.s.encode(torch.zeros(2, 10))
        with pytest.raises(StreamError, match="flush of row 0 after its flush"):
            self.s.flush(rows=[0])

    def test_codes_after_drain(self):
        self.s.drain(rows=[0])
        with pytest.raises(StreamError, match=r"decode of row 0 after its drain; .* reset\(rows=\[0\]\)"):
            self.s.decode(torch.zeros(2, 4, 1, dtype=torch.int64))
        with pytest.raises(StreamError, match="drain of row 0 after its drain"):
            self.s.drain(rows=[0])

    @pytest.mark.parametrize("shape", [(4, 1), (1, 4, 1), (3, 4, 1), (2, 4, 1, 1)])
    def test_codes_of_another_shape(self, shape):
        with pytest.raises(TokensError, match=r"codes has shape .*; expected \(2, Q, T\), a row for each utterance"):
            self.s.decode(torch.zeros(shape, dtype=torch.int64))

    def test_codes_that_are_none(self):
        with pytest.raises(TokensError, match="codes is a list; expected a dense int64 tensor"):
            self.s.decode([[0]])
        for some in (torch.zeros(2, 4, 1).long().to_sparse(), torch.zeros(2, 4, 1, device="meta").long()):
            with pytest.raises(TokensError, match=r"codes is a torch\..* tensor on .*; expected a dense int64 tensor"):
                self.s.decode(some)
        with pytest.raises(TokensError, match=r"dtype torch\.float32"):
            self.s.decode(torch.zeros(2, 4, 1))
        with pytest.raises(TokensError, match="5 codebooks; expected at most 4"):
            self.s.decode(torch.zeros(2, 5, 1, dtype=torch.int64))
        with pytest.raises(TokensError, match="with at least one codebook"):
            self.s.decode(torch.zeros(2, 0, 1, dtype=torch.int64))

    @pytest.mark.parametrize("code", [32, -2])
    def test_codes_out_of_range(self, code):
        with pytest.raises(TokensError, match="expected 0 to 31"):
            self.s.decode(torch.full((2, 4, 1), code))

    @pytest.mark.parametrize("place", [(0, 0, 0), (0, 2, 1), (1, slice(None), 0)])
    def test_missing_codes_in_the_middle_of_a_row(self, place):
        codes = torch.zeros(2, 4, 2, dtype=torch.int64)
        codes[place] = NO_CODE
        with pytest.raises(
            TokensError, match="-1 in the middle of a row; expected it only in whole frames at the end of a row"
        ):
            self.s.decode(codes)

    @pytest.mark.parametrize("rows", [torch.tensor([2]), np.array([-1]), [2], [-1], [0.5], "a", [True], 7])
    def test_rows_that_do_not_exist(self, rows):
        for call in (self.s.flush, self.s.drain, self.s.reset):
            with pytest.raises(InputError, match=r"rows has .*; expected rows from 0 to 1"):
                call(rows=rows)

    def test_use_after_the_end(self):
        other = self.tok.stream()
        with self.tok.stream() as s:
            s.encode(self.audio[:10])
        for call in (
            lambda: s.encode(self.audio[:10]), s.flush, s.drain, s.reset, lambda: s.decode(torch.zeros(1, 4, 1).long()),
        ):  # fmt: skip
            with pytest.raises(StreamError, match=r"the stream is closed; open another one with tok\.stream\(\)"):
                call()
        assert other.encode(self.audio[:320]).shape == (1, 4, 1)

    @pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None, "2"])
    def test_a_batch_size_that_is_none(self, batch_size):
        with pytest.raises(InputError, match=r"batch_size is .*; expected a whole number from 1 on"):
            self.tok.stream(batch_size)

    @pytest.mark.parametrize("num_codebooks", [0, 5])
    def test_a_number_of_codebooks_that_there_is_not(self, num_codebooks):
        with pytest.raises(InputError, match=r"num_codebooks is .*; expected 1 to 4"):
            self.tok.stream(num_codebooks=num_codebooks)


def test_frames_one_at_a_time_run_without_pytorch_in_the_network(new_tokenizer, audio, monkeypatch):
    tok = new_tokenizer()
    with tok.stream() as s:
        for half in (tok.encoder, tok.decoder):
            monkeypatch.setattr(type(half), "forward", None)
        for chunk in audio[:3_200].split(tok.hop_length):
            s.decode(s.encode(chunk))


def test_hooks_are_called_and_their_effect_ends_with_them(new_tokenizer, audio):
    tok = new_tokenizer()
    pieces = audio[: 4 * tok.hop_length].split(tok.hop_length)
    expected = tok.encode(audio[: 4 * tok.hop_length], tok.sample_rate).codes
    for opened_before in (True, False):
        stream = tok.stream() if opened_before else None
        hook = tok.encoder.project.register_forward_hook(lambda module, inputs, latent: torch.zeros_like(latent))
        with stream or tok.stream() as s:
            silenced = torch.cat([s.encode(piece) for piece in pieces], -1)
            assert (silenced == silenced[..., :1]).all()
            hook.remove()
            s.reset()
            assert torch.equal(torch.cat([s.encode(piece) for piece in pieces], -1), expected)


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_weights_that_change_while_a_stream_runs_are_the_ones_that_it_uses(new_tokenizer, audio, half):
    tok, other = new_tokenizer(), new_tokenizer()
    with torch.no_grad():
        for weight in getattr(other, half).parameters():
            weight.mul_(-0.5)
    pieces = audio[: 8 * tok.hop_length].split(tok.hop_length)
    with tok.stream() as s, other.stream() as expected:
        for piece in pieces[:4]:
            s.decode(s.encode(piece))
        s.reset()
        getattr(tok, half).load_state_dict(getattr(other, half).state_dict())
        for piece in pieces:
            codes, codes_expected = s.encode(piece), expected.encode(piece)
            assert torch.equal(codes, codes_expected)
            assert torch.equal(s.decode(codes), expected.decode(codes_expected))


def test_weights_made_in_inference_mode_stream_too(new_tokenizer, audio):
    with torch.inference_mode():
        tok = new_tokenizer()
    with tok.stream() as s:
        codes = torch.cat([s.encode(piece) for piece in audio[:3_200].split(tok.hop_length)], -1)
    assert torch.equal(codes, tok.encode(audio[:3_200], tok.sample_rate).codes)
