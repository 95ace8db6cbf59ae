"""Answers, sources and tables as a person reads them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

__all__ = [
    "Answer",
    "add_row",
    "place",
    "show_answer",
    "show_deletion",
    "show_passages",
    "show_reach",
    "show_receipt",
    "show_status",
    "stream_answer",
]

# What stands in a checkpoint's name between that of its job's adapter and its step.
_CHECKPOINT: Final = ":ckpt-step-"


class Answer:
    """A chat completion put together from its chunks.

    Attributes:
        text: The answer.
        citations: Supported stretches with their sources.
        receipt_id: Receipt of the answer; empty for none.
        abstained: Whether the documents do not answer.
    """

    def __init__(self) -> None:
        self.text = ""
        self.citations: list[dict[str, Any]] = []
        self.receipt_id = ""
        self.abstained = False
        self.usage: dict[str, Any] = {}

    def take(self, chunk: Mapping[str, Any]) -> str:
        """Add a chunk; return its new text."""
        new = "".join(choice.get("delta", {}).get("content") or "" for choice in chunk.get("choices", ()))
        self.text += new
        self.citations += chunk.get("citations") or []
        self.receipt_id = chunk.get("receipt_id") or self.receipt_id
        self.abstained = bool(chunk.get("abstention")) or self.abstained
        self.usage = chunk.get("usage") or self.usage
        return new

    def as_json(self) -> dict[str, Any]:
        """Return the answer for a program."""
        return {
            "answer": self.text,
            "citations": self.citations,
            "receipt_id": self.receipt_id or None,
            "abstained": self.abstained,
            "usage": self.usage,
        }


def stream_answer(console: Console, chunks: Iterable[Mapping[str, Any]]) -> Answer:
    """Print an answer while it is made, then its sources."""
    answer = Answer()
    for chunk in chunks:
        console.print(Text(answer.take(chunk)), end="", soft_wrap=True)
    console.print()
    show_answer(console, answer)
    return answer


def show_answer(console: Console, answer: Answer) -> None:
    """Print the numbered citations of an answer."""
    for number, citation in enumerate(answer.citations, 1):
        for source in citation.get("sources", ())[:1]:
            console.print(
                Text.assemble(
                    (f"  [{number}] ", "bold cyan"),
                    f"{source.get('filename') or source.get('title') or source.get('document_id')}",
                    (f", version {source['version']}" if source.get("version") else ""),
                    (f", {where}" if (where := place(source)) else ""),
                    ("\n      “", "dim"),
                    (" ".join(str(source.get("quote", "")).split()), "italic"),
                    ("”", "dim"),
                )
            )


def place(source: Mapping[str, Any]) -> str:
    """Return where a piece stands, in words: page, part, headings."""
    parts = []
    if source.get("page"):
        parts.append(f"page {source['page']}")
    if source.get("part"):
        parts.append(str(source["part"]))
    if source.get("heading_path"):
        parts.append(" › ".join(source["heading_path"]))
    return ", ".join(parts)


def add_row(table: Table, *cells: str) -> None:
    """Add a row of plain text: names and passages hold square brackets, which are no styles of ours."""
    table.add_row(*(Text(cell) for cell in cells))


def show_passages(console: Console, passages: Sequence[Mapping[str, Any]]) -> None:
    """Print search results with the parts of their scores."""
    table = Table("#", "score", "dense", "bm25", "document", "where", "passage")
    for number, passage in enumerate(passages, 1):
        parts = passage.get("parts") or {}
        add_row(
            table,
            str(number),
            f"{passage['score']:.3f}",
            f"#{parts.get('dense_rank') or '–'}",
            f"#{parts.get('bm25_rank') or '–'}",
            str(passage["filename"]),
            place(passage),
            " ".join(str(passage["text"]).split())[:120],
        )
    console.print(table)


def show_receipt(console: Console, receipt: Mapping[str, Any]) -> None:
    """Print how an answer came about."""
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("question", receipt["question"]),
        ("queries", f"{', '.join(receipt['queries'])} ({receipt['rewrite']})"),
        ("answer", receipt["answer"]),
        ("model", receipt["model"]),
        ("prompt", f"{receipt['prompt_version']}, SHA-256 {receipt['prompt_hash'][:16]}…"),
        ("support", f"{receipt['support']:.2f}"),
        ("trimmed", "; ".join(receipt["trimmed"]) or "nothing"),
        ("timings", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in receipt["timings_s"].items())),
    ):
        facts.add_row(Text(name, style="dim"), Text(str(value)))
    sources = Table("#", "document", "version", "where", "score", "in prompt", "cited")
    for source in receipt["sources"]:
        add_row(
            sources,
            str(source["number"]),
            str(source["filename"] or source["title"] or "(not available)"),
            str(source["version"] or ""),
            place(source),
            f"{source['score']:.3f}",
            "yes" if source["in_prompt"] else "no",
            "yes" if source["cited"] else "no",
        )
    console.print(Panel(Group(facts, sources), title=f"receipt {receipt['id']}"))


def show_deletion(console: Console, deletion: Mapping[str, Any]) -> None:
    """Print the receipt of a deletion."""
    console.print(Text(f"deletion of {deletion['document']}: {deletion['state']}"), soft_wrap=True)
    table = Table("store", "removed", "remaining")
    for store in deletion["stores"]:
        counted = str(store["remaining"]) if store["counted"] else "not counted yet"
        add_row(table, store["store"], str(store["removed"]), counted)
    console.print(table)
    show_reach(console, deletion.get("adapters", ()))


def show_reach(console: Console, adapters: Sequence[str] | str) -> None:
    """Print which adapters are refused because they learned from what was taken away."""
    if adapters == "pending":
        console.print(Text("The adapters that learned from it could not be blocked yet; that follows.", style="yellow"))
        return
    for name in adapters:
        # A checkpoint comes again with its job's adapter.
        whole = name.partition(_CHECKPOINT)[0]
        again = f"; brain adapters retrain {name}" if whole == name or whole not in adapters else ""
        console.print(Text.assemble(("blocked ", "red"), f"{name}{again}"), soft_wrap=True)


def show_status(console: Console, state: Mapping[str, Any]) -> None:
    """Print the rooms' health, what the engine serves, and how many documents there are."""
    table = Table("room", "state", title=f"Corporate Brain: {state['status']}")
    for name, room in state["rooms"].items():
        table.add_row(name, Text(str(room), style="green" if room == "ready" else "red"))
    console.print(table)
    for model in state.get("models", ()):
        console.print(Text(f"model {model['name']} on {model['engine']}, {model['context_window']} tokens"))
    if counts := state.get("documents"):
        console.print("documents: " + ", ".join(f"{count} {name}" for name, count in counts.items()), highlight=False)
