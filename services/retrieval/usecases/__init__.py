"""What the room does, one class per verb."""

from services.retrieval.usecases.building import RemoveIndex
from services.retrieval.usecases.embedding import EmbedTexts, RankTexts
from services.retrieval.usecases.explaining import ExplainDocument
from services.retrieval.usecases.indexing import ChangeAccess, ChangeAttributes, IndexVersions, RemoveDocument
from services.retrieval.usecases.reembedding import Progress, Reembed
from services.retrieval.usecases.resolving import ResolveSpans
from services.retrieval.usecases.searching import Search
from services.retrieval.usecases.serving import LiveIndexes
from services.retrieval.usecases.withholding import RestrictDocument, WithholdDocument

__all__ = [
    "ChangeAccess",
    "ChangeAttributes",
    "EmbedTexts",
    "ExplainDocument",
    "IndexVersions",
    "LiveIndexes",
    "Progress",
    "RankTexts",
    "Reembed",
    "RemoveDocument",
    "RemoveIndex",
    "ResolveSpans",
    "RestrictDocument",
    "Search",
    "WithholdDocument",
]
