"""Who sent an Ethernet frame: the little of ARP and IPv4 that learning hosts takes."""

import struct

_ARP, _IPV4 = 0x0806, 0x0800
_ETHERNET_BYTES = 14


def sender(frame: bytes) -> tuple[str, str] | None:
    """MAC and IPv4 address ("" when the frame does not say), or None for a frame that no host can have sent."""
    if len(frame) < _ETHERNET_BYTES:
        return None
    mac, (kind,) = frame[6:12], struct.unpack_from("!H", frame, 12)
    if mac[0] & 1 or not any(mac):
        return None
    start = {_ARP: 28, _IPV4: 26}.get(kind)
    ip = frame[start : start + 4] if start is not None else b""
    known = len(ip) == 4 and any(ip)
    return mac.hex(":"), ".".join(str(byte) for byte in ip) if known else ""
