"""The report of an evaluation: ``report.html``, one file that needs no network, and ``report.json``."""

from __future__ import annotations

from .writing import About, write_report

__all__ = ["About", "write_report"]
