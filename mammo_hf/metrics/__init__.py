"""Metrics of classification, their intervals, calibration and comparison: plain functions of numpy and scipy."""

from __future__ import annotations
