"""Corpora of tokens: built from recordings, read, filtered, exported.

The extra ``corpus`` has what this package needs; ``import speechtok`` does not import it.
"""

from speechtok.corpus.build import Built, build
from speechtok.corpus.reader import Corpus, Utterance
from speechtok.corpus.settings import Settings

__all__ = ["Built", "Corpus", "Settings", "Utterance", "build"]
