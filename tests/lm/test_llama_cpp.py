"""GGUF files; ``python -m tests.lm.llama_cpp_engine`` generates with llama.cpp itself."""

import re
import sys

import pytest

import speechtok
from speechtok.errors import CheckpointError, InputError, MissingFileError, VocabularyError
from speechtok.lm import AudioVocabulary, SpeechProcessor
from speechtok.lm.llama_cpp import METADATA, check_model, export_vocabulary
from tests.lm.conftest import bpe_style

gguf = pytest.importorskip("gguf", reason="needs gguf, which the extra gguf installs")


@pytest.fixture
def file(one, tmp_path):
    export_vocabulary(one, tmp_path / "vocabulary.gguf", "llama-bpe", "llama")
    return tmp_path / "vocabulary.gguf"


def write(path, tokens, types, rows=None):
    """A GGUF file as converters write it."""
    import numpy as np

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if rows is not None:
        writer.add_tensor("token_embd.weight", np.zeros((rows, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_an_exported_vocabulary_has_every_token_at_its_id(one, file):
    check_model(file, one.vocabulary)
    reader = gguf.GGUFReader(str(file))
    value = lambda key: reader.get_field(key).contents()  # noqa: E731
    tokens, types = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.token_type")
    known = one.tokenizer.get_vocab()
    assert len(tokens) == len(known)
    assert all(tokens[id_] == name for name, id_ in known.items())
    v = one.vocabulary
    assert {types[id_] for id_ in range(v.offset, v.stop_id)} == {int(gguf.TokenType.CONTROL)}
    assert types[known["a"]] == int(gguf.TokenType.NORMAL)
    assert value("tokenizer.ggml.pre") == "llama-bpe"
    assert value("tokenizer.ggml.eos_token_id") == one.tokenizer.eos_token_id
    assert len(value("tokenizer.ggml.merges")) > 0
    assert value("tokenizer.ggml.add_bos_token") is False
    assert value("tokenizer.ggml.add_eos_token") is False
    assert value("tokenizer.chat_template") == one.chat_template
    assert value("speechtok.first_code") == v.first_code
    assert value("speechtok.stop_id") == v.stop_id
    assert f'"offset": {v.offset}' in value(METADATA)


def test_a_converted_model_is_checked(one, tmp_path):
    v, path = one.vocabulary, tmp_path / "model.gguf"
    names = {id_: name for name, id_ in one.tokenizer.get_vocab().items()}
    tokens = [names[id_] for id_ in range(len(names))]
    types = [1] * v.offset + [3] * v.size
    write(path, tokens, types, v.stop_id)
    check_model(path, v)
    for changed, message in (
        ((tokens[:-1], types[:-1]), f"has the token None at id {v.stop_id - 1}; expected <|speech_3_31|>"),
        (([*tokens[: v.offset], "<|x|>", *tokens[v.offset :]], [3, *types]), f"'<|x|>' at id {v.offset}"),
        ((tokens, [1] * len(types)), "has the type 1 for the token <|speech_begin|>"),
        ((tokens, types, v.stop_id - 1), f"has {v.stop_id - 1} embeddings; expected at least {v.stop_id}"),
    ):
        write(path, *changed)
        with pytest.raises(VocabularyError, match=re.escape(message)):
            check_model(path, v)


def test_the_file_of_another_vocabulary_is_refused(one, file, tiny, new_tokenizer):
    other = AudioVocabulary(new_tokenizer(1), "flatten", offset=one.vocabulary.offset)
    with pytest.raises(VocabularyError, match="belongs to another vocabulary"):
        check_model(file, other)
    with pytest.raises(VocabularyError, match="has the token"):
        check_model(file, AudioVocabulary(tiny, "flatten", offset=one.vocabulary.offset + 1))


def test_files_that_are_not_gguf_are_refused(one, tmp_path):
    with pytest.raises(MissingFileError, match="does not exist; expected a GGUF file"):
        check_model(tmp_path / "none.gguf", one.vocabulary)
    (tmp_path / "x.gguf").write_bytes(b"GGUF damaged" * 9)
    with pytest.raises(CheckpointError, match="cannot be read"):
        check_model(tmp_path / "x.gguf", one.vocabulary)
    write(tmp_path / "y.gguf", ["a"], [1])
    with pytest.raises(VocabularyError, match="has the token None"):
        check_model(tmp_path / "y.gguf", one.vocabulary)


def test_text_tokenizers_of_other_kinds_are_refused(tiny, tmp_path):
    processor = SpeechProcessor(bpe_style(), tiny, speechtok.AudioVocabulary(tiny, "flatten"))
    with pytest.raises(VocabularyError, match="expected a byte-level BPE: convert the model with"):
        export_vocabulary(processor, tmp_path / "x.gguf", "llama-bpe", "llama")
    assert not (tmp_path / "x.gguf").exists()


def test_without_gguf_the_error_says_what_to_install(one, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"pip install -e \"\.\[gguf\]\""):
        export_vocabulary(one, tmp_path / "x.gguf", "llama-bpe", "llama")
