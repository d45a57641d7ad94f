"""The standard library's `signal` without its Python half, the enums: importing those costs 3 ms."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

__all__ = ["signal"]
