import random

import pytest

from controller.sdn.lldp import Stamp, decode, encode
from controller.sdn.sender import sender

HOST = bytes.fromhex("020000000001")
TO = bytes.fromhex("ffffffffffff")


@pytest.mark.parametrize("dpid", [1, 2**64 - 1])
@pytest.mark.parametrize("port", [1, 0xFFFFFEFF])
@pytest.mark.parametrize("sent_us", [0, 2**62])
def test_stamp_survives_the_frame(dpid: int, port: int, sent_us: int) -> None:
    stamp = Stamp(dpid, port, sent_us)
    frame = encode(stamp)
    assert decode(frame) == stamp
    assert 60 <= len(frame) <= 128  # whole in what switches show the controller
    assert frame[:6].hex() == "0180c200000e"
    assert frame[6] & 3 == 2  # a local, single address


def test_foreign_and_broken_frames_are_not_ours() -> None:
    frame = encode(Stamp(7, 3, 1_000))
    assert decode(b"") is None
    assert decode(frame.replace(bytes.fromhex("02006d01"), bytes.fromhex("00120f01"))) is None  # another's OUI
    for length in range(len(frame)):
        assert decode(frame[:length]) in (None, Stamp(7, 3, 1_000))
    noise = random.Random(1)
    for _ in range(300):
        decode(frame[:14] + noise.randbytes(noise.randrange(100)))  # never raises


def test_sender_of_arp_ipv4_and_other_frames() -> None:
    arp = TO + HOST + bytes.fromhex("08060001080006040001") + HOST + bytes([10, 0, 0, 1]) + bytes(10)
    ipv4 = TO + HOST + bytes.fromhex("0800") + bytes(12) + bytes([10, 0, 0, 2]) + bytes([10, 0, 0, 3])
    assert sender(arp) == ("02:00:00:00:00:01", "10.0.0.1")
    assert sender(ipv4) == ("02:00:00:00:00:01", "10.0.0.2")
    assert sender(TO + HOST + bytes.fromhex("86dd") + bytes(40)) == ("02:00:00:00:00:01", "")
    assert sender(ipv4[:20]) == ("02:00:00:00:00:01", "")  # cut short
    assert sender(TO + TO + bytes.fromhex("0800") + bytes(40)) is None  # a group sends nothing
    assert sender(TO + bytes(6) + bytes.fromhex("0800") + bytes(40)) is None
    assert sender(ipv4[:13]) is None
