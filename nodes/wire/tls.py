"""Who a host is to the others of its run, and who may do what: mutual TLS, and the reasons when it is refused.

    identity = load(folder, "run-7", "edge1")      raises IdentityError, naming what is wrong with it
    grpc.secure_channel(address, identity.channel_credentials())
    why = refusal("Weights", context.auth_context(), context.peer(), "run-7")

Rules: a handshake proves that the run's authority has signed the peer and that it is the peer of this address; what
a peer may do is decided a method, by the roles in its certificate; whatever is not allowed is refused. gRPC tells a
client that was refused in the handshake nothing but that the connection ended, so the client asks itself: `fault`
shakes hands with itself, in memory, as the peer would have done. The refusing side writes its reason to its log.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import grpc

Role = Literal["agent", "phone", "controller"]
AUTHORITY = "ca.pem"
SCHEME = "testbed"
# The controller's commands take Unix sockets, outside the emulated network: nothing here is for it.
ALLOWED: Mapping[str, frozenset[str]] = {
    "Deliver": frozenset(("agent", "phone")),
    "Weights": frozenset(("agent",)),
}


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a certificate is for."""

    name: str
    ip: str
    roles: tuple[Role, ...]


class IdentityError(Exception):
    """The certificate of this host cannot be used; the text names why."""


def uri(run: str, role: str, name: str) -> str:
    return f"{SCHEME}://{run}/{role}/{name}"


@dataclass(frozen=True, slots=True)
class Identity:
    """A host's certificate and key (None: it has none) and the authority that it trusts, as files."""

    run: str
    name: str
    authority: Path
    certificate: Path | None
    key: Path | None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authority.read_bytes(), *self._pair())

    def server_credentials(self) -> grpc.ServerCredentials:
        key, certificate = self._pair()
        if key is None or certificate is None:
            raise IdentityError(f"{self.name} has no certificate")
        return grpc.ssl_server_credentials([(key, certificate)], self.authority.read_bytes(), require_client_auth=True)

    def fault(self) -> str:
        """Why a peer of the run would refuse this certificate now; "" when it would not."""
        if self.certificate is None or self.key is None:
            return f"{self.name} has no certificate"
        try:
            _shake_hands(self.authority, self.certificate, self.key)
        except ssl.SSLCertVerificationError as error:
            return f"the certificate of {self.name} does not hold: {error.verify_message}"
        except (ssl.SSLError, OSError) as error:
            return f"the certificate of {self.name} cannot be used: {error}"
        return ""

    def _pair(self) -> tuple[bytes, bytes] | tuple[None, None]:
        if self.certificate is None or self.key is None:
            return None, None
        return self.key.read_bytes(), self.certificate.read_bytes()


def load(folder: Path, run: str, name: str) -> Identity:
    """The identity of a host, checked as its peers will check it. Raises IdentityError."""
    identity = Identity(run, name, folder / AUTHORITY, folder / f"{name}.pem", folder / f"{name}.key")
    if fault := identity.fault():
        raise IdentityError(fault)
    return identity


def refusal(method: str, auth: Mapping[str, Sequence[bytes]], peer: str, run: str) -> str:
    """Why this peer may not call the method; "" when it may. `peer` is gRPC's, such as "ipv4:10.0.0.1:40112"."""
    uris = [urlsplit(found.decode(errors="replace")) for found in auth.get("peer_uri", ())]
    if not uris:
        return "the peer's certificate names no host of a run"
    names = sorted({one.path.rpartition("/")[2] for one in uris})
    foreign = [one.netloc for one in uris if (one.scheme, one.netloc) != (SCHEME, run)]
    if foreign or len(names) != 1:
        return f"the peer is {', '.join(names)} of another run, {foreign[0]!r:.80}" if foreign else "two names in one"
    roles = {one.path.split("/")[1] for one in uris}
    if not roles & ALLOWED.get(method, frozenset()):
        return f"{names[0]} is a {' and '.join(sorted(roles))}: it may not call {method}"
    address = peer.removeprefix("ipv4:").rpartition(":")[0]
    places = [found.decode(errors="replace") for found in auth.get("peer_ip", ())]
    if address not in places:
        return (
            f"the peer at {address} shows the certificate of {names[0]}, which is at {', '.join(places) or 'no place'}"
        )
    return ""


def told(details: str, identity: Identity | None) -> str:
    """What gRPC says of a connection that failed, with what it leaves out."""
    if identity is None:
        return details
    if "Hostname Verification Check failed" in details:
        return f"{details}: the peer's certificate is of another address"
    fault = identity.fault()
    return f"{details}: {fault}" if fault else details


def _shake_hands(authority: Path, certificate: Path, key: Path) -> None:
    """Both sides are this host; the other one verifies."""
    own, other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own.load_cert_chain(certificate, key)
    other.check_hostname = False  # a host does not know here under which address it is sought
    other.load_verify_locations(authority)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = other.wrap_bio(back, there), own.wrap_bio(there, back, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
