import pytest

from benchmarks.codecs.load import CODECS
from benchmarks.codecs.spec import parse_spec
from speechtok.errors import InputError


def test_a_specification_is_name_number_and_source():
    spec = parse_spec("encodec:1.5@some/dir:with@signs")
    assert (spec.name, spec.number, spec.source) == ("encodec", 1.5, "some/dir:with@signs")
    assert parse_spec("speechtok").integer is None
    assert parse_spec("codec2:3200").integer == 3200


@pytest.mark.parametrize("text", ["opus:", "", "OPUS", "opus:6:7"])
def test_text_of_another_form_is_refused(text):
    with pytest.raises(InputError, match="expected NAME"):
        parse_spec(text)


def test_the_name_of_every_codec_is_a_specification():
    assert all(parse_spec(name).name == name for name in CODECS)
