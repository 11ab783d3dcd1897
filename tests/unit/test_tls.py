import os
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from nodes.clock import MonotonicClock, Timer
from nodes.proto.data_pb2 import Header, Hop, WeightsRequest
from nodes.wire import certificates, codec, shipping, tls, transport
from nodes.wire.certificates import Authority, issue
from nodes.wire.codec import Tensor
from nodes.wire.edge import Edge
from nodes.wire.sealing import Sealing, door
from nodes.wire.tls import Holder, Identity, IdentityError, load, refusal
from tests.unit.hosts import BLOCKS, free_port, three_hops
from tests.unit.test_transport import TENSOR, Inbox, Losses, deliver, header, serving

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC)
AGENT, PHONE = ("agent",), ("phone",)
CLASSES = {"vit": ("raw", "feature", "feature", "public")}


class Run:
    """The authority of a run on the loopback address, and the folder of its certificates."""

    def __init__(self, folder, name="run"):
        self.folder, self.name = folder, name
        self.authority = Authority(name, NOW, NOW + HOUR)
        issue(folder, self.authority, ())

    def identity(self, name, roles=AGENT, *, ip="127.0.0.1", begin=NOW, end=NOW + HOUR, by=None):
        """`by`: the run whose authority signs; this one's is trusted all the same."""
        authority = (by or self).authority
        authority.begin, authority.end = begin, end
        certificates.save(self.folder, authority, Holder(name, ip, roles))
        return Identity(self.name, name, self.folder / tls.AUTHORITY, *self.files(name))

    def files(self, name):
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


@pytest.fixture
def rogue(tmp_path):
    return Run(tmp_path / "rogue")


@pytest.fixture
def clock_and_timer():
    clock = MonotonicClock(MonotonicClock().now_us())
    timer = Timer(clock)
    yield clock, timer
    timer.close()


@pytest.fixture
def sealed(run):
    """An inbox behind a sealed door, and where it is."""
    inbox, port = Inbox(), free_port()
    with serving(inbox, port, Sealing("all", run.identity("mec"))):
        yield inbox, f"127.0.0.1:{port + 1}"


def bad_ones(run, rogue):
    """Of a certificate that nobody should take: what it is, and what is said of it."""
    return {
        "none": (Identity("run", "ue1", run.folder / tls.AUTHORITY, None, None), "ue1 has no certificate"),
        "wrong authority": (run.identity("ue2", by=rogue), "ue2 does not hold: .*(local issuer|signature)"),
        "expired": (run.identity("ue3", end=NOW - HOUR / 2), "ue3 does not hold: certificate has expired"),
        "too early": (run.identity("ue4", begin=NOW + 2 * HOUR, end=NOW + 3 * HOUR), "ue4 .* not yet valid"),
    }


KINDS = ("none", "wrong authority", "expired", "too early")


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_refused_in_the_handshake_learns_why(kind, run, rogue, sealed, clock_and_timer):
    inbox, address = sealed
    identity, why = bad_ones(run, rogue)[kind]
    lost = Losses()
    edge = Edge(address, *clock_and_timer, lost, identity=identity)
    edge.send(header(1), TENSOR, clock_and_timer[0].now_us() + 60_000_000)
    [(_, said)] = lost.wait(1)
    edge.close()
    assert re.search(why, said), said
    assert inbox.got == []


def test_a_bad_certificate_is_told_before_the_first_handshake(run, rogue):
    bad_ones(run, rogue)
    for name, why in (("ue2", "local issuer|signature"), ("ue3", "expired"), ("ue4", "not yet valid")):
        with pytest.raises(IdentityError, match=why):
            load(run.folder, "run", name)
    with pytest.raises(IdentityError, match="No such file"):
        load(run.folder, "run", "nobody")
    run.identity("good")
    assert load(run.folder, "run", "good").name == "good"


SERVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from nodes.wire.sealing import Sealing
from nodes.wire.tls import load
from nodes.wire.transport import DataServer
from tests.unit.test_transport import Inbox
mec = load(Path(sys.argv[2]), "run", "mec")
with ThreadPoolExecutor(8) as pool:
    server = DataServer(f"127.0.0.1:{sys.argv[1]}", Inbox(), pool, Sealing("all", mec))
    print("ready", flush=True)
    sys.stdin.read()
    server.close()
