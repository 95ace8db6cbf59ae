"""Reading pictures of text. The engine and its models are loaded in the child that needs them, not before."""

import functools
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Line", "read_lines"]

_LEAST_SCORE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was read, with its place in pixels."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float


def read_lines(picture: Any) -> list[Line]:
    """Return the lines in an RGB picture (an array of height, width, 3 bytes), in reading order."""
    found, _ = _engine()(picture[:, :, ::-1])
    lines = []
    for corners, text, score in found or []:
        if float(score) >= _LEAST_SCORE and text.strip():
            xs, ys = [point[0] for point in corners], [point[1] for point in corners]
            lines.append(Line(text.strip(), min(xs), min(ys), max(xs), max(ys)))
    return lines


@functools.cache
def _engine() -> Any:
    import cv2  # noqa: PLC0415  heavy, and most documents need no OCR
    from rapidocr_onnxruntime import RapidOCR  # noqa: PLC0415

    cv2.setNumThreads(1)
    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)
