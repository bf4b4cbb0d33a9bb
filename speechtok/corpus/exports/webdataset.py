"""Tar archives of WebDataset: a ``.tokens`` and a ``.json`` file for each utterance."""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from itertools import islice
from typing import Any

from speechtok.corpus.reader import Corpus, Utterance
from speechtok.files import make_folder, replacing


def export_webdataset(corpus: Corpus, out: str | os.PathLike[str], per_shard: int = 10_000) -> int:
    """Write the utterances of a corpus as archives ``shard-00000.tar``, …, and return their number.

    Samples are named by their number: the ids of a corpus may have dots, which WebDataset takes for suffixes. The JSON
    has the id and all other columns. Archives of one corpus are always the same bytes.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = make_folder(out)
    count, shard = 0, 0
    utterances = iter(corpus)
    while some := list(islice(utterances, per_shard)):
        with (
            replacing(folder / f"shard-{shard:05}.tar") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for utterance in some:
                for suffix, data in _files(utterance):
                    member = tarfile.TarInfo(f"{count:09}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                count += 1
        shard += 1
    return count


def _files(utterance: Utterance) -> Iterator[tuple[str, bytes]]:
    yield "tokens", utterance.tokens.to_bytes()
    yield "json", json.dumps(describe(utterance), ensure_ascii=False).encode()


def describe(utterance: Utterance) -> dict[str, Any]:
    """The columns of an utterance but its codes, ready for JSON; phones as in a manifest."""
    values: dict[str, Any] = {
        "id": utterance.id,
        "text": utterance.text,
        "speaker": utterance.speaker,
        "lang": utterance.lang,
    }
    values |= utterance.columns
    if values.get("phones"):
        values["phones"] = [[row["phone"], row["start"], row["end"]] for row in values["phones"]]
    return {name: value for name, value in values.items() if value is not None}
