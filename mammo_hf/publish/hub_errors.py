"""What went wrong on the way to the Hub, in one line each; whatever it was, the folder is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)

from ..errors import MammoError, UsageError

AGAIN = "run the same command again: what has arrived is not sent twice"
_SAID = {
    400: ("the Hub refuses what was sent", "look at the head of README.md"),
    401: ("the Hub does not know you, or has no such repository for you", "log in (hf auth login), or give a token"),
    403: ("the token may not write there", "use one that may, or name a repository of your own"),
    404: ("there is no such repository, or not for this token", "check its name"),
    409: ("the repository was changed by somebody else in between", AGAIN),
    413: ("a file is larger than the Hub takes", "save the model in smaller shards (max_shard_size)"),
    429: ("the Hub asks for fewer requests", f"wait some minutes, then {AGAIN}"),
}

_BROKEN = ("the connection to the Hub broke, or there is none", f"check the network, then {AGAIN}")


class HubError(MammoError):
    """The Hub did not do what was asked; nothing on this machine has changed."""


@contextmanager
def plain_hub_errors(repository: str, *, keeps: object = None) -> Iterator[None]:
    """Turns what ``huggingface_hub`` raises into one line.

    Args:
        repository: Its name.
        keeps: The folder that holds everything still; ``None`` where none was to be sent.

    Raises:
        UsageError: The repository's name has characters that the Hub does not take.
        HubError: Anything else that the Hub or the connection did.
    """
    try:
        yield
    except HFValidationError as error:
        raise bad_name(repository) from error
    except MammoError:
        raise
    except Exception as error:
        said = _said(error)
        if said is None:
            raise
        problem, remedy = said
        whole = "" if keeps is None else f"; {keeps} is whole"
        raise HubError(problem, source=repository, remedy=remedy + whole) from error


def bad_name(repository: str) -> UsageError:
    """For a name that the Hub does not take."""
    return UsageError(
        "is no name for a repository",
        source=repr(repository),
        remedy="use OWNER/NAME of letters, digits, '-', '_' and '.', of 96 characters at most",
    )


def _said(error: BaseException | None) -> tuple[str, str] | None:
    """Problem and remedy of the first cause that is known."""
    while error is not None:
        if isinstance(error, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set", "unset it, or push from a machine with a network"
        if isinstance(error, LocalTokenNotFoundError):
            return _SAID[401]
        if isinstance(error, RevisionNotFoundError):
            return "there is no such revision", "check its name"
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return _of_status(error)
        # the client's transport is httpx, under another name in later versions
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            return _BROKEN
        if isinstance(error, ConnectionError | TimeoutError):
            return _BROKEN
        if isinstance(error, RuntimeError) and error.__cause__ is None:
            # what uploads to the Hub's chunked storage knows no other kind of error
            return f"the upload failed ({str(error).strip().partition(chr(10))[0][:200]})", AGAIN
        error = error.__cause__ or error.__context__
    return None


def _of_status(error: HfHubHTTPError) -> tuple[str, str]:
    status = error.response.status_code
    if status in _SAID:
        problem, remedy = _SAID[status]
    elif status >= 500:
        problem, remedy = "the Hub has a fault of its own", f"wait a while, then {AGAIN}"
    else:
        problem, remedy = "the Hub refuses the request", "see https://status.huggingface.co, or try again later"
    return f"{problem} ({status})", remedy
