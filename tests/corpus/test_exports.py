"""A corpus goes to other tools and comes back the same."""

import json
import tarfile

import numpy as np
import pytest
import torch

from speechtok.corpus import Corpus
from speechtok.corpus.exports import EXPORTS


@pytest.fixture
def corpus(recordings, tmp_path, build_corpus) -> Corpus:
    manifest = recordings / "list.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[2]["phones"] = [["SIL", 0, 0.1], ["AH", 0.1, 0.3]]
    rows[3]["id"] = "ä/dotted.name 3"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    build_corpus(manifest, tmp_path / "corpus")
    return Corpus(tmp_path / "corpus")


def contents(corpus):
    return {u.id: (u.tokens.to_bytes(), u.text, u.speaker, u.lang, u.columns["phones"]) for u in corpus}


@pytest.mark.parametrize("name", ["webdataset", "lhotse"])
def test_an_exported_corpus_comes_back_the_same(name, corpus, tmp_path, build_corpus):
    if name == "lhotse":
        pytest.importorskip("lhotse")
    assert EXPORTS[name](corpus, tmp_path / "out", per_shard=3) == 7
    build_corpus(tmp_path / "out", tmp_path / "back")
    assert contents(Corpus(tmp_path / "back")) == contents(corpus)


def test_lhotse_reads_the_codes(corpus, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    EXPORTS["lhotse"](corpus, tmp_path / "out", per_shard=3)
    cuts = list(lhotse.CutSet.from_shar(in_dir=tmp_path / "out"))
    for cut, utterance in zip(cuts, corpus, strict=True):
        assert np.array_equal(cut.load_codes(), utterance.tokens.codes[0].numpy())
        assert cut.supervisions[0].text == utterance.text


def test_webdataset_reads_the_samples(corpus, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    from speechtok import SpeechTokens

    EXPORTS["webdataset"](corpus, tmp_path / "out", per_shard=100)
    samples = list(webdataset.WebDataset(str(tmp_path / "out" / "shard-00000.tar"), shardshuffle=False))
    for sample, utterance in zip(samples, corpus, strict=True):
        assert SpeechTokens.from_bytes(sample["tokens"]).to_bytes() == utterance.tokens.to_bytes()
        assert json.loads(sample["json"])["id"] == utterance.id


def test_archives_are_always_the_same_bytes(corpus, tmp_path):
    for name in ("a", "b"):
        EXPORTS["webdataset"](corpus, tmp_path / name)
    assert (tmp_path / "a/shard-00000.tar").read_bytes() == (tmp_path / "b/shard-00000.tar").read_bytes()
    with tarfile.open(tmp_path / "a/shard-00000.tar") as archive:
        assert len(archive.getnames()) == 14


def test_tokens_that_another_tokenizer_made_are_quarantined(corpus, tmp_path, new_tokenizer):
    from speechtok.corpus import Settings, build
    from speechtok.corpus.engines import LocalEngine
    from speechtok.parquet import CodesFormat

    EXPORTS["webdataset"](corpus, tmp_path / "out")
    other = new_tokenizer(seed=5)
    codes = CodesFormat(16_000, other.hop_length, other.codebook_size, other.num_codebooks, other.fingerprint)
    make = lambda encoder: LocalEngine(encoder, 0)  # noqa: E731
    built = build([str(tmp_path / "out")], tmp_path / "other", other, Settings(codes), make, progress=False)
    assert built.manifest["quarantined"] == {"total": 7, "tokens": 7}


def test_pandas_reads_the_rows_and_the_collator_takes_them(corpus, tiny):
    pandas = pytest.importorskip("pandas")
    from speechtok.lm.utterances import encode_utterance

    frame = pandas.read_parquet(corpus.path / "data")
    for (_, row), utterance in zip(frame.iterrows(), corpus, strict=True):
        assert encode_utterance(tiny, dict(row)).to_bytes() == utterance.tokens.to_bytes()


def test_datasets_reads_the_rows_and_the_collator_takes_them(corpus, tiny, tmp_path):
    datasets = pytest.importorskip("datasets")
    from speechtok.lm.utterances import encode_utterance

    data = datasets.load_dataset(
        "parquet", data_files=str(corpus.path / "data" / "*.parquet"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert len(data) == 7
    for row, utterance in zip(data, corpus, strict=True):
        assert torch.equal(torch.tensor(row["codes"])[None], utterance.tokens.codes)
        assert encode_utterance(tiny, row).to_bytes() == utterance.tokens.to_bytes()
