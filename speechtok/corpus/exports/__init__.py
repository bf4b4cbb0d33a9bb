"""A corpus in the formats of other tools."""

from speechtok.corpus.exports.lhotse_shar import export_lhotse
from speechtok.corpus.exports.webdataset import export_webdataset

EXPORTS = {"webdataset": export_webdataset, "lhotse": export_lhotse}
"""Exporters by the name of the format."""

__all__ = ["EXPORTS", "export_lhotse", "export_webdataset"]
