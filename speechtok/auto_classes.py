"""Files beside a saved tokenizer by which the auto classes of transformers load it, without importing transformers."""

import json
from pathlib import Path

from speechtok.files import replacing

MODEL_TYPE = "speechtok"
"""``model_type`` in ``config.json``, by which transformers finds the classes of :mod:`speechtok.transformers`."""

_MODULE = "modeling_speechtok"

_REMOTE_CODE = '''"""Loads the tokenizer with AutoModel and trust_remote_code=True; needs the package speechtok."""

from speechtok.transformers import SpeechtokConfig, SpeechtokFeatureExtractor, SpeechtokModel

__all__ = ["SpeechtokConfig", "SpeechtokFeatureExtractor", "SpeechtokModel"]
'''

_AUTO_MAP = {"AutoConfig": f"{_MODULE}.SpeechtokConfig", "AutoModel": f"{_MODULE}.SpeechtokModel"}


def add_auto_classes(directory: Path, sample_rate: int) -> None:
    """Complete the folder of a saved tokenizer for transformers.

    Adds ``auto_map`` to ``config.json``, and writes ``preprocessor_config.json`` and the module that ``auto_map``
    names, which imports the classes from the installed package. Folders of other models of transformers stay as they
    are.

    Args:
        directory: folder that :meth:`speechtok.tokenizer.Tokenizer.save` wrote.
        sample_rate: sample rate of the tokenizer, in hertz.

    Raises:
        OutputError: a file cannot be written.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != MODEL_TYPE:
        return
    config |= {"architectures": ["SpeechtokModel"], "auto_map": _AUTO_MAP}
    extractor = {
        "feature_extractor_type": "SpeechtokFeatureExtractor",
        "auto_map": {"AutoFeatureExtractor": f"{_MODULE}.SpeechtokFeatureExtractor"},
        "sampling_rate": sample_rate,
        "feature_size": 1,
        "padding_value": 0.0,
        "padding_side": "right",
        "return_attention_mask": True,
    }
    for name, text in (
        (f"{_MODULE}.py", _REMOTE_CODE),
        ("preprocessor_config.json", json.dumps(extractor, indent=2) + "\n"),
        ("config.json", json.dumps(config, indent=2) + "\n"),
    ):
        with replacing(directory / name) as file:
            file.write(text.encode())
