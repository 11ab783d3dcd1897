"""The time-stamped LLDP frame by which links are found and timed.

Rules: only frames with the organisation's own TLV are ours; anything else decodes to None and never raises. Layout:
Ethernet header, chassis id, port id, TTL (the three that LLDP demands), our TLV, end; padded to 60 bytes.
"""

import struct
from dataclasses import dataclass

ETHERTYPE = 0x88CC
MULTICAST = bytes.fromhex("0180c200000e")  # nearest bridge: never forwarded
OUI = bytes.fromhex("02006d")  # locally administered
SUBTYPE = 1
_VALUE = struct.Struct("!3sBQIq")  # OUI, subtype, dpid, port, sent_us
_CHASSIS, _PORT, _TTL, _OURS = 1, 2, 3, 127  # TLV types
_FRAME_BYTES = 60


@dataclass(frozen=True, slots=True)
class Stamp:
    dpid: int
    port: int
    sent_us: int  # CLOCK_MONOTONIC


def encode(stamp: Stamp) -> bytes:
    source = b"\x02" + struct.pack("!I", (stamp.dpid << 8 ^ stamp.port) & 0xFFFFFFFF) + b"\x00"
    frame = MULTICAST + source + struct.pack("!H", ETHERTYPE)
    frame += _tlv(_CHASSIS, b"\x07" + b"%016x" % stamp.dpid)  # 7: locally assigned
    frame += _tlv(_PORT, b"\x07" + b"%d" % stamp.port)
    frame += _tlv(_TTL, struct.pack("!H", 120))
    frame += _tlv(_OURS, _VALUE.pack(OUI, SUBTYPE, stamp.dpid, stamp.port, stamp.sent_us))
    return (frame + b"\x00\x00").ljust(_FRAME_BYTES, b"\x00")


def decode(frame: bytes) -> Stamp | None:
    """The stamp of one of our frames, None for anything else, truncated or foreign."""
    if frame[12:14] != struct.pack("!H", ETHERTYPE):
        return None
    at = 14
    while at + 2 <= len(frame):
        (head,) = struct.unpack_from("!H", frame, at)
        kind, length = head >> 9, head & 0x1FF
        if kind == 0:
            return None
        value = frame[at + 2 : at + 2 + length]
        if kind == _OURS and length == len(value) == _VALUE.size:
            oui, subtype, dpid, port, sent_us = _VALUE.unpack(value)
            if oui == OUI and subtype == SUBTYPE:
                return Stamp(dpid, port, sent_us)
        at += 2 + length
    return None


def _tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!H", kind << 9 | len(value)) + value
