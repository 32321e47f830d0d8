"""The report of an evaluation: ``report.html``, one file that needs no network, and ``report.json``."""

from __future__ import annotations

from .writing import PRIVATE_COLLECTION, About, write_report

__all__ = ["PRIVATE_COLLECTION", "About", "write_report"]
