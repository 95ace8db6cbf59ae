"""Where the indexes stand, by the room's settings."""

from services.chassis.errors import InvalidInput
from services.retrieval.ports import Index, IndexShelf
from services.retrieval.settings import RetrievalSettings

__all__ = ["open_shelf"]

# Characters of a digest in a name: enough that two embedders of one installation never share one.
_DIGEST: int = 12


class LanceShelf:
    """Tables of one folder.

    Args:
        folder: The folder.
        ann_rows: Rows above which a table keeps a vector index.
    """

    def __init__(self, folder: str, *, ann_rows: int) -> None:
        self._folder = folder
        self._ann_rows = ann_rows

    @property
    def first_name(self) -> str:
        """Name of the first table."""
        from services.retrieval.backends.lancedb import TABLE  # noqa: PLC0415  only what is chosen

        return TABLE

    def name_of(self, digest: str) -> str:
        """Return the name of an embedder's table."""
        return f"{self.first_name}_{digest[:_DIGEST]}"

    async def open(self, name: str, *, dimension: int, create: bool) -> Index:
        """Open a table."""
        from services.retrieval.backends.lancedb import LanceIndex  # noqa: PLC0415  only what is chosen

        index = LanceIndex(self._folder, dimension=dimension, ann_rows=self._ann_rows, table=name)
        await index.open(create=create)
        return index


class WeaviateShelf:
    """Collections of one server.

    Args:
        settings: Where it is and what it is told.
    """

    def __init__(self, settings: RetrievalSettings) -> None:
        from services.retrieval.backends.weaviate_server import WeaviateServer  # noqa: PLC0415  only what is chosen

        self._settings = settings
        self._server = WeaviateServer.of_url(
            settings.index_url,
            key=settings.index_key_file.read_text().strip() if settings.index_key_file else "",
            ca_file=settings.index_ca_file,
            cert_file=settings.index_cert_file,
            cert_key_file=settings.index_cert_key_file,
            query_timeout_s=settings.index_query_timeout_s,
            write_timeout_s=settings.index_write_timeout_s,
        )

    @property
    def first_name(self) -> str:
        """Name of the first collection."""
        return self._settings.index_collection

    def name_of(self, digest: str) -> str:
        """Return the name of an embedder's collection."""
        return f"{self.first_name}_{digest[:_DIGEST]}"

    async def open(self, name: str, *, dimension: int, create: bool) -> Index:
        """Open a collection."""
        from services.retrieval.backends.weaviate import WeaviateIndex  # noqa: PLC0415  only what is chosen

        index = WeaviateIndex(
            self._server,
            dimension=dimension,
            collection=name,
            replicas=self._settings.index_replicas,
            consistency=self._settings.index_consistency,
            ann_rows=self._settings.ann_rows,
        )
        await index.open(create=create)
        return index


def open_shelf(settings: RetrievalSettings) -> IndexShelf:
    """Return the shelf that `index_url` names; nothing is opened yet.

    Raises:
        InvalidInput: It names none.
    """
    scheme, _, rest = settings.index_url.partition("://")
    match scheme:
        case "lancedb":
            return LanceShelf(rest, ann_rows=settings.ann_rows)
        case "weaviate" | "weaviates":
            return WeaviateShelf(settings)
        case _:
            raise InvalidInput(
                f"index_url: {scheme!r} is not offered; use lancedb://FOLDER or weaviate://HOST[:PORT][?grpc=HOST:PORT]."
            )
