"""Former names of what :mod:`training.manifest` has; goes when nothing imports it any more."""

from pathlib import Path

from training.manifest import SILENCE, Phone, phones_at, read_manifest

__all__ = ["SILENCE", "Phone", "phones_at", "read_alignments"]


def read_alignments(manifest: Path) -> dict[Path, tuple[Phone, ...]]:
    """Phones of each aligned audio file of a manifest."""
    return {u.audio: u.phones for u in read_manifest(manifest) if u.phones}
