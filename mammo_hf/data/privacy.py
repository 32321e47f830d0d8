"""Salted hashes: the only form in which a patient, an exam or an image is named from the table on."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from pathlib import Path

from ..errors import UsageError

SALT_VARIABLE = "MAMMO_HF_SALT"
PRIVATE = "private"
_HASH = re.compile(r"[0-9a-f]{16}")


def salted_hash(value: str, salt: str) -> str:
    """Names a thing without telling what it is: HMAC-SHA-256 keyed by the salt, cut to 64 bits.

    Args:
        value: The identifier, such as a PatientID.
        salt: The collection's name for a public collection (so that the same patients have the same hashes
            everywhere), `private_salt()` for any other.

    Returns:
        16 hexadecimal digits. Among ten million values the chance of one collision is about 3e-6.
    """
    return hmac.new(salt.encode(), value.encode(), hashlib.sha256).hexdigest()[:16]


def is_salted_hash(value: object) -> bool:
    """Whether a value has the form that `salted_hash` gives."""
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def salt_file() -> Path:
    """Where this user's private salt is kept: the configuration folder, never beside a checkpoint."""
    folder = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "mammo_hf" / "salt"


def private_salt() -> str:
    """The salt of collections that are not public: ``MAMMO_HF_SALT``, or one generated once and kept for this user.

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
    """Writes a file that only its owner can read; of several processes at once exactly one wins, whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent)  # 0600 by definition
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # fails where the file is there; a rename would replace another process's salt
    finally:
        os.unlink(temporary)
