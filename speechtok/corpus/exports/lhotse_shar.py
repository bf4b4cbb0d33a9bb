"""Lhotse's Shar format: cuts, and beside them the codes as arrays."""

import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from speechtok.corpus.exports.webdataset import describe
from speechtok.corpus.reader import Corpus
from speechtok.errors import InputError, OutputError
from speechtok.files import as_path, make_folder

FIELD = "codes"
"""Field of the arrays, ``(Q, T)``."""

FACTS = "speechtok"
"""Key of the custom data of a cut with what makes tokens of its codes."""

_SAFE = re.compile(r"[A-Za-z0-9_-]+")


def export_lhotse(corpus: Corpus, out: str | os.PathLike[str], per_shard: int = 10_000) -> int:
    """Write the utterances of a corpus for ``lhotse.CutSet.from_shar(in_dir=out)``, and return their number.

    ``cut.load_codes()`` gives the codes. A cut has the id of the utterance, unless it has characters that cannot be in
    the name of a member of an archive.

    Raises:
        InputError: Lhotse is not installed.
        OutputError: the folder exists and is not empty.
    """
    try:
        from lhotse import MonoCut, SupervisionSegment
        from lhotse.shar import SharWriter
    except ImportError as error:
        raise InputError(f"the export needs Lhotse ({error}); run pip install lhotse") from error
    out = as_path(out)
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; choose a new folder")
    make_folder(out.absolute().parent)
    partial = Path(tempfile.mkdtemp(prefix=".speechtok-", dir=out.absolute().parent))
    count = 0
    try:
        with SharWriter(str(partial), fields={FIELD: "numpy"}, shard_size=per_shard) as writer:
            for utterance in corpus:
                name = utterance.id if _SAFE.fullmatch(utterance.id) else f"utterance-{count:09}"
                tokens = utterance.tokens
                seconds = int(tokens.num_samples) / tokens.sample_rate
                cut = MonoCut(id=name, start=0.0, duration=seconds, channel=0)
                cut.supervisions = [
                    SupervisionSegment(
                        id=name,
                        recording_id=name,
                        start=0.0,
                        duration=seconds,
                        text=utterance.text,
                        speaker=utterance.speaker,
                        language=utterance.lang,
                    )
                ]
                facts = {
                    "sample_rate": tokens.sample_rate,
                    "hop_length": tokens.hop_length,
                    "codebook_size": tokens.codebook_size,
                    "fingerprint": tokens.fingerprint,
                    "num_samples": int(tokens.num_samples),
                }
                cut = cut.attach_tensor(FIELD, tokens.codes[0].numpy().astype(np.int16))
                cut.custom[FACTS] = {**facts, "columns": describe(utterance)}
                writer.write(cut)
                count += 1
        if out.exists():
            out.rmdir()
        partial.chmod(0o755)
        os.replace(partial, out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error}); choose a writable place") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return count
