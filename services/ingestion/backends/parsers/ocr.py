"""Reading pictures of text. The engine and its models are loaded in the child that needs them, not before."""

import functools
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Line", "read_lines"]

_LEAST_SCORE: Final = 0.5
# Lines are found in a picture of this size (and read in the full one): larger ones do not fit the memory of a child.
_DETECTION_SIDE: Final = 1280


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was read, with its place in pixels."""

    text: str
    x0: float
    y0: float
    x1: float
    y1: float


def read_lines(picture: Any) -> list[Line]:
    """Return the lines in an RGB picture (an array of height, width, 3 bytes), in reading order.

    Raises:
        MemoryError: The child's memory does not hold the engine's work.
    """
    from rapidocr_onnxruntime.utils.infer_engine import ONNXRuntimeError  # noqa: PLC0415  as below

    try:
        found, _ = _engine()(picture[:, :, ::-1])
    except ONNXRuntimeError as error:
        if "bad_alloc" in str(error) or "allocate" in str(error):
            raise MemoryError from error
        raise
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
    return RapidOCR(
        intra_op_num_threads=1, inter_op_num_threads=1, det_limit_type="max", det_limit_side_len=_DETECTION_SIDE
    )
