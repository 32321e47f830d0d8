"""A classifier for programs that run no PyTorch."""

from __future__ import annotations

from .graph import export_program
from .onnx_model import export_onnx

__all__ = ["export_onnx", "export_program"]
