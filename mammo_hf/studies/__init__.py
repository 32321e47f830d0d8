"""Studies: the labels that a method needs, and the quality of explanations, each next to baselines."""

from __future__ import annotations
