"""Speech in GGUF files, for llama.cpp: export of the vocabulary, and a check of converted models."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from speechtok.errors import CheckpointError, InputError, MissingFileError, OutputError, VocabularyError, quoted
from speechtok.extras import install_hint
from speechtok.files import replacing
from speechtok.lm.processor import SpeechProcessor
from speechtok.lm.vocabulary import AudioVocabulary

METADATA = "speechtok.vocabulary"
"""Key of the vocabulary, as the JSON of :meth:`AudioVocabulary.to_dict`."""

_IDS = "bos_id", "eos_id", "pad_id", "placeholder_id", "first_code", "offset", "stop_id"
"""Attributes of a vocabulary that have keys of their own, such as ``speechtok.first_code``."""

_SPECIAL_TYPES = 3, 4
"""Types of tokens that llama.cpp never splits and never makes from text: control, user-defined."""


def export_vocabulary(processor: SpeechProcessor, path: str | os.PathLike[str], pre: str, architecture: str) -> None:
    """Write the text tokenizer and the audio vocabulary to a GGUF file without weights.

    llama.cpp loads it with ``vocab_only``. Beside the tokens, it has the vocabulary as JSON in
    ``speechtok.vocabulary``, and its special ids as numbers, so that programs without Python turn ids into codes.

    Args:
        processor: processor whose text tokenizer is a byte-level BPE, such as those of Llama 3 and Qwen.
        path: file to write.
        pre: name that llama.cpp has for the text tokenizer, such as ``"llama-bpe"`` or ``"qwen2"``.
        architecture: name that llama.cpp has for the model, such as ``"llama"`` or ``"qwen2"``.

    Raises:
        VocabularyError: the text tokenizer is of another kind.
        OutputError: the file cannot be written.
        InputError: the package gguf is not installed.
    """
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory) / "vocabulary.gguf"
        try:
            writer = _gguf().GGUFWriter(str(written), architecture)
            add_vocabulary(writer, processor, pre)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
            with replacing(path) as target:
                target.write(written.read_bytes())
        except OSError as error:
            raise OutputError(f"cannot write to {path}: {error}; choose a writable place with room") from error


def add_vocabulary(writer: Any, processor: SpeechProcessor, pre: str) -> None:
    """Add the text tokenizer and the audio vocabulary to a file that a program writes with ``gguf.GGUFWriter``.

    Args:
        writer: the writer.
        processor: as :func:`export_vocabulary`.
        pre: as :func:`export_vocabulary`.

    Raises:
        VocabularyError, InputError: as :func:`export_vocabulary`.
    """
    gguf, tokenizer = _gguf(), processor.tokenizer
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save_pretrained(directory)
        file = Path(directory) / "tokenizer.json"
        values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        kind = values.get("model", {}).get("type")
        if kind != "BPE" or "ByteLevel" not in json.dumps(values.get("pre_tokenizer")):
            raise VocabularyError(
                f"the text tokenizer is a {type(tokenizer).__name__} of the type {quoted(kind)}; expected a byte-level "
                "BPE: convert the model with convert_hf_to_gguf.py of llama.cpp, which has the tokens of speech too"
            )
        special = gguf.SpecialVocab(directory, load_merges=True)
    _add_tokens(writer, gguf, processor, pre)
    for kind, adds in _added_by(tokenizer).items():  # where a file leaves it open, llama.cpp decides by the name pre
        special.add_special_token.setdefault(kind, adds)
    special.add_to_gguf(writer, quiet=True)
    writer.add_string(METADATA, json.dumps(processor.vocabulary.to_dict()))
    for name in _IDS:
        writer.add_uint32(f"speechtok.{name}", getattr(processor.vocabulary, name))


def check_model(path: str | os.PathLike[str], vocabulary: AudioVocabulary) -> None:
    """Check that a GGUF file has the ids of a vocabulary, whichever program converted it.

    Args:
        path: GGUF file of a model, or of a vocabulary.
        vocabulary: vocabulary of the processor that was saved with the model.

    Raises:
        MissingFileError: the file does not exist.
        CheckpointError: it is not a GGUF file.
        VocabularyError: a token of speech is missing, has another id, or would be split as text; the model has too few
            embeddings; or the file belongs to another vocabulary.
        InputError: the package gguf is not installed.
    """
    gguf = _gguf()
    if not Path(path).is_file():
        raise MissingFileError(f"{path} does not exist; expected a GGUF file")
    try:
        reader = gguf.GGUFReader(os.fspath(path))
        tokens = _values(reader, "tokenizer.ggml.tokens")
        types = _values(reader, "tokenizer.ggml.token_type")
        saved = _values(reader, METADATA)
        rows = next((int(t.shape[-1]) for t in reader.tensors if t.name == "token_embd.weight"), None)
    except (OSError, ValueError, KeyError, IndexError, TypeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({quoted(error)}); convert the model again") from error
    if tokens is None:
        raise VocabularyError(f"{path} has no tokens; expected a file with a text tokenizer: convert the model again")
    for id_, name in enumerate(vocabulary.tokens, vocabulary.offset):
        found = tokens[id_] if id_ < len(tokens) else None
        if found != name:
            raise VocabularyError(
                f"{path} has the token {quoted(found)} at id {id_}; expected {name}: convert the folder that has both "
                "the model and its processor"
            )
        if types is not None and types[id_] not in _SPECIAL_TYPES:
            raise VocabularyError(
                f"{path} has the type {types[id_]} for the token {name}; expected control or user-defined, so that "
                "text is never split at it"
            )
    if rows is not None and rows < vocabulary.stop_id:
        raise VocabularyError(
            f"{path} has {rows} embeddings; expected at least {vocabulary.stop_id}: extend the model with "
            "speechtok.lm.extend_model before it is saved and converted"
        )
    if saved is not None and not AudioVocabulary.from_dict(json.loads(saved)).equivalent(vocabulary):
        raise VocabularyError(f"{path} belongs to another vocabulary; expected {vocabulary!r}")


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise InputError(f"GGUF files need gguf ({error}); {install_hint('gguf')}") from error
    return gguf


def _added_by(tokenizer: PreTrainedTokenizerBase) -> dict[str, bool]:
    """Whether a text tokenizer adds its start and end token to each text."""
    plain, whole = (list(tokenizer("a", add_special_tokens=add)["input_ids"]) for add in (False, True))
    added = len(whole) > len(plain)
    return {
        "bos": added and whole[0] == tokenizer.bos_token_id,
        "eos": added and whole[-1] == tokenizer.eos_token_id,
    }


def _add_tokens(writer: Any, gguf: Any, processor: SpeechProcessor, pre: str) -> None:
    tokenizer = processor.tokenizer
    names = {id_: name for name, id_ in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    size = max(max(names) + 1, processor.vocabulary.stop_id)
    kinds = gguf.TokenType
    types = [
        kinds.UNUSED
        if id_ not in names
        else kinds.NORMAL
        if id_ not in added
        else kinds.CONTROL
        if added[id_].special
        else kinds.USER_DEFINED
        for id_ in range(size)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([names.get(id_, f"[PAD{id_}]") for id_ in range(size)])
    writer.add_token_types(types)


def _values(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()
