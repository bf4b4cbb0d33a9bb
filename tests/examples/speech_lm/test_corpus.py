"""A corpus of ``speechtok corpus build`` trains as the manifest that it was built from."""

import dataclasses

import pytest

from examples.speech_lm.prepare import prepare
from speechtok.errors import InputError
from tests.examples.speech_lm.conftest import config_of

pytest.importorskip("pyarrow", reason="the extra 'corpus' is not installed")


@pytest.fixture
def corpora(values, data, tiny, tmp_path, lexicon):
    """A config whose data are corpora."""
    from speechtok.corpus import Settings, build
    from speechtok.corpus.engines import LocalEngine
    from speechtok.parquet import CodesFormat

    codes = CodesFormat(16_000, tiny.hop_length, tiny.codebook_size, tiny.num_codebooks, tiny.fingerprint)
    for split in ("train", "dev"):
        source, out = [str(data / f"{split}.jsonl")], tmp_path / "corpora" / split
        build(source, out, tiny, Settings(codes), lambda encoder: LocalEngine(encoder, 0), progress=False)
    return config_of(values, data=str(tmp_path / "corpora"), lexicon=lexicon)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_corpus_gives_the_utterances_that_files_give(values, tiny, corpora, split, lexicon):
    from_files, from_corpus = prepare(config_of(values, lexicon=lexicon), tiny, split), prepare(corpora, tiny, split)
    assert len(from_files) == len(from_corpus) > 1
    for a, b in zip(from_files, from_corpus, strict=True):
        assert a.tokens.to_bytes() == b.tokens.to_bytes()
        assert dataclasses.replace(a, tokens=b.tokens) == b


def test_a_corpus_of_another_tokenizer_is_refused(corpora, new_tokenizer):
    with pytest.raises(InputError, match="build it again"):
        prepare(corpora, new_tokenizer(seed=9), "train")
