"""Conditions filter rows, and cannot run code."""

import pyarrow as pa
import pytest

from speechtok.errors import InputError
from speechtok.where import parse_where

TABLE = pa.table({"snr": [5.0, 20.0, None, 30.0], "lang": ["en", "de", "en", None], "clean": [True, False, True, None]})


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("snr > 15", [1, 3]),
        ("15 < snr <= 20", [1]),
        ('snr > 15 or lang == "en"', [0, 1, 2, 3]),
        ("snr > 1 and not clean", [1]),
        ("lang in ['en', 'nl'] and clean", [0, 2]),
        ("lang not in ['en']", [1, 3]),
        ("snr is None", [2]),
        ("snr is not None and snr != 20", [0, 3]),
        ("snr > -1.5", [0, 1, 3]),
    ],
)
def test_conditions_choose_rows(where, rows):
    numbered = TABLE.append_column("row", [list(range(4))])
    assert numbered.filter(parse_where(where, TABLE.column_names)).column("row").to_pylist() == rows


@pytest.mark.parametrize(
    "where",
    [
        "",
        "snr >",
        "1",
        "__import__('os').system('true')",
        "snr.x > 1",
        "snr > len(lang)",
        "snr + 1 > 2",
        "[snr for snr in lang]",
        "lambda: 1",
        "1 < 2",
        "(" * 300 + "snr > 1" + ")" * 300,
        "snr > 1 if clean else lang",
        "snr := 1",
    ],
)
def test_everything_else_is_refused(where):
    with pytest.raises(InputError, match="expected a condition"):
        parse_where(where, TABLE.column_names)


def test_an_unknown_column_is_named_with_the_nearest_one():
    with pytest.raises(InputError, match=r"'snrr'.*did you mean 'snr'"):
        parse_where("snrr > 1", TABLE.column_names)
