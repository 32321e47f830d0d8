"""The processor that a command is told to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MammoError, UsageError

if TYPE_CHECKING:
    from ..image_processing_mammo import MammoImageProcessor


def load_processor(name: str | None) -> MammoImageProcessor:
    """The processor of a folder, or of a model on the Hub; one with every default where none is named.

    Raises:
        UsageError: There is none, or it cannot be read.
    """
    from ..image_processing_mammo import MammoImageProcessor  # transformers is slow to import, and --help needs it not

    if name is None:
        return MammoImageProcessor()
    try:
        return MammoImageProcessor.from_pretrained(name)
    except MammoError:
        raise
    except (OSError, ValueError) as error:
        what = "no preprocessor_config.json that can be read" if Path(name).is_dir() else "no such folder or model"
        raise UsageError(what, source=name, remedy="name a folder with a preprocessor_config.json") from error
