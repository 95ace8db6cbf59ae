from services.retrieval.domain import Reader, chunk_id, indexed_text


def test_a_chunk_has_one_id_for_ever_and_shares_it_with_no_other() -> None:
    assert chunk_id("acme", "doc_1", 1, 0) == chunk_id("acme", "doc_1", 1, 0)
    others = {
        chunk_id("acme", "doc_1", 1, 0),
        chunk_id("acme", "doc_1", 1, 1),
        chunk_id("acme", "doc_1", 11, 0),
        chunk_id("globex", "doc_1", 1, 0),
        chunk_id("acme", "doc_11", 1, 0),
    }
    assert len(others) == 5


def test_what_is_indexed_names_title_and_headings_once() -> None:
    assert indexed_text("Leave", ("Leave", "Sickness"), "It is paid.") == "Leave\nSickness\nIt is paid."
    assert indexed_text("", (), "Alone.") == "Alone."


def test_no_list_admits_nobody_but_administrators() -> None:
    assert not Reader("acme", ("user:ann",)).may_read([])
    assert Reader("acme", ("user:ann",)).may_read(["user:ann", "group:x"])
    assert Reader("acme", (), is_administrator=True).may_read([])
