import pytest

from speechtok.errors import quoted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ("x" * 200, "'" + "x" * 38 + "…" + "x" * 39 + "'"),
        (10**5_000, "an integer too long to print"),
        (None, "None"),
    ],
    ids=["short", "long", "integer", "none"],
)
def test_a_message_quotes_at_most_80_characters_of_a_value(value, text):
    assert quoted(value) == text
    assert len(quoted(value)) <= 80
