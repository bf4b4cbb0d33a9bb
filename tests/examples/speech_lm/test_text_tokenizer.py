import pytest

from examples.speech_lm.text_tokenizer import byte_tokenizer


@pytest.mark.parametrize("text", ["good morning", "ÄÖÜ ß 你好 🙂\n\t", "".join(map(chr, range(1, 256)))])
def test_every_byte_is_one_id(text):
    tokenizer = byte_tokenizer()
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
