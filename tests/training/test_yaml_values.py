import pytest
import yaml

from speechtok.parsing import ParseError
from training.yaml_values import parse_yaml

PLAIN = ["", "a: 1", "- 1\n- x\n", "{a: &x {b: 1}, c: *x}", "x: 5e-3", "[1, 1.5, true, null, ~, 'a']"]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_values_are_those_of_the_library(text):
    assert parse_yaml(text) == yaml.safe_load(text)


def test_aliases_and_merged_tables_are_values_like_others():
    text = "base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\n"
    assert parse_yaml(text) == {"base": {"a": 1, "b": 2}, "more": {"a": 1, "b": 3}}


BOMBS = {
    "deep": ("[" * 20_000, "levels deep"),
    "deep in lines": ("".join(" " * n + "a:\n" for n in range(200)), "levels deep"),
    "long": ("a: 1\n" * 100_000, "characters"),
    "wide": ("[" + "1," * 20_000 + "]", "more than 10000 values"),
    "aliases": ("a0: &a0 [1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(60)), "aliases"),
    "merged": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n + 1}: &a{n + 1} {{<<: [*a{n}, *a{n}]}}\n" for n in range(60)),
        "aliases",
    ),
    "circle": ("&a [1, *a]", r"\*a is inside of what it stands for"),
    "circle of tables": ("&a {b: {c: *a}}", "inside"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_few_lines_cannot_ask_for_much_memory_or_time(name, monkeypatch):
    text, reason = BOMBS[name]
    monkeypatch.setattr(yaml, "safe_load", lambda text: pytest.fail("values were made"))
    with pytest.raises(ParseError, match=reason):
        parse_yaml(text)


WRONG = [
    *("!!int x", "!!int ''", "!!float x", "!!bool x", "2020-13-45", "2001-01-01T25:00:00", "0b_", "0x_", "9" * 5_000),
    *("!!python/object:os.system {}", "{[a]: b}", "a: b: c", "\0", "--- a\n--- b", "<<: 5", "!!binary \u00e9", "*a"),
]


@pytest.mark.parametrize("text", WRONG)
def test_a_value_that_the_library_cannot_make_is_refused_with_a_reason(text):
    with pytest.raises(ParseError, match=r"[a-z]{3}"):
        parse_yaml(text)
