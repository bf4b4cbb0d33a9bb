"""Tokenizers in other formats (the ``onnx`` extra)."""

from speechtok.export.known_answer import check_onnx as check_onnx
from speechtok.export.onnx import export_onnx as export_onnx
