"""Procedurally drawn mammograms with known findings, in memory or on disk in the layout of CBIS-DDSM."""

from __future__ import annotations

from .exam import PhantomExam, PhantomFinding, draw_exam
from .writing import PhantomSummary, write_phantom

__all__ = ["PhantomExam", "PhantomFinding", "PhantomSummary", "draw_exam", "write_phantom"]