"""


def test_who_refuses_a_handshake_writes_why_to_its_log(run, rogue):
    run.identity("mec")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(port), str(run.folder)],
        env={**os.environ, "GRPC_VERBOSITY": "INFO"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout.readline() == "ready\n"
    for identity, _ in bad_ones(run, rogue).values():
        with transport.open_channel(f"127.0.0.1:{port + 1}", identity) as channel, pytest.raises(grpc.RpcError):
            list(channel.stream_stream(transport.DELIVER)(iter([b""]), timeout=60))
    _, log = server.communicate(timeout=60)
    for why in ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "certificate has expired", "certificate is not yet valid"):
        assert why in log
    assert "local issuer" in log or "signature failure" in log


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"ip": "127.0.0.9"}, "at 127.0.0.1 shows the certificate of ue1, which is at 127.0.0.9"),
        ({"roles": ("controller",)}, "ue1 is a controller: it may not call Deliver"),
    ],
)
def test_a_wrong_place_or_role_is_refused_by_name_on_both_sides(fields, why, run, sealed, clock_and_timer):
    inbox, address = sealed
    lost = Losses()
    edge = Edge(address, *clock_and_timer, lost, identity=run.identity("ue1", **fields))
    edge.send(header(1), TENSOR, clock_and_timer[0].now_us() + 60_000_000)
    [(_, said)] = lost.wait(1)
    edge.close()
    assert "PERMISSION_DENIED" in said and why in said
    assert any(why in one for one in inbox.turned) and inbox.got == []


def test_a_phone_delivers_and_fetches_no_weights_and_an_agent_does_both(run, sealed):
    _, address = sealed
    request = WeightsRequest(model="fake", first=0, last=2)
    plain = f"127.0.0.1:{int(address.rpartition(':')[2]) - 1}"
    for name, roles, may in (("ue1", PHONE, False), ("edge1", AGENT, True), ("ue2", ("phone", "agent"), True)):
        identity = run.identity(name, roles)
        sealing = Sealing("all", identity)
        assert deliver(address, codec.frames(header(1), TENSOR), identity)
        if may:
            assert shipping.fetch(plain, request, limit_bytes=1 << 20, deadline_s=60, sealing=sealing)[1] == 700_008
        else:
            with pytest.raises(shipping.ShippingError, match="ue1 is a phone: it may not call Weights"):
                shipping.fetch(plain, request, limit_bytes=1 << 20, deadline_s=60, sealing=sealing)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"ip": "127.0.0.9"}, "the peer's certificate is of another address"),
        ({"end": NOW - HOUR / 2}, "certificate has expired"),
        ({"by": "rogue"}, "local issuer|signature"),
    ],
)
def test_a_client_refuses_a_server_and_says_why(fields, why, run, rogue, clock_and_timer):
    fields = {**fields, "by": rogue} if "by" in fields else fields
    lost, port = Losses(), free_port()
    with serving(Inbox(), port, Sealing("all", run.identity("mec", **fields))):
        edge = Edge(f"127.0.0.1:{port + 1}", *clock_and_timer, lost, identity=run.identity("ue1"))
        edge.send(header(1), TENSOR, clock_and_timer[0].now_us() + 60_000_000)
        [(_, said)] = lost.wait(1)
        edge.close()
    assert re.search(why, said), said


def test_the_matrix_of_roles_and_methods_refuses_what_is_not_allowed():
    def of(role, method):
        auth = {"peer_uri": [f"testbed://run/{role}/x".encode()], "peer_ip": [b"10.0.0.1"]}
        return refusal(method, auth, "ipv4:10.0.0.1:999", "run")

    allowed = {
        (role, method)
        for role in ("agent", "phone", "controller", "")
        for method in ("Deliver", "Weights", "X")
        if of(role, method) == ""
    }
    assert allowed == {("agent", "Deliver"), ("agent", "Weights"), ("phone", "Deliver")}


def test_names_that_are_none_or_of_another_run_are_refused():
    def of(*uris):
        return refusal(
            "Deliver", {"peer_uri": [u.encode() for u in uris], "peer_ip": [b"10.0.0.1"]}, "ipv4:10.0.0.1:9", "run"
        )

    assert "names no host" in of()
    assert "another run, 'other'" in of("testbed://other/agent/x")
    assert "another run" in of("spiffe://run/agent/x")
    assert "two names" in of("testbed://run/agent/x", "testbed://run/agent/y")
    assert "may not call" in of("testbed://run/x")
    assert of("testbed://run/agent/x") == ""


def test_keys_are_for_their_owner_alone_and_the_authority_leaves_none(tmp_path):
    folder = tmp_path / "certificates"
    holders = [Holder("ue1", "10.0.0.1", PHONE), Holder("mec", "10.0.0.2", AGENT)]
    issue(folder, Authority("run", NOW, NOW + HOUR), holders)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {path.name for path in folder.iterdir()} == {"ca.pem", "ue1.pem", "ue1.key", "mec.pem", "mec.key"}


def test_what_is_sensitive_goes_by_the_sealed_door(run):
    sealing = Sealing("sensitive", run.identity("ue1"), CLASSES)
    route = [Hop(node="a", first=0, last=1), Hop(node="b", first=1, last=3)]
    steps = [Header(model="vit", route=route, step=step) for step in range(3)]
    assert [sealing.seals(one) for one in steps] == [True, True, False]  # raw, feature, the public answer
    assert sealing.seals(Header(model="unknown", route=route))
    assert not sealing.seals(Header(model="vit", route=route, error_code="BUSY"))
    assert not sealing.seals_weights(WeightsRequest(model="vit"))
    assert sealing.seals_weights(WeightsRequest(model="vit", session="chat"))
    assert all(Sealing("all", sealing.identity).seals(one) for one in steps)
    assert not any(Sealing().seals(one) for one in steps)
    assert [Sealing(mode, sealing.identity).doors for mode in ("none", "sensitive", "all")] == [
        (False,),
        (False, True),
        (True,),
    ]
    assert door("10.0.0.4:5000", sealed=True) == "10.0.0.4:5001"


def test_encryption_without_a_certificate_does_not_begin():
    with pytest.raises(IdentityError, match="needs a certificate"):
        Sealing("all")


def test_a_raw_tensor_at_the_plain_door_is_refused_and_an_answer_is_taken(run):
    inbox, port = Inbox(), free_port()
    raw = Header(request_id=1, model="vit", step=0, route=[Hop(node="mec", first=0, last=3)])
    answer = Header(request_id=2, model="vit", step=1, route=[Hop(node="mec", first=0, last=3)])
    small = Tensor("uint8", (4,), b"abcd")
    with serving(inbox, port, Sealing("sensitive", run.identity("mec"), CLASSES)):
        deliver(f"127.0.0.1:{port}", [*codec.frames(raw, small), *codec.frames(answer, small)])
        deliver(f"127.0.0.1:{port + 1}", list(codec.frames(raw, small)), run.identity("ue1", PHONE))
    assert [(h.request_id, t.data == small.data) for h, t in inbox.got] == [(2, True), (1, True)]
    assert ["must be encrypted" in error.why for error in inbox.refused] == [True]


def test_keys_and_values_leave_encrypted_only(run):
    port = free_port()
    with serving(Inbox(), port, Sealing("sensitive", run.identity("mec"), CLASSES)):
        request = WeightsRequest(model="fake", first=0, last=1, session="chat")
        with pytest.raises(shipping.ShippingError, match="encrypted only"):
            shipping.fetch(f"127.0.0.1:{port}", request, limit_bytes=1 << 20, deadline_s=60)


@pytest.mark.parametrize("mode", ["sensitive", "all"])
def test_hosts_answer_over_encrypted_hops(mode, run, world):
    class Sealed(dict):
        def __missing__(self, name):
            classes = {"fake": ("raw", *["feature"] * (BLOCKS - 1), "public")}
            return Sealing(mode, run.identity(name, ("phone",) if name == "ue1" else AGENT), classes)

    sealings, add = Sealed(), world.add
    world.add = lambda name, **more: add(name, sealing=sealings[name], **more)
    three_hops(world)
    world.start()
    assert [(r["outcome"], r["equal"]) for r in world.requests(3)] == [("ok", True)] * 3
