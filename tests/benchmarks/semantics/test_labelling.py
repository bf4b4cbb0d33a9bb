import numpy as np
import pytest
import torch

import speechtok
from benchmarks.semantics.labellers import code_delay, code_labeller
from benchmarks.semantics.labelling import AlignedUtterances
from benchmarks.semantics.phone_scores import codebook_scores, score
from speechtok.errors import InputError
from training.manifest import Phone, Utterance, read_manifest


def test_codes_and_phones_belong_to_the_same_frames(model, data):
    tokenizer = speechtok.load(model)
    utterance = Utterance(data / "7.wav", "7", phones=(Phone("AA", 0.0, 0.045), Phone("S", 0.045, 0.065)))
    aligned = AlignedUtterances([utterance], 320, 16_000)
    rows = codebook_scores(aligned.label(code_labeller(tokenizer), "codes"), aligned.silence, 0)
    codes = tokenizer.encode(*speechtok.read_audio(utterance.audio)).codes[0]
    # centres at 10, 30, 50, 70 ms: two frames of the first phone, one of the second, the rest outside
    expected = [score("", row[:3].numpy(), np.array([0, 0, 1]), -5) for row in codes]
    assert [row.all for row in rows[:-1]] == [row.all for row in expected]
    assert rows[0].all.frames == 3
    late = aligned.label(code_labeller(tokenizer), "codes", delay=1)  # the same phones, one frame later
    late = codebook_scores(late, aligned.silence, 1)
    expected = [score("", row[1:4].numpy(), np.array([0, 0, 1]), -5) for row in codes]
    assert [row.all for row in (late[0], *late[2:-1])] == [row.all for row in expected]
    assert late[1].all == rows[0].all


def test_the_phones_themselves_have_a_pnmi_of_1_and_codes_less(model, data):
    aligned = AlignedUtterances(read_manifest(data / "dev.jsonl"), 320, 16_000)
    zeros = aligned.label(lambda waveform, rate, centres: torch.zeros(1, len(centres), dtype=torch.long), "zeros")
    _, phones = zeros.joined
    assert score("phones", phones, phones, aligned.silence).all.pnmi == 1.0
    codes = aligned.label(code_labeller(speechtok.load(model)), "codes")
    rows = codebook_scores(codes, aligned.silence, 0)
    assert [row.name for row in rows] == ["codebook 0", "codebook 1", "codebook 2", "chance"]
    assert all(0 <= row.all.pnmi < 1 for row in rows)


def test_codes_lag_by_the_lookahead_of_the_decoder(model):
    assert code_delay(speechtok.load(model)) == 1


def test_utterances_that_all_fail_are_reported(data):
    broken = Utterance(data / "broken.wav", "broken", phones=(Phone("AA", 0.0, 1.0),))
    with pytest.raises(InputError, match=r"none of 1 aligned utterances could be labelled: .*broken\.wav"):
        AlignedUtterances([broken], 320, 16_000).label(lambda *_: torch.zeros(1, 1), "zeros")
