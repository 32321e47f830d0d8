"""Procedurally drawn mammograms with known lesions, in memory or on disk in the layout of CBIS-DDSM."""

from __future__ import annotations

from .exam import Case, PhantomExam, draw_exam
from .lesions import Lesion
from .writing import write_phantom

__all__ = ["Case", "Lesion", "PhantomExam", "draw_exam", "write_phantom"]
