import json
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

pytest.importorskip("pyarrow", reason="the extra 'corpus' is not installed")

from speechtok import ConvNeXtTokenizer
from speechtok.corpus import Built, Settings, build
from speechtok.corpus.engines import LocalEngine
from speechtok.parquet import CodesFormat


@pytest.fixture(scope="session")
def codes_format(tiny: ConvNeXtTokenizer) -> Callable[..., CodesFormat]:
    """``codes_format(encoding="uint16", model=None)``: facts about the codes of the small tokenizer."""

    def make(encoding: str = "uint16", model=None) -> CodesFormat:
        return CodesFormat(
            tiny.sample_rate,
            tiny.hop_length,
            tiny.codebook_size,
            tiny.num_codebooks,
            tiny.fingerprint,
            encoding,
            model,
        )

    return make


@pytest.fixture
def build_corpus(tiny, codes_format) -> Callable[..., Built]:
    """``build_corpus(source, out, jobs=0, **settings)``: build with the small tokenizer and the local engine."""

    def run(source, out, jobs: int = 0, engine=None, kind=None, encoding="uint16", model=None, **settings) -> Built:
        chosen = Settings(codes_format(encoding, model), **settings)
        sources = [str(one) for one in (source if isinstance(source, list) else [source])]
        make = engine or (lambda encoder: LocalEngine(encoder, jobs))
        return build(sources, out, tiny, chosen, make, kind, progress=False)

    return run


@pytest.fixture
def recordings(tmp_path: Path, speech) -> Path:
    """A folder of recordings with a manifest ``list.jsonl``."""
    folder = tmp_path / "recordings"
    (folder / "more").mkdir(parents=True)
    rows = []
    for index in range(7):
        name = f"{'more/' * (index % 2)}r{index}.wav"
        soundfile.write(folder / name, speech(0.3 + 0.1 * index, index), 16_000, subtype="FLOAT")
        rows.append(
            {"audio": name, "id": f"u{index}", "text": f"text {index}", "speaker": f"s{index % 2}", "lang": "en"}
        )
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder
