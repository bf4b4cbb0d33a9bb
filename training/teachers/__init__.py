"""Teachers: speech models whose features codebook 0 learns to predict, and their features on disk.

``python -m training.teachers`` extracts features; ``python -m training.teachers.pretrain`` trains a teacher.

| file | content |
|---|---|
| ``teacher.py`` | the interface of a teacher |
| ``loaders.py`` | a teacher by its spec |
| ``hubert.py``, ``mfcc.py``, ``torchaudio.py``, ``transformers.py``, ``whisper.py``, ``fairseq2.py`` | back ends |
| ``extraction.py``, ``store.py`` | features of a corpus: computed, and on disk |
| ``kmeans.py``, ``frames.py``, ``log_mel.py``, ``wav2vec2.py`` | what several of them share |
| ``pretrain/`` | pretraining of a small HuBERT |
"""

from training.teachers.extraction import extract
from training.teachers.loaders import load_teacher
from training.teachers.store import FeatureStore
from training.teachers.teacher import AVERAGE, PHONES, Layer, Teacher

__all__ = ["AVERAGE", "PHONES", "FeatureStore", "Layer", "Teacher", "extract", "load_teacher"]
