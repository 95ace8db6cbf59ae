"""Pictures of text: scans and screenshots."""

import warnings
from io import BytesIO

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from services.ingestion.backends.parsers.ocr import read_lines
from services.ingestion.backends.parsers.scan import write_scan
from services.ingestion.backends.parsers.source import Source, invalid

__all__ = ["write"]

# Enough for small print on an A4 page; larger pictures only cost time.
_LONGEST_SIDE = 2400


def write(source: Source) -> None:
    """Write what is read in a picture; each of its frames is a page."""
    limits = source.limits
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(BytesIO(source.data), formats=["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
            if picture.width * picture.height > limits.max_pixels:
                raise invalid(
                    f"The picture has {picture.width:,} × {picture.height:,} pixels; "
                    f"at most {limits.max_pixels // 10**6} million are read."
                )
            # An animation is one picture; only scans keep a page in each frame.
            frames = ImageSequence.Iterator(picture) if picture.format == "TIFF" else [picture]
            for number, frame in enumerate(frames, 1):
                if number > limits.max_pages:
                    raise invalid(f"The picture has more than {limits.max_pages:,} frames.")
                if frame.width * frame.height > limits.max_pixels:
                    raise invalid(f"A frame of the picture has more than {limits.max_pixels // 10**6} million pixels.")
                _frame(source, number, frame)
    except Image.DecompressionBombError as error:
        raise invalid(f"The picture has more than {limits.max_pixels // 10**6} million pixels.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError) as error:
        raise invalid("The file is damaged: the picture cannot be decoded.") from error


def _frame(source: Source, number: int, frame: Image.Image) -> None:
    upright = ImageOps.exif_transpose(frame).convert("RGB")
    upright.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    source.draft.page(number)
    pixels = np.asarray(upright)

    def read() -> None:
        write_scan(source, number, read_lines(pixels), scale=1.0, width=upright.width, height=upright.height)

    if not source.spent.ocr(source.limits, read):
        source.draft.warn(
            f"Page {number} is a picture and was not read: reading scans took more than {source.limits.ocr_s} s."
        )
