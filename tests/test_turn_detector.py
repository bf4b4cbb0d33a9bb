import copy
import itertools
import pickle
from importlib import resources
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import speechtok
from speechtok import NO_CODE
from speechtok.errors import CheckpointError, FingerprintError, MissingFileError, StreamError, TokensError
from speechtok.fingerprints import DEFAULT_TOKENIZER
from speechtok.live.events import CodesDetector, TurnStream
from speechtok.nn.native import use_isa
from speechtok.nn.native.library import available_isas
from speechtok.turn_detector import TurnConfig, TurnDetector, read_turns, write_turns

HOP = 320
ASSETS = Path(str(resources.files("speechtok") / "assets"))
CONFIG = TurnConfig(latent_dim=8, dim=12, depth=2, kernel_size=5, expansion=2)


@pytest.fixture(scope="module")
def path(tiny, tmp_path_factory):
    """A detector with random weights for the tokenizer of the tests."""
    file = tmp_path_factory.mktemp("turns") / "turns.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = CONFIG.make()
    write_turns(file, CONFIG, network, tiny.fingerprint)
    return file


@pytest.fixture(scope="module")
def tok(tiny, path):
    own = copy.deepcopy(tiny)
    own.load_turn_detector(path)
    return own


@pytest.fixture(scope="module")
def audio(speech):
    return torch.from_numpy(speech(3.0))


def joined(parts):
    return torch.stack([torch.cat(rows, 1) for rows in zip(*parts, strict=True)])


def whole(tok, x):
    return torch.stack(list(tok.turn_detector().detect(tok.encode(x, tok.sample_rate))))


def test_probabilities_are_in_range_and_differ(tok, audio):
    found = whole(tok, audio)
    assert found.dtype == torch.float32
    assert found.shape == (3, 1, 150)
    assert ((found >= 0) & (found <= 1)).all()
    assert found.std(2).min() > 0


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 3 * HOP), max_size=20),
    samples=st.integers(1, 9_000),
    num_codebooks=st.integers(1, 4),
)
def test_streamed_probabilities_are_those_of_the_whole(tok, audio, sizes, samples, num_codebooks):
    x = audio[:samples]
    bounds = [min(b, samples) for b in itertools.accumulate(sizes, initial=0)]
    with tok.stream(num_codebooks=num_codebooks) as stream:
        parts = []
        for start, stop in itertools.pairwise([*bounds, samples]):
            codes, found = stream.encode(x[start:stop], events=True)
            assert found.speech.shape == (1, codes.shape[2])
            parts.append(found)
        parts.append(stream.flush(events=True)[1])
    tokens = tok.encode(x, tok.sample_rate, num_codebooks=num_codebooks)
    assert torch.equal(joined(parts), torch.stack(list(tok.turn_detector().detect(tokens))))


@pytest.mark.parametrize("isa", [None, *available_isas()])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_instruction_set_and_number_of_threads_gives_the_same_bits(tok, audio, isa, threads):
    tokens = tok.encode(audio, tok.sample_rate)
    expected = tok.turn_detector().detect(tokens)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with use_isa(isa):
            found = tok.turn_detector().detect(tokens)
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, found, expected))


def test_a_row_of_a_batch_has_the_probabilities_that_it_has_alone(tok, audio):
    lengths = [48_000, 20_000, 321]
    batch = torch.stack([audio, audio.flip(0), -audio])
    found = tok.turn_detector().detect(tok.encode(batch, tok.sample_rate, lengths))
    for row, n in enumerate(lengths):
        alone = whole(tok, batch[row, :n])[:, 0]
        assert torch.equal(torch.stack([x[row, : alone.shape[1]] for x in found]), alone)
        assert not torch.stack([x[row, alone.shape[1] :] for x in found]).any()


