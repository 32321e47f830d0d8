"""A feature of `datasets` for columns of DICOM files, whose rows are read as `read_mammogram` reads a file."""

from __future__ import annotations

import os
from collections.abc import ItemsView, KeysView, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from datasets.download.download_config import DownloadConfig
from datasets.features import features
from datasets.features.image import Image
from datasets.utils.file_utils import is_local_path, xopen

from ..dicom import Mammogram, MammogramError, read_mammogram
from ..errors import DataError

NAME = "MammogramImage"


@dataclass(frozen=True, eq=False, repr=False)
class MammogramOfRow(Mammogram):
    """A mammogram of a row, which `datasets` can store again: as a mapping it is what it was read from.

    Attributes:
        encoded: Dict of ``path`` and ``bytes``.
    """

    encoded: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.encoded[key]

    def keys(self) -> KeysView[str]:
        """Return "path" and "bytes"."""
        return self.encoded.keys()

    def items(self) -> ItemsView[str, Any]:
        """Return the path and the bytes; one of them is ``None``."""
        return self.encoded.items()


Mapping.register(MammogramOfRow)


@dataclass
class MammogramImage(Image):
    """Feature of `datasets` for mammograms.

    A row's value is a `Mammogram`: exact intensities after modality LUT, VOI LUT or window and MONOCHROME1, and the
    facts of the header. It is stored as `datasets.Image` stores one, as path or bytes, and takes paths, bytes, and
    dicts of both. Pictures (PNG, JPEG) are refused: `datasets.Image` is for those.

    Args:
        decode: Whether to read the files; otherwise a row's value is a dict of ``path`` and ``bytes``.
    """

    mode: str | None = field(default=None, repr=False)  # of `datasets.Image`; has no effect here
    decode: bool = True
    id: str | None = field(default=None, repr=False)
    dtype: ClassVar[str] = "mammo_hf.Mammogram"
    _type: str = field(default=NAME, init=False, repr=False)

    def encode_example(self, value: Any) -> dict[str, Any]:
        """Return ``path`` and ``bytes`` of a value.

        Raises:
            DataError: The value is an array or a picture.
        """
        if isinstance(value, MammogramOfRow):
            return value.encoded
        if not isinstance(value, (str, os.PathLike, bytes, bytearray, Mapping)):
            what = f"a {type(value).__name__} is not a DICOM file"
            raise DataError(what, source=NAME, remedy="give the file's path, or its bytes")
        encoded: dict[str, Any] = super().encode_example(value)
        return encoded

    def decode_example(
        self, value: Mapping[str, Any], token_per_repo_id: Mapping[str, str | bool] | None = None
    ) -> Mammogram:
        """Read a mammogram.

        Args:
            value: Dict of ``path`` and ``bytes``; the path may be an address that `datasets` opens, such as
                ``hf://...``.
            token_per_repo_id: Tokens for private data sets on the Hub by their names.

        Raises:
            RuntimeError: ``decode`` is false.
            MammogramError: The file cannot be read.
        """
        if not self.decode:
            raise RuntimeError("decoding is switched off for this column; use MammogramImage(decode=True)")
        if isinstance(value, Mammogram):
            return value
        path, content = value["path"], value["bytes"]
        if content is None and path is not None and not is_local_path(path):
            content = _download(path, token_per_repo_id or {})
        try:
            found = read_mammogram(path if content is None else content)
        except MammogramError as error:
            if content is None or path is None:
                raise
            raise MammogramError(error.problem, source=path, remedy=error.remedy, code=error.code) from error
        parts = {part.name: getattr(found, part.name) for part in fields(found)}
        return MammogramOfRow(**parts, encoded=dict(value))


def _download(address: str, tokens: Mapping[str, str | bool]) -> bytes:
    repository = next((name for name in tokens if f"/{name}@" in address or f"/{name}/" in address), "")
    with xopen(address, "rb", download_config=DownloadConfig(token=tokens.get(repository))) as file:
        content: bytes = file.read()
    return content


# Prepared sets and those of others keep their own types: the name is taken only if `datasets` has none of that name.
features._FEATURE_TYPES.setdefault(NAME, MammogramImage)
