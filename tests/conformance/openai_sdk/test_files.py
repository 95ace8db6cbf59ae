import io

import pytest
from openai import NotFoundError, OpenAI


def test_a_file_lives_from_upload_to_deletion(client: OpenAI) -> None:
    data = b"Some notes.\n"
    made = client.files.create(file=("notes.txt", io.BytesIO(data)), purpose="assistants")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", len(data), "notes.txt", "assistants")
    assert client.files.retrieve(made.id).id == made.id
    assert client.files.content(made.id).read() == data
    assert made.id in [file.id for file in client.files.list(purpose="assistants")]
    assert client.files.delete(made.id).deleted is True
    with pytest.raises(NotFoundError):
        client.files.retrieve(made.id)


def test_lists_are_paged(client: OpenAI) -> None:
    made = [client.files.create(file=(f"{n}.txt", b"page %d" % n), purpose="user_data").id for n in range(3)]
    try:
        first = client.files.list(purpose="user_data", limit=2)
        assert len(first.data) == 2
        assert first.has_more is True
        seen = [file.id for file in client.files.list(purpose="user_data", limit=2)]
        assert set(made) <= set(seen)
        assert len(seen) == len(set(seen))
    finally:
        for file in made:
            client.files.delete(file)


def test_other_tenants_see_nothing(client: OpenAI, other_tenant_key: str) -> None:
    made = client.files.create(file=("secret.txt", b"ours"), purpose="assistants")
    stranger = client.with_options(api_key=other_tenant_key)
    with pytest.raises(NotFoundError):
        stranger.files.retrieve(made.id)
    with pytest.raises(NotFoundError):
        stranger.files.delete(made.id)
    assert made.id not in [file.id for file in stranger.files.list()]
    client.files.delete(made.id)
