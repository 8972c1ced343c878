"""The one place where what goes wrong in a request becomes an errno.

One exception that is no FUSEError ends the whole mount, so every handler of
fuse.operations is wrapped here.
"""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, ParamSpec, TypeVar

import pyfuse3

log = logging.getLogger("fuse.operations")

_P = ParamSpec("_P")
_R = TypeVar("_R")

_TRANSLATED = {errno.EDQUOT: errno.ENOSPC}
"""A volume at its size limit is full, whoever owns the files."""

_NOTEWORTHY = frozenset({errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EUCLEAN})


def handler(
    function: Callable[_P, Coroutine[Any, Any, _R]],
) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Wrap a request handler: every exception becomes a FUSEError, and is logged once.

    OSErrors are the client's to hear and are logged only when they tell of trouble here.
    """

    @functools.wraps(function)
    async def handle(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return await function(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except OSError as error:
            raise _refusal(function.__name__, error) from None
        except Exception:
            log.exception("%s failed", function.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return handle


def _refusal(request: str, error: OSError) -> pyfuse3.FUSEError:
    code = error.errno or errno.EIO
    if code in _NOTEWORTHY:
        log.error("%s: %s", request, error)
    return pyfuse3.FUSEError(_TRANSLATED.get(code, code))


def refuse(code: int) -> NoReturn:
    """Refuse a request with errno `code`."""
    raise pyfuse3.FUSEError(code)
