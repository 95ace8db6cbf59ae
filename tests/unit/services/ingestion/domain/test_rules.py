"""The rules of ingestion, without anything around them."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.auth import Caller, Role
from services.chassis.errors import InvalidInput
from services.ingestion.domain.access import checked_principals, is_narrower, may_manage, may_read, readers
from services.ingestion.domain.collections import checked_chunking, checked_metadata
from services.ingestion.domain.deletion import StoreCount, open_receipt
from services.ingestion.domain.documents import (
    DocumentState,
    Failure,
    Version,
    attributes_json,
    checked_attributes,
    is_unchanged,
)
from services.ingestion.domain.files import checked_expiry, clean_filename
from services.ingestion.domain.sections import packed_sections, unpacked_sections
from services.ingestion.domain.text import DEFAULT_CHUNKING, Chunking, FailureCode, Locator, Section

VERSION = Version(
    document_id="doc_1",
    number=1,
    file_id="file-1",
    filename="a.md",
    digest="d1",
    size_bytes=1,
    media_type="text/markdown",
    title="a",
    chunking=DEFAULT_CHUNKING,
    state=DocumentState.INDEXED,
    received_at=0,
    updated_at=0,
)


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\a\\notes.txt", "notes.txt"),
        ("/folder/", "folder"),
        ("a\x00b.txt", "ab.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("\u200b", "unnamed"),
        ("  spaced name .txt ", "spaced name .txt"),
        ("u\u0308ber.md", "über.md"),
        ("x" * 300 + ".pdf", "x" * 251 + ".pdf"),
    ],
)
def test_names_are_cleaned(given_name: str, kept: str) -> None:
    assert clean_filename(given_name) == kept


@given(st.text(max_size=400))
def test_a_clean_name_is_no_path_and_stays_clean(name: str) -> None:
    clean = clean_filename(name)
    assert clean
    assert len(clean) <= 255
    assert not set(clean) & {"/", "\\", "\x00", "\n", "\u202e"}
    assert clean not in {".", ".."}
    assert clean_filename(clean) == clean


@pytest.mark.parametrize(
    "wrong",
    [
        "nonsense",
        "[]",
        '"a"',
        '{"a": null}',
        '{"a": [1]}',
        '{"": 1}',
        json.dumps({"k" * 65: 1}),
        json.dumps({"k": "v" * 513}),
        json.dumps({str(number): 1 for number in range(17)}),
        '{"a": NaN}',
        r'{"a": "\ud800"}',
        r'{"\udfff": 1}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 400 + "}",
        "[" * 100_000,
    ],
)
def test_attributes_outside_the_limits_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_attributes(wrong)
    assert refused.value.param == "attributes"


def test_attributes_within_the_limits_come_back() -> None:
    text = json.dumps({"k" * 64: "v" * 512, "n": 1.5, "i": -3, "b": True} | {str(n): n for n in range(12)})
    assert json.loads(attributes_json(checked_attributes(text))) == json.loads(text)
    assert checked_attributes("") == {}


def test_metadata_and_chunking_have_limits() -> None:
    for metadata in ({"k" * 65: ""}, {"": "v"}, {"k": "v" * 513}, {str(n): "" for n in range(17)}):
        with pytest.raises(InvalidInput):
            checked_metadata(metadata)
    assert checked_chunking(0, 0) == DEFAULT_CHUNKING
    assert checked_chunking(4096, 2048) == Chunking(4096, 2048)
    for tokens, overlap in ((99, 0), (4097, 0), (200, 101)):
        with pytest.raises(InvalidInput):
            checked_chunking(tokens, overlap)


def test_expiry_is_an_hour_to_thirty_days_or_never() -> None:
    assert checked_expiry(0) is None
    assert checked_expiry(3600) == 3600
    for seconds in (1, 3599, 2_592_001):
        with pytest.raises(InvalidInput, match="expires_after"):
            checked_expiry(seconds)


def caller(subject: str, *roles: Role, groups: tuple[str, ...] = ()) -> Caller:
    return Caller(subject, "acme", frozenset(groups), frozenset(roles))


def test_who_may_read_and_who_may_manage() -> None:
    contributor = caller("bob", Role.CONTRIBUTOR, groups=("sales",))
    assert may_read(contributor, owner="bob", principals=())
    assert may_read(contributor, owner="alice", principals=("group:sales",))
    assert may_read(contributor, owner="alice", principals=("group:everyone",))
    assert not may_read(contributor, owner="alice", principals=())
    assert not may_read(contributor, owner="alice", principals=("user:sales", "group:bob"))
    assert not may_manage(contributor, owner="alice")
    for role in (Role.CURATOR, Role.ADMINISTRATOR):
        assert may_read(caller("c", role), owner="alice", principals=())
        assert may_manage(caller("c", role), owner="alice")
    assert not may_read(caller("t", Role.TRAINER), owner="alice", principals=())


def test_principals_keep_their_order_once() -> None:
    assert checked_principals(["group:b", "user:a", "group:b"]) == ("group:b", "user:a")
    with pytest.raises(InvalidInput):
        checked_principals([f"user:{number}" for number in range(501)])
    assert readers("alice", ("user:alice", "group:x")) == ("user:alice", "group:x")


NAMES = st.lists(st.sampled_from(["user:a", "user:b", "group:c", "group:d"]), unique=True)


@given(NAMES, NAMES)
def test_a_list_is_narrower_when_somebody_loses_it(old: list[str], new: list[str]) -> None:
    lost = [name for name in old if name not in new and name != "user:a"]
    assert is_narrower("a", old=old, new=new) == bool(lost)


def test_the_same_bytes_are_unchanged_unless_it_is_a_second_try() -> None:
    def again(version: Version, chunking: Chunking | None = None, digest: str = "d1") -> bool:
        return is_unchanged(version, digest=digest, chunking=chunking)

    assert again(VERSION)
    assert again(VERSION, DEFAULT_CHUNKING)
    assert again(replace(VERSION, state=DocumentState.PARSING))
    assert not again(VERSION, digest="d2")
    assert not again(VERSION, Chunking(100, 0))
    assert not again(replace(VERSION, state=DocumentState.CANCELLED))
    failed = replace(VERSION, state=DocumentState.FAILED, failure=Failure(FailureCode.INVALID_FILE, "damaged"))
    assert again(failed)
    assert not again(replace(failed, failure=Failure(FailureCode.SERVER_ERROR, "ours")))


def test_a_receipt_keeps_the_larger_count() -> None:
    receipt = open_receipt(
        document_id="d", tenant="t", collection_id="c", owner="o", requested_by="o", withheld_at=None
    )
    assert not receipt.is_clean
    counted = receipt.with_counts([StoreCount(entry.store, 3, 0, counted=True) for entry in receipt.stores])
    again = counted.with_counts([StoreCount(entry.store, 0, 0, counted=True) for entry in receipt.stores])
    assert {entry.removed for entry in again.stores} == {3}
    assert again.is_clean
    assert again.completed(5.0).withheld_at == 5.0
    assert not again.with_counts([StoreCount("blobs", 0, 1, counted=True)]).is_clean


@settings(max_examples=25)
@given(
    st.lists(
        st.builds(
            Section,
            st.integers(0, 10**6),
            st.integers(0, 10**6),
            st.builds(Locator, st.integers(0, 5000), st.integers(0, 5000), st.lists(st.text()).map(tuple), st.text()),
        )
    )
)
def test_sections_come_back(sections: list[Section]) -> None:
    try:
        packed = packed_sections(sections)
    except UnicodeEncodeError:
        return
    assert unpacked_sections(packed) == tuple(sections)
