"""Turn events from probabilities, packets of networks that lose some, and bits of codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechtok.live.packets import Concealment, PacketOrder
from speechtok.live.turns import EnergyDetector, FrameProbabilities, TurnEvents, TurnPolicy
from speechtok.live.wire import CodePacking

HOP = 320


def probabilities(speech, end=0.0, overlap=0.0):
    columns = np.broadcast_arrays(np.asarray(speech, float), end, overlap)
    return FrameProbabilities(*(np.array(column) for column in columns))


def types(events):
    return [(event.type, event.frame, event.detected) for event in events]


def test_events_say_when_something_happened_and_when_it_was_known():
    turns = TurnEvents(50)
    speech = [0.0] * 10 + [0.9] * 50 + [0.1] * 60
    assert types(turns.push(probabilities(speech))) == [
        ("speech_started", 10, 12),
        ("speech_stopped", 60, 69),
        ("end_of_turn", 60, 99),
    ]


def test_a_likely_end_of_turn_comes_early_and_a_pause_does_not_end_it():
    speech = [0.9] * 20 + [0.0] * 25 + [0.9] * 20 + [0.0] * 30
    end = [0.0] * 65 + [0.8] * 30
    events = TurnEvents(50).push(probabilities(speech, end))
    assert [event for event in types(events) if event[0] == "end_of_turn"] == [("end_of_turn", 65, 79)]


def test_flicker_makes_no_events():
    flicker = [0.9, 0.1] * 100
    assert TurnEvents(50).push(probabilities(flicker)) == []
    between = [0.9] * 20 + [0.45, 0.55] * 100
    assert types(TurnEvents(50).push(probabilities(between))) == [("speech_started", 0, 2)]


def test_overlap_has_events_of_its_own():
    events = TurnEvents(50).push(probabilities([0.9] * 60, 0.0, [0.0] * 20 + [0.9] * 20 + [0.0] * 20))
    assert types(events)[1:] == [("overlap_started", 20, 24), ("overlap_stopped", 40, 44)]


@given(
    values=st.lists(st.tuples(*[st.floats(0, 1)] * 3), max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_pieces_give_the_events_of_the_whole(values, cuts):
    columns = np.array(values).reshape(-1, 3).T
    whole = TurnEvents(50).push(FrameProbabilities(*columns))
    turns, pieces = TurnEvents(50), []
    for part in np.split(columns, sorted(min(cut, len(values)) for cut in cuts), axis=1):
        pieces += turns.push(FrameProbabilities(*part))
    assert pieces == whole
    starts = [event.type for event in whole if event.type in ("speech_started", "speech_stopped")]
    assert starts == ["speech_started", "speech_stopped"] * (len(starts) // 2) + ["speech_started"] * (len(starts) % 2)


def test_loudness_finds_speech_in_noise(speech):
    rng = np.random.default_rng(0)
    audio = np.concatenate([np.zeros(16_000), speech(1.0), np.zeros(16_000)])
    audio = (audio + 3e-3 * rng.standard_normal(len(audio))).astype(np.float32)
    found = EnergyDetector(HOP).push(None, audio)
    assert found.speech[25:50].max() < 0.4
    assert found.speech[55:95].mean() > 0.6
    assert found.speech[110:].max() < 0.4
    policy = TurnPolicy()
    events = TurnEvents(50, policy).push(found)
    assert [event.type for event in events] == ["speech_started", "speech_stopped", "end_of_turn"]


# --- packets


@given(
    order=st.permutations(range(12)),
    lost=st.sets(st.integers(1, 11)),
    base=st.sampled_from([0, 7, 2**32 - 1_000]),
)
def test_packets_come_out_in_order_with_every_gap_counted(order, lost, base):
    order = [0, *(n for n in order if n and n not in lost)]
    packets = PacketOrder(16_000)
    out, place = [], 0
    for n in order:
        for gap, part in packets.push((base + n * HOP) % 2**32, np.full(HOP, n)):
            out.append((place + gap, part))
            place += gap + len(part)
    for gap, part in packets.flush():
        out.append((place + gap, part))
        place += gap + len(part)
    assert all((part == start // HOP).all() and start % HOP == 0 for start, part in out)
    counts = packets.counts
    assert counts.received == len(order)
    assert len(out) == len(order) - counts.late
    assert counts.lost_samples == place - HOP * len(out)


def test_a_jump_of_the_clock_is_no_gap():
    packets = PacketOrder(16_000)
    packets.push(0, np.zeros(HOP))
    assert [gap for gap, _ in packets.push(10**6, np.zeros(HOP))] == [0]
    assert packets.counts.jumps == 1
    assert packets.counts.lost_samples == 0


def test_a_gap_is_filled_with_the_last_pitch_period_and_fades():
    tone = np.sin(2 * np.pi * 125 * np.arange(1_600) / 16_000).astype(np.float32)
    concealment = Concealment(16_000)
    concealment.heard(tone[:800])
    filled = concealment.fill(1_600)
    assert np.abs(filled[:128] - tone[800:928] * (1 - np.arange(128) / 960)).max() < 0.05
    assert not filled[960:].any()
    assert not Concealment(16_000).fill(100).any()


@pytest.mark.parametrize(("num_codebooks", "size"), [(8, 1_024), (1, 1_024), (4, 32), (3, 7), (2, 1)])
def test_codes_survive_their_packing(num_codebooks, size):
    codes = np.random.default_rng(0).integers(0, size, (num_codebooks, 9))
    packing = CodePacking(num_codebooks, size)
    assert np.array_equal(packing.unpack(memoryview(packing.pack(codes))), codes)
