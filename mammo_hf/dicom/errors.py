"""The one error that reading a mammogram raises."""

from __future__ import annotations

from ..errors import DataError


class MammogramError(DataError):
    """This file is no mammogram that can be read: what it is about, what is wrong with it, and what to do.

    The text names the source as the caller gave it and never repeats a value that the file holds about a person.
    """
