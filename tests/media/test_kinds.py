"""Every kind of file of the table is read whole, or refused with an error that says why; nothing is lost silently."""

import sys

import numpy as np
import pytest

from speechtok import read_audio
from speechtok.errors import AudioError
from tests.media.encode import av
from tests.media.kinds import KINDS, WHOLE, Kind
from tests.media.signals import find_lost


def marked(kind: Kind):
    missing = av is None and (kind.made_with_ffmpeg or kind.needs_ffmpeg)
    return pytest.param(kind, id=str(kind), marks=pytest.mark.skipif(missing, reason="needs the extra media"))


@pytest.mark.parametrize("kind", [marked(kind) for kind in KINDS if kind.outcome == WHOLE])
def test_the_file_is_read_whole(kind, monkeypatch):
    data = kind.make()
    if not kind.needs_ffmpeg:
        monkeypatch.setitem(sys.modules, "av", None)
    waveform, rate = read_audio(data)
    assert rate == kind.rate
    assert find_lost(waveform.numpy(), kind.expected(), rate, kind.similarity, kind.slack) is None


@pytest.mark.parametrize("kind", [marked(kind) for kind in KINDS if kind.outcome != WHOLE])
def test_the_file_is_refused_with_its_reason(kind):
    with pytest.raises(AudioError, match=kind.outcome):
        read_audio(kind.make())


def test_the_table_covers_the_formats_that_people_have():
    assert len(KINDS) >= 60
    assert sum(kind.outcome == WHOLE for kind in KINDS) >= 45
    assert len({str(kind) for kind in KINDS}) == len(KINDS)


def test_the_comparison_with_the_source_sees_a_loss():
    kind = KINDS[0]
    source = kind.expected()
    assert find_lost(source, source, 16_000, 0.999, 0) is None
    for read in (source[:-160], source[160:], np.delete(source, slice(8_000, 8_160))):
        assert find_lost(read, source, 16_000, 0.9, 0.1) is not None
    silent = source.copy()
    silent[8_000:9_600] = 0
    assert find_lost(silent, source, 16_000, 0.6, 0.3) is not None
    swapped = np.concatenate([source[12_000:], source[:12_000]])
    assert find_lost(swapped, source, 16_000, 0.6, 0.3) is not None
