import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechtok.errors import VocabularyError
from speechtok.lm import ANYGPT, SPEECHGPT, StringForm
from tests.lm.cases import INFO, tokens_of

FORMS = [ANYGPT, SPEECHGPT, StringForm("[audio]", "[a{}]", "[/audio]")]


@settings(max_examples=40)
@given(
    st.sampled_from(FORMS),
    st.lists(st.lists(st.integers(0, 31), max_size=6), max_size=3),
    st.lists(st.text("ab <>12\n🗣", max_size=6), min_size=4, max_size=4),
)
def test_reading_is_the_inverse_of_writing(form, utterances, texts):
    speech = [tokens_of(torch.tensor([[codes]], dtype=torch.int64)) for codes in utterances]
    text = "<|speech|>".join(texts[: len(speech) + 1])
    said = form.read(form.write(text, speech), INFO)
    assert said == text
    assert [one.codes[0, 0].tolist() for one in said.speech] == utterances
    assert form.write(said) == form.write(text, speech)
    assert all(one.fingerprint == INFO.fingerprint for one in said.speech)


def test_the_strings_are_those_of_anygpt_and_speechgpt():
    speech = [tokens_of(torch.tensor([[[12, 7], [1, 1]]]))]
    assert ANYGPT.write("Say <|speech|> now", speech) == "Say <sosp><🗣️12><🗣️7><eosp> now"
    assert SPEECHGPT.write("<|speech|>", speech) == "<sosp><12><7><eosp>"
    for text in ("<sosp><🗣12><🗣️7><eosp>", "<sosp> <🗣️12>\n<🗣️7> <eosp>"):
        assert ANYGPT.read(text, INFO).speech[0].codes.tolist() == [[[12, 7]]]
    assert ANYGPT.read("<🗣️12> <12>", INFO) == "<🗣️12> <12>"


def test_imported_speech_is_text_of_a_processor_and_back(one_semantic, tokens):
    written = ANYGPT.write("Say<|speech|> and<|speech|>", [tokens])
    said = ANYGPT.read(written, one_semantic.speech_tokenizer)
    decoded = one_semantic.decode(one_semantic(said, said.speech)["input_ids"][0])
    assert ANYGPT.write(decoded) == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<sosp><🗣️32><eosp>", "has the code 32; expected 0 to 31"),
        ("<sosp><🗣️3><eosp> <sosp><🗣️3>", "at position .* after <sosp> and 1 codes; expected <🗣️0> or <eosp>"),
        ("<sosp><🗣️3> well <eosp>", "has 'well <eosp>'"),
        ("<sosp><sosp><eosp>", "has '<sosp><eosp>'"),
        ("<sosp><🗣️" + "9" * 5000 + "><eosp>", "expected <🗣️0> or <eosp>"),
    ],
)
def test_damaged_strings_are_refused(text, message):
    with pytest.raises(VocabularyError, match=message):
        ANYGPT.read(text, INFO)


def test_text_that_does_not_fit_and_unusable_forms_are_refused():
    with pytest.raises(VocabularyError, match=r"1 placeholders <\|speech\|> for 0 utterances"):
        ANYGPT.write("<|speech|>")
    for form in (("", "<{}>", "<eosp>"), ("<sosp>", "<>", "<eosp>"), ("<sosp>", "{}", "<eosp>")):
        with pytest.raises(VocabularyError, match="expected marks"):
            StringForm(*form)
