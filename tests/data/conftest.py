"""Puts this folder on the path, so that the tests of data and of its sources share their helper modules."""

from __future__ import annotations
