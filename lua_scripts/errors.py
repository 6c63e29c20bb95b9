"""The errors of everything that talks to Redis; the class tells the caller what happened and whether to retry."""

from __future__ import annotations


class StoreError(Exception):
    """Redis could not do what was asked. Retrying later is right unless a subclass says otherwise."""


class StoreFull(StoreError):
    """Redis is out of memory (``OOM command not allowed``); nothing of the call was kept."""


class StoreOverloaded(StoreError):
    """Redis could take more, but what it holds is not taken in fast enough: no more is to be added for now."""


class StoreTimeout(StoreError):
    """Redis did not answer in time; whether the call took effect is not known."""


class StoreUnreachable(StoreError):
    """No connection to Redis: refused, reset, failing over or out of connections."""


class StoreUnsafe(StoreError):
    """Redis answers but must not be used: it may evict what was accepted. Retrying does not help until it is mended."""


class StoreBroken(StoreError):
    """A script failed for its input: retrying the same call gives the same failure."""
