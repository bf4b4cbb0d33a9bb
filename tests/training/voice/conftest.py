import json
from pathlib import Path

import pytest
import soundfile

from tests.conftest import make_speech


@pytest.fixture(scope="session")
def voices_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances of two speakers, and one of nobody that is named, for training and validation."""
    folder = tmp_path_factory.mktemp("voices")
    for name, count in (("train", 3), ("dev", 2)):
        rows = []
        for speaker in ("anna", "bela", None):
            for index in range(count if speaker else 1):
                audio = f"{name}-{speaker}-{index}.flac"
                seed = 10 * count + index
                soundfile.write(folder / audio, make_speech(1.2 + 0.2 * index, seed), 16_000)
                rows.append(json.dumps({"audio": audio, "id": audio, "speaker": speaker}))
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    return folder
