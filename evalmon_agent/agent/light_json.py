"""The standard library's JSON by its C half: the Python half imports `re` and costs 4 ms, twice in each job.

`json` does the work where the C half is not as expected (another interpreter, another version).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What json's decoder takes for white space.
_WHITESPACE = " \t\n\r"


def dumps(value: object) -> str:
    """As json.dumps with allow_nan=False.

    Raises:
        ValueError: a number that JSON does not have, or a circle.
        TypeError: an object of another type.
    """
    try:
        from _json import encode_basestring_ascii, make_encoder  # noqa: PLC0415 (see above)

        encode = make_encoder({}, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, False)  # noqa: FBT003
    except (ImportError, TypeError):
        import json  # noqa: PLC0415 (see above)

        return json.dumps(value, allow_nan=False)
    return "".join(encode(value, 0))


def loads(data: bytes, *, parse_float: "Callable[[str], float]") -> "Any":
    """As json.loads of UTF-8; `parse_float` gets numbers with a point or an exponent, and NaN, Infinity, -Infinity.

    Raises:
        ValueError: this is no JSON, or not UTF-8.
        RecursionError: it is too deep.
    """
    text = data.decode().strip(_WHITESPACE)
    try:
        from _json import make_scanner  # noqa: PLC0415 (see above)

        value, end = make_scanner(_Decoder(parse_float))(text, 0)  # type: ignore[arg-type]
        if end == len(text):
            return value
    except (ImportError, TypeError, AttributeError, StopIteration, SystemError):
        pass  # of bad JSON the C half says SystemError where json is not imported
    import json  # noqa: PLC0415 (it says what is wrong)

    return json.loads(text, parse_float=parse_float, parse_constant=parse_float)


class _Decoder:
    """What the C half asks its decoder for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_int = int

    def __init__(self, parse_float: "Callable[[str], float]") -> None:
        self.parse_float = self.parse_constant = parse_float
        self.memo: dict[str, str] = {}


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
