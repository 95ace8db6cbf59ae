"""Rows from files in the formats of others: OpenAI chat and preference JSONL, Alpaca, ShareGPT, CSV.

Every row keeps the file and the line that it is from; every fault names line, field and value in the words of the file.
"""

from services.finetuning.domain.importing.formats import Format, Imported, imported

__all__ = ["Format", "Imported", "imported"]
