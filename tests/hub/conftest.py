"""The fixtures that the tests of commands share."""

from __future__ import annotations

from hub_fixtures import checkpoint, hub, trained

__all__ = ["checkpoint", "hub", "trained"]
