"""The sources: a module or a mapping a collection; `discovery.Source` is the contract, `conformance` tests it."""

from __future__ import annotations
