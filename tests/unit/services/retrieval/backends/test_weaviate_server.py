import pytest

from services.chassis.errors import InvalidInput
from services.retrieval.backends.weaviate_rows import tenant_name
from services.retrieval.backends.weaviate_server import WeaviateServer


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("weaviate://index", ("index", 8080, "index", 50051, False)),
        ("weaviate://index:80", ("index", 80, "index", 50051, False)),
        ("weaviate://index:80/?grpc=index-grpc:5005", ("index", 80, "index-grpc", 5005, False)),
        ("weaviates://index?grpc=index-grpc", ("index", 443, "index-grpc", 50051, True)),
        ("weaviates://[::1]:1?grpc=[::1]:2", ("::1", 1, "::1", 2, True)),
    ],
)
def test_an_address_says_where_both_ports_are(url: str, expected: tuple[str, int, str, int, bool]) -> None:
    server = WeaviateServer.of_url(url, key="secret")
    assert (server.http_host, server.http_port, server.grpc_host, server.grpc_port, server.tls) == expected
    assert "secret" not in repr(server)


@pytest.mark.parametrize(
    "url",
    [
        "weaviate://",
        "weaviate://:8080",
        "weaviate://index:port",
        "weaviate://index:99999",
        "weaviate://index/path",
        "weaviate://key@index",
        "weaviate://index?grpc_port=1",
        "weaviate://index?tls",
        "weaviate://index?grpc=a:1&grpc=b:2",
        "weaviate://index?grpc=index:port",
        "weaviate://index:1?grpc=index:1",
        "weaviate://index#part",
        "http://index",
    ],
)
def test_what_is_no_address_is_refused_with_what_is(url: str) -> None:
    with pytest.raises(InvalidInput, match="index_url"):
        WeaviateServer.of_url(url)


def test_names_of_tenants_are_weaviates_and_never_two_alike() -> None:
    tenants = ["acme", "Acme", "t-acme", "h-acme", "", " ", "x" * 62, "x" * 63, "ü", "u\u0308", "a/b", "a\\b", "\ud800"]
    names = [tenant_name(tenant) for tenant in tenants]
    assert len(set(names)) == len(tenants)
    assert all(1 <= len(name) <= 64 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for name in names)
