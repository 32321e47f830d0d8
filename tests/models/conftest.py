"""The fixtures that the tests of models share with those of the Hub."""

from __future__ import annotations

from hub_fixtures import hub

__all__ = ["hub"]
