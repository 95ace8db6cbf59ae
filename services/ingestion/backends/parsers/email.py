"""E-mail: the head of the message, its body, and its attachments, each as a part of the document."""

import email
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

from services.ingestion.backends.parsers.html import write_html
from services.ingestion.backends.parsers.source import Source, invalid
from services.ingestion.domain.draft import one_line
from services.ingestion.domain.text import Unreadable

__all__ = ["write"]

_HEAD = ("From", "To", "Cc", "Date")
_SIGNATURES = frozenset({"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"})


def write(source: Source) -> None:
    """Write a message."""
    message = email.message_from_bytes(source.data, policy=email.policy.default)
    if not isinstance(message, EmailMessage) or not message.keys():
        raise invalid("The file is not an e-mail message: it has no head.")
    write_message(source, message)


def write_message(source: Source, message: EmailMessage) -> None:
    """Write a message that is a file or is attached to another."""
    subject = _header(message, "Subject") or "(no subject)"
    source.title(subject)
    source.draft.heading(1, subject)
    head = [f"{name}: {value}" for name in _HEAD if (value := _header(message, name))]
    source.draft.paragraph("\n".join(head))
    body = message.get_body(preferencelist=("plain", "html"))
    if body is not None:
        text = _content(body)
        if body.get_content_subtype() == "html":
            write_html(source, text)
        else:
            source.draft.paragraph(text)
    for part in _attachments(message, body):
        _attachment(source, part)
    source.draft.part(source.part)


def _attachments(part: Any, body: Any, *, within: str = "") -> Iterator[EmailMessage]:
    """Yield what a message carries besides its body, however deep programs nest it.

    Other forms of the body, pictures inside it and signatures are no documents of their own.
    """
    if part.get_content_maintype() == "multipart":
        kind = part.get_content_subtype()
        for inner in part.iter_parts():
            yield from _attachments(inner, body, within=kind if kind in {"alternative", "related"} else within)
    elif part is not body and part.get_content_type() not in _SIGNATURES:
        named = within == "alternative" and part.get_filename()
        if not within or part.is_attachment() or named:
            yield part


def _attachment(source: Source, part: EmailMessage) -> None:
    # Imported here because reading an attachment is reading any document, messages included.
    from services.ingestion.backends.parsers.dispatch import write_source  # noqa: PLC0415  a cycle by nature

    name = one_line(
        part.get_filename() or ("message.eml" if part.get_content_type() == "message/rfc822" else "attachment"), 120
    )
    draft, limits, spent = source.draft, source.limits, source.spent
    spent.attachments += 1
    if spent.attachments > limits.attachments:
        draft.warn(f"Only the first {limits.attachments} attachments were read.")
        return
    if source.depth + 1 > limits.attachment_depth:
        draft.warn(f"The attachment {name!r} was not read: it is nested more than {limits.attachment_depth} deep.")
        return
    path = f"{source.part} / {name}" if source.part else name
    draft.part(path)
    nested = replace(source, filename=name, depth=source.depth + 1, part=path)
    try:
        content = part.get_content()
        if isinstance(content, EmailMessage):
            write_message(nested, content)
        else:
            data = content.encode() if isinstance(content, str) else bytes(content)
            write_source(replace(nested, data=data))
    except Unreadable as error:
        draft.warn(f"The attachment {name!r} could not be read: {error.reason}")
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001  whatever a library makes of one hostile attachment, the message is kept
        draft.warn(f"The attachment {name!r} could not be read: it is damaged ({type(error).__name__}).")
    draft.part(source.part)


def _content(part: Any) -> str:
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError, KeyError):
        return bytes(part.get_payload(decode=True) or b"").decode("utf-8", "replace")


def _header(message: EmailMessage, name: str) -> str:
    try:
        return one_line(str(message.get(name, "")), 500)
    except (ValueError, IndexError, AttributeError, TypeError):
        # The library's header parser stumbles over some malformed heads.
        return ""
