"""``manifest.json`` and the data card of a corpus."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from speechtok.corpus.plan import Overview
from speechtok.corpus.settings import CARD, MANIFEST, Layout, Settings
from speechtok.corpus.shards import shard_facts
from speechtok.corpus.table import read_table
from speechtok.errors import MissingFileError, TokensError, quoted
from speechtok.files import replacing
from speechtok.parquet import FORMAT, read_schema
from speechtok.parsing import ParseError, parse_json
from speechtok.tokenizer import Tokenizer
from speechtok.version import __version__


def write_manifest(layout: Layout, settings: Settings, tokenizer: Tokenizer, overview: Overview) -> dict[str, Any]:
    """Write both files, from what the shards hold, and return the manifest."""
    shards = [shard_facts(layout.shard(shard)) for shard in sorted(overview.parts)]
    reasons: dict[str, int] = {}
    for shard in sorted(overview.parts):
        path = layout.quarantine(shard)
        if path.is_file():
            for reason in read_table(path).column("reason").to_pylist():
                reasons[reason] = reasons.get(reason, 0) + 1
    columns = read_schema(layout.shard(min(overview.parts)))[1].names
    rows = sum(shard["rows"] for shard in shards)
    manifest = {
        "format": FORMAT,
        "versions": {name: _version(name) for name in ("torch", "numpy", "pyarrow")} | {"speechtok": __version__},
        "tokenizer": {
            "fingerprint": tokenizer.fingerprint,
            "decoder_fingerprint": tokenizer.decoder_fingerprint,
            "frame_rate": tokenizer.frame_rate,
        },
        "settings": settings.to_dict(),
        "columns": columns,
        "planned": overview.items,
        "utterances": rows,
        "hours": round(sum(shard["seconds"] for shard in shards) / 3600, 4),
        "frames": sum(shard["frames"] for shard in shards),
        "bytes": sum(shard["bytes"] for shard in shards),
        "quarantined": {"total": sum(reasons.values()), **dict(sorted(reasons.items()))},
        "shards": shards,
    }
    _write(layout.folder / CARD, _card(manifest))
    _write(layout.folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a corpus.

    Raises:
        MissingFileError: the folder does not hold a complete corpus.
        TokensError: the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; expected a corpus that 'speechtok corpus build' has completed")
    try:
        manifest = parse_json(path.read_bytes())
    except (OSError, ParseError) as error:
        raise TokensError(f"{path} cannot be read ({error!s:.80}); build the corpus again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise TokensError(f"{path} has the format {quoted(manifest)}; expected {FORMAT}")
    return manifest


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def _card(manifest: dict[str, Any]) -> str:
    codes = manifest["settings"]["format"]
    quarantined = "\n".join(f"| {reason} | {count} |" for reason, count in manifest["quarantined"].items())
    rate = manifest["tokenizer"]["frame_rate"]
    return f"""---
configs:
- config_name: default
  data_files: data/*.parquet
tags:
- speech
- audio-tokens
- speechtok
---

# Speech tokens

{manifest["utterances"]:,} utterances, {manifest["hours"]:,.2f} hours, as codes of the speech tokenizer
`{codes["fingerprint"]}`: {codes["num_codebooks"]} codebooks of {codes["codebook_size"]} entries,
{rate:g} frames a second.

```python
from datasets import load_dataset

rows = load_dataset("parquet", data_files="data/*.parquet")["train"]
codes = rows[0]["codes"]  # (codebooks, frames)
```

```python
from speechtok.corpus import Corpus

for utterance in Corpus("."):
    utterance.tokens, utterance.text
```

| | |
|---|---|
| codes | `{codes["encoding"]}` |
| columns | {", ".join(f"`{name}`" for name in manifest["columns"])} |
| shards | {len(manifest["shards"])}, {manifest["bytes"] / 1e6:,.1f} MB |
| planned utterances | {manifest["planned"]:,} |
| made with | speechtok {manifest["versions"]["speechtok"]} |

## Quarantine

Utterances that could not be read are listed in `quarantine/` with their source, a reason and a message.

| reason | utterances |
|---|---|
{quarantined}

## Fill in

The recordings, their languages and licence, and the speakers' consent are unknown to the program that wrote this card.
"""