def test_rows_of_a_stream_go_their_own_ways(tok, audio):
    generator = torch.Generator().manual_seed(0)
    taken, parts = [0, 0, 0], [[], [], []]
    with tok.stream(batch_size=3) as stream:
        for _ in range(30):
            lengths = torch.randint(0, 700, (3,), generator=generator).tolist()
            chunk = torch.zeros(3, 700)
            for row, n in enumerate(lengths):
                chunk[row, :n] = audio[taken[row] :][:n]
                taken[row] += n
            codes, found = stream.encode(chunk, lengths, events=True)
            frames = (codes[:, 0] != NO_CODE).sum(1).tolist()
            for row, n in enumerate(frames):
                parts[row].append(torch.stack([x[row, :n] for x in found]))
                assert not torch.stack([x[row, n:] for x in found]).any()
    for row, n in enumerate(taken):
        expected = whole(tok, audio[: n // HOP * HOP])[:, 0]
        assert torch.equal(torch.cat(parts[row], 1), expected)


def test_a_reset_row_starts_anew_and_the_others_go_on(tok, audio):
    first, second = audio[: 20 * HOP], audio[20 * HOP : 40 * HOP]
    with tok.stream(batch_size=2) as stream:
        stream.encode(first.expand(2, -1), events=True)
        stream.reset(rows=[1])
        _, found = stream.encode(second.expand(2, -1), events=True)
    assert torch.equal(torch.stack([x[1] for x in found]), whole(tok, second)[:, 0])
    assert torch.equal(torch.stack([x[0] for x in found]), whole(tok, audio[: 40 * HOP])[:, 0, 20:])


def test_codes_are_the_same_with_events_and_events_work_with_resampling(tok, audio):
    with tok.stream(sample_rate=48_000) as plain, tok.stream(sample_rate=48_000) as hearing:
        for chunk in audio.split(1_000):
            codes, found = hearing.encode(chunk, events=True)
            assert torch.equal(codes, plain.encode(chunk))
            assert found.overlap.shape == (1, codes.shape[2])
        codes, found = hearing.flush(events=True)
        assert torch.equal(codes, plain.flush())


def test_events_that_come_too_late_are_refused_and_the_stream_goes_on(tok, audio):
    with tok.stream(batch_size=2) as stream:
        lengths = [HOP, 0]
        stream.encode(audio[: 2 * HOP].view(2, HOP), lengths)
        with pytest.raises(StreamError, match=r"row 0 .*expected events=True from the utterance's first chunk on"):
            stream.encode(audio[: 2 * HOP].view(2, HOP), events=True)
        _, found = stream.encode(audio[: 2 * HOP].view(2, HOP), [0, HOP], events=True)
        assert torch.equal(torch.stack([x[1] for x in found]), whole(tok, audio[HOP : 2 * HOP])[:, 0])
        stream.encode(audio[: 2 * HOP].view(2, HOP), [0, HOP])
        with pytest.raises(StreamError, match="row 1"):
            stream.encode(audio[: 2 * HOP].view(2, HOP), [0, HOP], events=True)
        stream.reset()
        assert stream.encode(audio[: 2 * HOP].view(2, HOP), events=True)[1].speech.shape == (2, 1)


def test_codes_that_arrive_without_audio_give_the_same_probabilities(tok, audio):
    tokens = tok.encode(audio, tok.sample_rate)
    stream = TurnStream(tok.turn_detector())
    pieces = [stream.push(codes) for codes in tokens.codes.split([1, 0, 7, 142], 2)]
    assert torch.equal(joined(pieces), whole(tok, audio))
    stream.reset()
    assert torch.equal(torch.stack(list(stream.push(tokens.codes))), whole(tok, audio))
    with pytest.raises(StreamError, match=r"expected \(1, Q, T\)"):
        stream.push(tokens.codes.expand(2, -1, -1))


def test_codes_with_short_rows_are_heard_as_far_as_they_go(tok, audio):
    codes = tok.encode(torch.stack([audio, audio]), tok.sample_rate, [48_000] * 2).codes.clone()
    codes[1, :, 50:] = NO_CODE
    found = TurnStream(tok.turn_detector(), 2).push(codes)
    assert torch.equal(found.speech[1, :50], whole(tok, audio)[0, 0, :50])
    assert not found.speech[1, 50:].any()
    assert torch.equal(found.speech[0], whole(tok, audio)[0, 0])


def test_the_detector_of_a_conversation_gives_arrays(tok, audio):
    detector = CodesDetector(tok)
    codes = tok.encode(audio, tok.sample_rate).codes
    found = detector.push(codes[..., :10], audio[: 10 * HOP].numpy())
    assert found.speech.shape == (10,)
    assert found.speech.tolist() == whole(tok, audio)[0, 0, :10].tolist()


def test_another_tokenizer_is_refused(tok, path, new_tokenizer):
    other = new_tokenizer(seed=5)
    with pytest.raises(FingerprintError, match=rf"{tok.fingerprint}, and this is {other.fingerprint}.*training.events"):
        other.load_turn_detector(path)
    with pytest.raises(FingerprintError, match=f"no turn detector for tokenizer {other.fingerprint}"):
        other.stream().encode(torch.zeros(HOP), events=True)
    with pytest.raises(FingerprintError, match="encode the audio again"):
        tok.turn_detector().detect(other.encode(torch.zeros(HOP), 16_000))


def test_a_detector_is_refused_after_the_weights_of_its_tokenizer_changed(tok, path):
    changed = copy.deepcopy(tok)
    changed.load_turn_detector(path)
    with torch.no_grad():
        changed.encoder.project.bias += 1.0
    with pytest.raises(FingerprintError, match="turn detector for the codes of"):
        _ = changed.turn_detector()


def test_the_detector_is_no_part_of_the_tokenizer(tok, tiny, tmp_path):
    assert tok.turn_detector() is tok.turn_detector()
    assert tok.fingerprint == tiny.fingerprint
    assert tok.state_dict().keys() == tiny.state_dict().keys()
    tok.save(tmp_path)
    assert not (tmp_path / "turns.safetensors").exists()
    assert pickle.loads(pickle.dumps(tok)).turn_detector().config == CONFIG


def test_damaged_and_missing_files_say_what_is_wrong(tiny, path, tmp_path):
    with pytest.raises(MissingFileError, match="there is no file"):
        TurnDetector(tiny, tmp_path / "none.safetensors")
    data = path.read_bytes()
    for damaged, message in [
        (data[: len(data) // 2], "is damaged"),
        (b"", "is damaged"),
        (data.replace(b"speechtok-turns-1", b"speechtok-turns-9"), "upgrade"),
        (data.replace(b'\\"depth\\": 2', b'\\"depth\\": 9'), "its config asks for 54 or more"),
        (data.replace(b'\\"dim\\": 12', b'\\"dim\\": 13'), "shape"),
        (data.replace(b'\\"dim\\": 12', b'\\"dim\\": -2'), "dim is -2"),
    ]:
        file = tmp_path / "damaged.safetensors"
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=message):
            read_turns(file)


def test_codes_out_of_range_are_refused(tok):
    for codes, message in [
        (torch.full((1, 4, 2), 32), "expected 0 to 31"),
        (torch.zeros(1, 5, 2, dtype=torch.int64), "expected at most 4"),
        (torch.zeros(1, 4, 2), "int64"),
    ]:
        with pytest.raises(TokensError, match=message):
            tok.turn_detector().detect(codes)


@pytest.fixture(scope="module")
def default():
    return speechtok.load()


def test_the_default_tokenizer_brings_a_small_detector_of_its_own(default):
    file = ASSETS / DEFAULT_TOKENIZER / "turns.safetensors"
    assert file.stat().st_size < 200_000
    _, _, fingerprint = read_turns(file)
    assert default.made(fingerprint)


def test_the_default_detector_hears_the_sample_and_hardly_ever_speech_in_silence(default):
    waveform, sample_rate = speechtok.read_audio(ASSETS / "sample.flac")
    found = default.turn_detector().detect(default.encode(waveform, sample_rate))
    assert found.speech[0].median() > 0.8
    generator = torch.Generator().manual_seed(0)
    for level in (0.0, 1e-3, 1e-2):
        silence = level * torch.randn(48_000, generator=generator)
        assert default.turn_detector().detect(default.encode(silence, 16_000)).speech.gt(0.5).float().mean() < 0.05


def test_the_default_detector_takes_the_end_of_the_sample_for_the_end_of_a_turn(default):
    waveform, sample_rate = speechtok.read_audio(ASSETS / "sample.flac")
    generator = torch.Generator().manual_seed(0)
    quiet = 1e-4 * torch.randn(sample_rate, generator=generator)
    found = default.turn_detector().detect(default.encode(torch.cat([waveform, quiet]), sample_rate))
    assert found.end_of_turn[0, -25:].max() > 0.8
    assert found.end_of_turn[0, found.speech[0] > 0.8].median() < 0.2
