"""Whether the Hugging Face hub may be asked, and whether it answers, which is known in seconds."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path


def is_closed(local: Path | None) -> bool:
    """Tell whether only files at hand are read: a folder's, or any where the hub is out of reach.

    It is out of reach under `BOOK_OFFLINE`, and when it is silent.
    """
    return local is not None or bool(os.environ.get("BOOK_OFFLINE")) or bool(silence())


def silence() -> str:
    """Return why the hub gives no answer, or "" when it does, or HF_HUB_OFFLINE lets nobody ask.

    Any answer within `BOOK_DATA_TIMEOUT` seconds (20) will do, and holds for a minute. The hub's
    own client is not asked: where a server is silent it tries for many minutes.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return ""
    timeout = float(os.environ.get("BOOK_DATA_TIMEOUT", "20"))
    return _silence(constants.ENDPOINT, timeout, int(time.monotonic() // 60))


@lru_cache(maxsize=1)
def _silence(endpoint: str, timeout: float, minute: int) -> str:
    import requests

    try:
        requests.head(endpoint, timeout=timeout).close()
    except requests.Timeout:
        return f"{endpoint} did not answer within {timeout:g} s, and it was not downloaded before"
    except requests.RequestException:
        return f"no connection to {endpoint}, and it was not downloaded before"
    return ""
