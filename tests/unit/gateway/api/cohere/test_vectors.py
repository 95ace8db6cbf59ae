import base64
import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.cohere.vectors import as_types

UNIT = st.lists(st.floats(-1, 1, allow_nan=False, width=32), min_size=8, max_size=64).filter(any)


@given(UNIT)
def test_every_type_says_the_same_vector(raw: list[float]) -> None:
    length = math.hypot(*raw)
    vector = [value / length for value in raw]
    made = as_types([vector], ["float", "int8", "uint8", "binary", "ubinary", "base64"])
    assert made["float"] == [vector]
    for component, byte, unsigned in zip(vector, made["int8"][0], made["uint8"][0], strict=True):
        assert abs(component - byte / 127) <= 0.5 / 127 + 1e-9
        assert unsigned == byte + 128
    assert [byte - 128 for byte in made["ubinary"][0]] == made["binary"][0]
    assert len(made["ubinary"][0]) == math.ceil(len(vector) / 8)
    floats = struct.unpack(f"<{len(vector)}f", base64.b64decode(made["base64"][0]))
    assert all(math.isclose(one, two, abs_tol=1e-6) for one, two in zip(floats, vector, strict=True))


def test_the_first_component_is_the_highest_bit() -> None:
    assert as_types([[1.0, 0, 0, 0, 0, 0, 0, -1.0]], ["ubinary"]) == {"ubinary": [[128]]}
