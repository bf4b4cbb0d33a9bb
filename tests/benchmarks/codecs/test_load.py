import pytest

import speechtok.codecs
from benchmarks.codecs.load import CODECS, load_codec
from speechtok.errors import InputError


def test_every_codec_of_the_library_can_be_benchmarked():
    assert set(speechtok.codecs.CODECS) <= set(CODECS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nosuch", "unknown; expected one of speechtok"),
        ("opus:5", "5 kbit/s; expected 6 to 256"),
        ("speechtok:1.5", "positive integer"),
        ("speechtok:0", "positive integer"),
        ("speechtok:99", "99 codebooks; expected at most 8"),
        ("speechtok@/none", "none"),
        ("mimi:8", "no source"),
        ("dac@/none", "none"),
        ("speechtokenizer@/none", "none"),
        pytest.param("xcodec@/none", "cannot be loaded", marks=pytest.mark.slow),
        ("identity:3", "expected identity alone"),
        ("lowpass:9000", "in hertz"),
        ("codec2:3201", "3201 is not a mode"),
    ],
)
def test_a_codec_that_cannot_be_loaded_is_reported(text, says):
    with pytest.raises(InputError, match=says):
        load_codec(text)
