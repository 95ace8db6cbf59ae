"""An application is told when a job ends, and its SDK believes the signature."""

import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from openai_sdk.training import TINY, keep, native, rows, told, until


def test_the_end_of_a_job_is_told_and_unwrapped(client: OpenAI, url: str, key: str, model: str) -> None:
    with told() as place:
        hook = native(url, key, "POST", "/webhooks", {"url": place.url, "events": ["fine_tuning.job.cancelled"]})
        try:
            job = client.fine_tuning.jobs.create(
                model=model, training_file=keep(client, rows()), extra_body={"brain": TINY}
            )
            client.fine_tuning.jobs.cancel(job.id)
            body, headers = until(lambda: place.heard, timeout_s=60)[0]
        finally:
            native(url, key, "DELETE", f"/webhooks/{hook['id']}")
    event = client.webhooks.unwrap(body, headers, secret=hook["secret"])
    assert (event.type, event.data.id) == ("fine_tuning.job.cancelled", job.id)
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(body.replace(job.id.encode(), b"ftjob-0"), headers, secret=hook["secret"])
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(body, headers, secret="whsec_" + "A" * 32)
