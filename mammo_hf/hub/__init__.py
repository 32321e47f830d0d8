"""Publishing on the Hub: model cards, dataset cards, and pushes that identify nobody."""

from __future__ import annotations
