"""Salted hashes: the only form in which a collection names a patient, an exam or an image."""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path

from ..errors import UsageError

SALT_VARIABLE = "MAMMO_HF_SALT"
PRIVATE = "private"
_HASH = re.compile(r"[0-9a-f]{16}")


@lru_cache(maxsize=1 << 10)  # the images of a patient are near each other, and share the text
def salted_hash(value: str, salt: str) -> str:
    """Return a name that does not reveal the identifier: HMAC-SHA-256 keyed by the salt, cut to 64 bits.

    Args:
        value: Identifier, such as a PatientID.
        salt: Name of the collection if it is public (so that the same patients have the same hashes everywhere),
            `private_salt()` for any other.

    Returns:
        Text of 16 hexadecimal digits. Among ten million values the chance of one collision is about 3e-6.
    """
    return hmac.digest(salt.encode(), value.encode(), "sha256")[:8].hex()


def is_salted_hash(value: object) -> bool:
    """Return whether a value has the form that `salted_hash` gives."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def salt_file() -> Path:
    """Return the file of this user's private salt: in the configuration folder, never next to a checkpoint."""
    folder = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "mammo_hf" / "salt"


def private_salt() -> str:
    """Return the salt of private collections: ``MAMMO_HF_SALT``, or one generated once and kept for this user.

    Raises:
        UsageError: ``MAMMO_HF_SALT`` is set but empty, or the salt's file can be neither read nor written.
    """
    given = os.environ.get(SALT_VARIABLE)
    if given is not None:
        if not given.strip():
            raise UsageError("is set but empty", source=SALT_VARIABLE, remedy="set it to a secret text or unset it")
        return given
    path = salt_file()
    try:
        if not path.exists():
            _write_once(path, secrets.token_hex(32))
        salt = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not plain text"
        raise UsageError(
            f"the salt for patient hashes cannot be kept there ({reason})",
            source=path,
            remedy=f"set {SALT_VARIABLE} to a secret text",
        ) from error
    if not salt:
        raise UsageError("is empty", source=path, remedy=f"delete it, or set {SALT_VARIABLE} to a secret text")
    return salt


def _write_once(path: Path, text: str) -> None:
    """Write a file that only its owner can read; of several processes at once exactly one succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent)  # 0600 by definition
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # fails if the file exists; a rename would replace another process's salt
    finally:
        os.unlink(temporary)
