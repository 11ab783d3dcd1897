"""The addresses of hosts by their number, from 1: one flat network. Pure."""

PREFIX_LENGTH = 16
NUMBER_MAX = 2 ** (32 - PREFIX_LENGTH) - 2  # the last address is for all


def ip_of(number: int) -> str:
    """ "10.0.0.1" for 1. Raises ValueError for a number that has no address."""
    if not 1 <= number <= NUMBER_MAX:
        raise ValueError(f"no address for host {number}: 1 to {NUMBER_MAX} have one")
    return f"10.0.{number >> 8}.{number & 255}"


def mac_of(number: int) -> str:
    """Locally administered: "02:00:00:01:00:01" for 1. A parity bit before the number keeps any two apart by two bits:

    a frame with one wrong bit, which a real switch would drop by its checksum, is never taken for another host's.
    """
    return f"02:00:00:{number.bit_count() & 1:02x}:{number >> 8:02x}:{number & 255:02x}"
