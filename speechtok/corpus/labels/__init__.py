"""Labels: columns that describe an utterance, computed from its audio or its codes."""

from speechtok.corpus.labels.label import Clip, Label
from speechtok.corpus.labels.registry import LABELS, load_label, split_labels

__all__ = ["LABELS", "Clip", "Label", "load_label", "split_labels"]
