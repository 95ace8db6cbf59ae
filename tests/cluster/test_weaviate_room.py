"""The retrieval room on the cluster's Weaviate, as its settings say it."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from brain.events.v1 import document_pb2
from services.chassis.auth import Role
from tests.cluster_servers import ClusterServers
from tests.retrieval_room import RetrievalRoom, document
from tests.weaviate_index import drop_collection, new_collection, weaviate_server

pytestmark = pytest.mark.cluster


@pytest_asyncio.fixture
async def settings(cluster: ClusterServers, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    key, collection = tmp_path / "key", new_collection()
    key.write_text(cluster.weaviate_key + "\n")
    yield {
        "INDEX_URL": f"weaviate://{urlsplit(cluster.weaviate_http).netloc}?grpc={cluster.weaviate_grpc}",
        "INDEX_KEY_FILE": str(key),
        "INDEX_COLLECTION": collection,
    }
    await drop_collection(weaviate_server(cluster), collection)


async def test_a_document_is_found_replaced_restricted_and_removed(settings: dict[str, str], tmp_path: Path) -> None:
    async with RetrievalRoom(tmp_path / "room", settings=settings) as room:
        await room.add(document("d1", "Laptops are replaced every four years.", "Phones every two."))
        await room.add(document("d2", "Parking is free."))
        assert (await room.search("How old may a laptop get?"))[0].document_id == "d1"
        await room.add(document("d1", "Laptops are replaced every five years.", version=2))
        (first, *_) = await room.search("laptops")
        assert (first.document_id, first.version, "five" in first.text) == ("d1", 2, True)
        fact = document_pb2.DocumentAccessChanged(document_id="d1", principals=["group:board"], access_revision=2)
        await room.tell(document_pb2.DocumentEvent(access_changed=fact), key="d1")
        await room.idle()
        assert [passage.document_id for passage in await room.search("laptops")] == ["d2"]
        board = room.as_("eve", groups=["board"])
        assert (await room.search("laptops", who=board))[0].document_id == "d1"
        await room.tell(document_pb2.DocumentEvent(deleted=document_pb2.DocumentDeleted(document_id="d1")), key="d1")
        gone = await room.told("document_removed", {("d1", 0)})
        assert (gone["d1", 0].removed_count, gone["d1", 0].remaining_count) == (1, 0)
        administrator = room.as_("root", role=Role.ADMINISTRATOR)
        assert [passage.document_id for passage in await room.search("laptops", who=administrator)] == ["d2"]


async def test_a_room_with_a_wrong_key_does_not_start_and_says_so_in_one_line(
    settings: dict[str, str], tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    room = RetrievalRoom(tmp_path / "room", settings=settings | {"INDEX_KEY_FILE": str(wrong)})
    with pytest.raises(RuntimeError, match="index_key_file: the key is not known"):
        await room.start()
    await room.log.close()
