"""A corpus with its codes written in another way."""

import dataclasses
import json
import os
import shutil

from speechtok.corpus.entropy_training import train
from speechtok.corpus.reader import Corpus
from speechtok.corpus.settings import CARD, MANIFEST, Layout
from speechtok.corpus.shards import shard_facts
from speechtok.corpus.table import read_table, write_table
from speechtok.entropy import ContextModel, embedded_model
from speechtok.errors import InputError, OutputError
from speechtok.files import as_path, make_folder, replacing
from speechtok.parquet import Encoding

_MAX_TRAINING_ROWS = 20_000
"""Utterances that a model is trained on, spread over the corpus."""


def recode(
    path: str | os.PathLike[str], out: str | os.PathLike[str], encoding: Encoding, train_model: bool = False
) -> tuple[int, int]:
    """Write a corpus again, shard by shard.

    Args:
        path: folder of the corpus.
        out: folder of the new one, which is not there yet.
        encoding: of its codes.
        train_model: whether to train a model on this corpus, which then stands in each file.

    Returns:
        Bytes of the codes at a whole number of bits each, and bytes of the codes as they are written.

    Raises:
        InputError: there is no model for the tokenizer.
        OutputError: the folder exists, or cannot be written.
    """
    corpus = Corpus(path)
    if not corpus.manifest:
        raise InputError(f"{path} is a file; expected the folder of a corpus")
    out = as_path(out)
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose a new folder")
    model = None
    if encoding == "entropy":
        model = _train(corpus) if train_model else embedded_model(corpus.format.fingerprint)
        if model is None:
            raise InputError(
                f"the package has no model for the codes of tokenizer {corpus.format.fingerprint}; pass --train to "
                "train one on this corpus"
            )
    codes = dataclasses.replace(corpus.format, encoding=encoding, model=model)
    layout = Layout(out)
    make_folder(out)
    packed = written = 0
    shards = []
    for file in corpus.files:
        table = read_table(file)
        lengths = table.column("length").to_pylist()
        column = codes.write_codes(corpus.format.read_codes(table.column("codes"), lengths))
        packed += sum(-(-codes.bits * codes.num_codebooks * length // 8) for length in lengths)
        written += column.nbytes if encoding == "uint16" else sum(len(value.as_py()) for value in column)
        place = table.column_names.index("codes")
        table = table.set_column(place, table.schema.field("codes").with_type(codes.codes_type()), column)
        target = layout.folder / "data" / file.name
        write_table(table.replace_schema_metadata(codes.metadata()), target)
        shards.append(shard_facts(target))
    for name in ("quarantine", CARD):
        source = corpus.path / name
        if source.is_dir():
            shutil.copytree(source, out / name)
        elif source.is_file():
            shutil.copy(source, out / name)
    settings = {**corpus.manifest["settings"]}
    settings["format"] = {**codes.to_dict(), "model": None if model is None else model.digest}
    manifest = {**corpus.manifest, "settings": settings, "shards": shards}
    manifest["bytes"] = sum(shard["bytes"] for shard in shards)
    with replacing(out / MANIFEST) as stream:  # last: a folder with a manifest is complete
        stream.write((json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    return packed, written


def _train(corpus: Corpus) -> ContextModel:
    step = max(1, len(corpus) // _MAX_TRAINING_ROWS)
    rows = []
    for table in corpus.tables(["codes", "length"]):
        rows += corpus.format.read_codes(table.column("codes"), table.column("length").to_pylist())[::step]
    return train(rows, corpus.format.fingerprint, corpus.format.codebook_size)
