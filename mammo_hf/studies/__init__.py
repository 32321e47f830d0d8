"""How many labels a method needs: a grid of trainings on nested label subsets, beside baselines that cost nothing."""

from __future__ import annotations
