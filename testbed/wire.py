"""What a frame costs a link: the bytes that netem counts against the rate. Pure."""


def charged_bytes(
    size_bytes: int, packets: int, overhead_bytes: int = 0, cell_bytes: int = 0, cell_overhead_bytes: int = 0
) -> tuple[int, int]:
    """(least, most) that `packets` frames of `size_bytes` together are charged.

    They differ with cells only: how much of each frame's last cell stays empty depends on the sizes of the frames.
    """
    whole = size_bytes + packets * overhead_bytes
    if not cell_bytes or not packets:
        return whole, whole
    least = max(packets, -(-whole // cell_bytes))
    most = least if packets == 1 else (whole + packets * (cell_bytes - 1)) // cell_bytes
    each = cell_bytes + cell_overhead_bytes
    return least * each, max(least, most) * each
