"""Sources of a corpus: folders, lists of recordings, and containers, on a disk or in an object store."""

from speechtok.corpus.sources.find import KINDS, find_items

__all__ = ["KINDS", "find_items"]
