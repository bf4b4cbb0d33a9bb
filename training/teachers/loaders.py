"""Loading a teacher by its spec.

| spec | teacher |
|---|---|
| ``mfcc`` | 39 mel-frequency cepstral coefficients and deltas: a baseline |
| ``own:DIR`` | a teacher that ``python -m training.teachers.pretrain`` trained |
| ``torchaudio:BUNDLE`` | a bundle of ``torchaudio.pipelines``, such as ``HUBERT_BASE`` or ``WAVLM_LARGE`` |
| ``transformers:NAME`` | HuBERT, WavLM, wav2vec 2.0 or Whisper: a directory, or a name on the Hugging Face hub |
| ``fairseq2:CARD`` | wav2vec 2.0 or w2v-BERT: the name of a fairseq2 asset card |
"""

from collections.abc import Callable

from speechtok.errors import InputError, quoted
from training.teachers import fairseq2, hubert, torchaudio, transformers
from training.teachers.mfcc import MFCCTeacher
from training.teachers.teacher import AVERAGE, Layer, Teacher

BACKENDS: dict[str, Callable[[str, Layer], Teacher]] = {
    "own": hubert.load,
    "torchaudio": torchaudio.load,
    "transformers": transformers.load,
    "fairseq2": fairseq2.load,
}


def load_teacher(spec: str, layer: Layer = AVERAGE) -> Teacher:
    """Load a teacher, in evaluation mode and without gradients.

    Args:
        spec: kind and name, such as ``"transformers:openai/whisper-base"``; see :mod:`training.teachers.loaders`.
        layer: what the teacher returns: a layer counted from 1, ``"average"`` or ``"phones"``.

    Raises:
        InputError: the spec is invalid, or the teacher does not have the layer.
        MissingFileError: the teacher is neither on this machine nor can it be downloaded.
        CheckpointError: the teacher is damaged, or is not a supported speech model.
    """
    kind, _, name = spec.partition(":")
    if spec == "mfcc":
        teacher: Teacher = MFCCTeacher(layer)
    elif kind in BACKENDS and name:
        teacher = BACKENDS[kind](name, layer)
    else:
        kinds = ", ".join(f"{kind}:NAME" for kind in BACKENDS)
        raise InputError(f"teacher is {quoted(spec)}; expected mfcc, {kinds}")
    return teacher.eval().requires_grad_(False)
