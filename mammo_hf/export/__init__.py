"""A classifier for programs that run no PyTorch, and for CPUs."""

from __future__ import annotations

from .graph import export_program
from .onnx_classifier import OnnxClassifier, is_exported, load_exported
from .onnx_model import export_onnx

__all__ = ["OnnxClassifier", "export_onnx", "export_program", "is_exported", "load_exported"]
