"""What leaves a machine: cards made of facts, and one commit to the Hub that names nobody."""

from __future__ import annotations
