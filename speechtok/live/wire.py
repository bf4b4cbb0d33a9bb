"""Messages of the WebSocket: one type byte, then the payload, little-endian, as in Moshi's protocol."""

import json
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np

from speechtok.errors import InputError, quoted

PROTOCOL_VERSION = 0
"""The version of Moshi's protocol that the type bytes belong to."""


class MessageType(IntEnum):
    """The first byte of a message. 0 to 6 are those of Moshi; 7 is an addition."""

    HANDSHAKE = 0
    AUDIO = 1
    TEXT = 2
    CONTROL = 3
    METADATA = 4
    ERROR = 5
    PING = 6
    CODES = 7


class Control(IntEnum):
    """The payload of a message of type ``CONTROL``."""

    START = 0
    END_TURN = 1
    PAUSE = 2
    RESTART = 3


class MessageError(InputError):
    """A message of a client cannot be used."""


def pack(kind: MessageType, payload: bytes = b"") -> bytes:
    """A message."""
    return bytes((kind,)) + payload


def unpack(message: bytes) -> tuple[MessageType | None, memoryview]:
    """Type and payload of a message; ``None`` for a type that this version does not know, which is to be ignored.

    Raises:
        MessageError: the message is empty.
    """
    if not message:
        raise MessageError("the message is empty; expected a type byte from 0 to 7 and a payload")
    kind = MessageType(message[0]) if message[0] in _TYPES else None
    return kind, memoryview(message)[1:]


_TYPES = frozenset(MessageType)


def pack_handshake(model_version: int) -> bytes:
    """The first message of a server."""
    return pack(MessageType.HANDSHAKE, struct.pack("<II", PROTOCOL_VERSION, model_version))


def pack_metadata(fields: Mapping[str, Any]) -> bytes:
    """A message with JSON."""
    return pack(MessageType.METADATA, json.dumps(fields, separators=(",", ":")).encode())


def unpack_metadata(payload: memoryview) -> dict[str, Any]:
    """The fields of a message with JSON.

    Raises:
        MessageError: the payload is not a JSON object.
    """
    try:
        fields = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise MessageError(f"metadata is {quoted(bytes(payload))}; expected a JSON object") from error
    if not isinstance(fields, dict):
        raise MessageError(f"metadata is {quoted(fields)}; expected a JSON object")
    return fields


def unpack_control(payload: memoryview) -> Control:
    """The control byte of a message.

    Raises:
        MessageError: it is not one byte from 0 to 3.
    """
    if len(payload) != 1 or payload[0] not in _CONTROLS:
        raise MessageError(f"control is {quoted(bytes(payload[:100]))}; expected one byte from 0 to {max(_CONTROLS)}")
    return Control(payload[0])


_CONTROLS = frozenset(Control)


def split_timestamp(payload: memoryview) -> tuple[int, memoryview]:
    """The timestamp before the audio or codes of a sequenced connection, a u32, and the rest.

    Raises:
        MessageError: the payload is too short.
    """
    if len(payload) < 4:
        raise MessageError(f"the message has {len(payload)} bytes; expected a timestamp of 4 bytes before its contents")
    return int(struct.unpack_from("<I", payload)[0]), payload[4:]


def pack_timestamp(timestamp: int) -> bytes:
    """Inverse of :func:`split_timestamp`; it wraps around after 2**32."""
    return struct.pack("<I", timestamp % 2**32)


class CodePacking:
    """Codes as bits: ``ceil(log2(N))`` bits a code, frame after frame, each frame in whole bytes.

    Bits fill a byte from the lowest on. Eight codebooks of 1024 entries take 10 bytes a frame, 500 bytes a second.

    Args:
        num_codebooks: codebooks ``Q`` of each frame.
        codebook_size: entries ``N`` of each codebook.
    """

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        self.num_codebooks, self.codebook_size = num_codebooks, codebook_size
        self.bits = max(1, (codebook_size - 1).bit_length())
        self.frame_bytes = -(-num_codebooks * self.bits // 8)
        self._shifts = np.arange(self.bits)
        self._weights = 1 << np.arange(self.bits)

    def pack(self, codes: np.ndarray) -> bytes:
        """Bytes of codes ``(Q, T)``."""
        bits = (codes.T[:, :, None] >> self._shifts & 1).astype(np.uint8)
        return np.packbits(bits.reshape(codes.shape[1], -1), axis=1, bitorder="little").tobytes()

    def unpack(self, payload: memoryview) -> np.ndarray:
        """Codes, int64 ``(Q, T)``; inverse of :meth:`pack`.

        Raises:
            MessageError: the payload is not whole frames, or a code is out of range.
        """
        if len(payload) % self.frame_bytes:
            raise MessageError(f"codes has {len(payload)} bytes; expected a multiple of {self.frame_bytes}, a frame")
        frames = np.frombuffer(payload, np.uint8).reshape(-1, self.frame_bytes)
        bits = np.unpackbits(frames, axis=1, bitorder="little")[:, : self.num_codebooks * self.bits]
        codes = bits.reshape(-1, self.num_codebooks, self.bits) @ self._weights
        if codes.size and codes.max() >= self.codebook_size:
            raise MessageError(f"a code is {codes.max()}; expected codes from 0 to {self.codebook_size - 1}")
        result: np.ndarray = codes.T
        return result
