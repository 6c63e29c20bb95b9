"""A client of a Kubernetes API server that can be made anew from where its address and credentials came from."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import yaml
from kubernetes import client, config

from tasks.sinks.errors import SinkRefused

_UNREADABLE: Final = (config.ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError)
"""What the client raises for files that are absent, empty, half written or no kubeconfig at all."""


class _Configuration(client.Configuration):
    def get_api_key_with_prefix(self, identifier: str, alias: str | None = None) -> str | None:
        # Token files mostly end with a newline, which must not stand in a header.
        key = super().get_api_key_with_prefix(identifier, alias)
        return key.strip() if key else key


class Access(client.ApiClient):
    """The client itself, and what it was made from."""

    def __init__(self, source: str, load: Callable[[client.Configuration], None]) -> None:
        self.source = source
        self._load = load
        configuration = _Configuration()
        try:
            load(configuration)
        except _UNREADABLE as error:
            raise SinkRefused(f"no way to a Kubernetes API server: {error}") from error
        # A repeated request could land after the lease: only the caller knows whether there is time for another.
        configuration.retries = False
        super().__init__(configuration)

    def renewed(self) -> Access:
        """Another one from the same source: tokens are rotated in their files, and kubeconfigs are written anew."""
        return Access(self.source, self._load)


def connect() -> Access:
    """A client for where KUBECONFIG points, else for the cluster that this process runs in, else the usual file."""
    loaders: Any = config  # the client's own annotations are partial
    given = os.environ.get("KUBECONFIG") or None
    if given is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Access("the service account", lambda made: loaders.load_incluster_config(client_configuration=made))
    # Given by hand: the client looks at KUBECONFIG when it is imported, and never again.
    return Access(given or "~/.kube/config", lambda made: loaders.load_kube_config(given, client_configuration=made))
