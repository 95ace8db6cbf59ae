"""HTML: the main text without navigation, with headings, lists and tables."""

import re
from typing import Final

import trafilatura
from bs4 import BeautifulSoup, Tag
from markdownify import markdownify

from services.ingestion.backends.parsers.markdown import write_markdown
from services.ingestion.backends.parsers.plain import decode
from services.ingestion.backends.parsers.source import Source

__all__ = ["write", "write_html"]

_CHARSET: Final = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w-]+)""", re.IGNORECASE)
_NOISE: Final = ("script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "svg", "iframe")
_HEADINGS: Final = ("h1", "h2", "h3", "h4", "h5", "h6")
# Main-text extraction is made for articles; from an intranet's short or odd pages it may leave out nearly all.
_LEAST_SHARE: Final = 0.5


def write(source: Source) -> None:
    """Write an HTML page."""
    text, guessed = decode(source.data)
    declared = _CHARSET.search(source.data[:4096])
    if guessed and declared:
        try:
            text = source.data.decode(declared[1].decode("ascii"), "replace")
        except LookupError:
            source.draft.warn("The page names an unknown character set; some letters may be wrong.")
    write_html(source, text)


def write_html(source: Source, page: str) -> None:
    """Write the main text of a page."""
    soup = BeautifulSoup(page, "lxml")
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    heading = soup.find("h1")
    source.title((heading.get_text(" ", strip=True) if heading else "") or title)
    for tag in soup(_NOISE):
        # An article's own header and footer belong to it.
        if not tag.decomposed and not (tag.name in {"header", "footer"} and tag.find_parent(["main", "article"])):
            tag.decompose()
    articles = soup.find_all("article")
    body = soup.find("main") or (articles[0] if len(articles) == 1 else soup.body) or soup
    main = trafilatura.extract(
        page,
        output_format="markdown",
        include_comments=False,
        include_tables=True,
        include_formatting=True,
        favor_recall=True,
    )
    if main is None or _loses_much(body, main):
        main = markdownify(str(body), heading_style="ATX", strip=["a", "img"], bullets="-")
    write_markdown(source, main)


def _loses_much(body: Tag, main: str) -> bool:
    """Return whether extraction left out most of the text or of the headings."""
    headings = [heading.get_text(" ", strip=True) for heading in body.find_all(_HEADINGS)]
    marked = "\n".join(line for line in main.replace("*", "").split("\n") if line.startswith("#"))
    kept = sum(heading in marked for heading in headings)
    return len(main) < _LEAST_SHARE * len(body.get_text(" ", strip=True)) or kept < _LEAST_SHARE * len(headings)
