"""Weaviate: the index of a cluster, one node with an administrator's and a reader's key."""

import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.servers.installing import go_program
from tests.cluster.servers.process import ServerProcess, free_port

__all__ = ["WeaviateServer", "install"]

VERSION = "1.35.2"


def install() -> Path:
    """Return the program; build it once (six minutes of a core)."""
    return go_program("github.com/weaviate/weaviate/cmd/weaviate-server", VERSION)


class WeaviateServer(ServerProcess):
    """A node that knows two users, `admin` and `reader`, and nobody without a key.

    It cannot be told to keep its gRPC port and its gossip to 127.0.0.1: they listen on all addresses.

    Attributes:
        http: Base address of REST, `http://host:port`.
        grpc: `host:port`.
        key: API key of the administrator.
        reader_key: API key of who may only read.

    Args:
        folder: Its own folder.
        tls: Its certificate, the key, and the authorities of callers; REST asks callers for a certificate, gRPC does not.
            None for plain text.
    """

    def __init__(self, folder: Path, *, tls: tuple[Path, Path, Path] | None = None) -> None:
        super().__init__("weaviate", folder)
        self._tls = tls
        self._ports = {name: free_port() for name in ("http", "grpc", "gossip", "data", "metrics")}
        # On one machine a node looks for its own calls here, whatever it is told; else it never elects itself.
        self._ports["raft"] = free_port(together=2)
        self._ports["raft_rpc"] = self._ports["raft"] + 1
        self.http = f"{'https' if tls else 'http'}://127.0.0.1:{self._ports['http']}"
        self.grpc = f"127.0.0.1:{self._ports['grpc']}"
        self.key, self.reader_key = secrets.token_urlsafe(24), secrets.token_urlsafe(24)

    def command(self) -> Sequence[str | Path]:
        """Return what starts it."""
        if self._tls:
            given = zip(("--tls-certificate", "--tls-key", "--tls-ca"), self._tls, strict=True)
            listening = ["--scheme", "https", "--tls-host", "127.0.0.1", "--tls-port", str(self._ports["http"])]
            return [install(), *listening, *(part for pair in given for part in pair)]
        return [install(), "--scheme", "http", "--host", "127.0.0.1", "--port", str(self._ports["http"])]

    def environment(self) -> dict[str, str]:
        """Return its settings."""
        ports = {name: str(port) for name, port in self._ports.items()}
        return {
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": f"{self.key},{self.reader_key}",
            "AUTHENTICATION_APIKEY_USERS": "admin,reader",
            "AUTHORIZATION_ADMINLIST_ENABLED": "true",
            "AUTHORIZATION_ADMINLIST_USERS": "admin",
            "AUTHORIZATION_ADMINLIST_READONLY_USERS": "reader",
            "PERSISTENCE_DATA_PATH": str(self.folder / "data"),
            # Else keyword searches pass over what was written lately (docs/decisions/0033).
            "BLOCKMAX_WAND_PER_SEGMENT_LIMIT": "20000",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "ENABLE_MODULES": "",
            "CLUSTER_HOSTNAME": "node1",
            "CLUSTER_IN_LOCALHOST": "true",
            # Else it may choose an IPv6 address and end.
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_ADVERTISE_PORT": ports["gossip"],
            "CLUSTER_GOSSIP_BIND_PORT": ports["gossip"],
            "CLUSTER_DATA_BIND_PORT": ports["data"],
            "RAFT_PORT": ports["raft"],
            "RAFT_INTERNAL_RPC_PORT": ports["raft_rpc"],
            "RAFT_BOOTSTRAP_EXPECT": "1",
            "GRPC_PORT": ports["grpc"],
            "PROMETHEUS_MONITORING_ENABLED": "true",
            "PROMETHEUS_MONITORING_PORT": ports["metrics"],
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
        } | ({"GRPC_CERT_FILE": str(self._tls[0]), "GRPC_KEY_FILE": str(self._tls[1])} if self._tls else {})

    def is_ready(self) -> bool:
        """Return whether it says so."""
        context = None
        if self._tls:
            certificate, key, authorities = self._tls
            context = ssl.create_default_context(cafile=authorities)
            context.load_cert_chain(certificate, key)
        try:
            ready = f"{self.http}/v1/.well-known/ready"
            with urllib.request.urlopen(ready, timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False
