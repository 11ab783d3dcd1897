"""Addresses by number stay right behind the 255th, and the kernel's neighbour messages say them."""

import socket

import pytest
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from testbed.addresses import NUMBER_MAX, ip_of, mac_of
from testbed.network.neighbours import messages


@pytest.mark.parametrize(
    ("number", "ip", "mac"),
    [
        (1, "10.0.0.1", "02:00:00:01:00:01"),
        (255, "10.0.0.255", "02:00:00:00:00:ff"),
        (256, "10.0.1.0", "02:00:00:01:01:00"),
        (4000, "10.0.15.160", "02:00:00:00:0f:a0"),
        (NUMBER_MAX, "10.0.255.254", "02:00:00:01:ff:fe"),
    ],
)
def test_addresses_of_a_number(number, ip, mac):
    assert (ip_of(number), mac_of(number)) == (ip, mac)


@pytest.mark.parametrize("number", [0, NUMBER_MAX + 1])
def test_other_numbers_have_none(number):
    with pytest.raises(ValueError, match="no address for host"):
        ip_of(number)


def test_all_addresses_differ():
    assert len({ip_of(n) for n in range(1, 5001)}) == len({mac_of(n) for n in range(1, 5001)}) == 5000


def test_neighbours_read_by_the_library_are_those_that_were_said():
    wanted = {ip_of(n): mac_of(n) for n in (7, 300)}
    data, found = messages(3, wanted), {}
    assert len(data) == 2 * 48
    for at in (0, 48):
        told = ndmsg(data[at : at + 48])
        told.decode()
        assert (told["family"], told["ifindex"], told["state"]) == (socket.AF_INET, 3, 0x80)
        found[told.get_attr("NDA_DST")] = told.get_attr("NDA_LLADDR")
    assert found == wanted


def test_a_wrong_bit_makes_no_other_host():
    bits = [int(mac_of(number).replace(":", ""), 16) for number in range(1, 600)]
    assert min((one ^ other).bit_count() for one in bits for other in bits if one != other) == 2
