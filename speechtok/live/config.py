"""Settings of the server."""

from dataclasses import dataclass, field

from speechtok.errors import InputError, quoted
from speechtok.live.turns import TurnPolicy


@dataclass(frozen=True)
class ServerConfig:
    """Limits and permissions of the server.

    Attributes:
        max_callers: callers at a time; others get status 503.
        max_message_bytes: longest message; a longer one ends the connection.
        max_errors: messages that cannot be used before the connection ends.
        max_backlog: frames of a caller that may wait before the server stops to read from the connection.
        max_speed: audio that a caller may send, in multiples of real time. The server reads no faster.
        burst: seconds of audio that may come at once.
        max_outbox: bytes that may wait for a caller who does not read, before the connection ends.
        idle_timeout: seconds without a message before the connection ends.
        header_timeout: seconds that a client has for the headers of a request, and to read what waits of the answer.
        close_timeout: seconds after which a connection that was closed is cut.
        max_seconds: longest conversation, in seconds.
        lead: seconds that the agent's audio may be sent ahead of the user's clock.
        origins: origins of web pages that may connect, beside the server's own; ``*`` for all.
        token: that clients must send, or ``None`` for no check.
        policy: of turn events.
        moshi: whether callers who ask for nothing else get what Moshi's clients understand.
        share_weights: whether browsers may load a tokenizer other than the default, to make the codes themselves.
    """

    max_callers: int = 64
    max_message_bytes: int = 65_536
    max_errors: int = 10
    max_backlog: int = 100
    max_speed: float = 2.0
    burst: float = 5.0
    max_outbox: int = 1_000_000
    idle_timeout: float = 30.0
    header_timeout: float = 10.0
    close_timeout: float = 5.0
    max_seconds: float = 3_600.0
    lead: float = 0.04
    origins: tuple[str, ...] = ()
    token: str | None = None
    policy: TurnPolicy = field(default_factory=TurnPolicy)
    moshi: bool = False
    share_weights: bool = False

    def __post_init__(self) -> None:
        """Raise :class:`~speechtok.errors.InputError` for values out of range."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"{name} is {quoted(value)}; expected {low:g} to {high:g}")
        if self.token is not None and (len(self.token) < 8 or not self.token.isascii() or not self.token.isprintable()):
            raise InputError("the token is too short or has other than printable ASCII characters; expected 8 or more")


_RANGES = (
    ("max_callers", 1, 4_096),
    ("max_message_bytes", 1_024, 2**24),
    ("max_errors", 0, 2**31),
    ("max_backlog", 4, 2**16),
    ("max_speed", 1, 1_000),
    ("burst", 0.1, 600),
    ("max_outbox", 10_000, 2**30),
    ("idle_timeout", 0.1, 86_400),
    ("header_timeout", 0.1, 600),
    ("close_timeout", 0.1, 600),
    ("max_seconds", 1, 1e9),
    ("lead", 0, 1),
)
