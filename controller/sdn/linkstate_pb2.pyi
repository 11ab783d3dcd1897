from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("period_s",)
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    period_s: float
    def __init__(self, period_s: _Optional[float] = ...) -> None: ...

class SwitchLink(_message.Message):
    __slots__ = ("from_dpid", "from_port", "to_dpid", "to_port", "latency_us", "up", "raw_latency_us")
    FROM_DPID_FIELD_NUMBER: _ClassVar[int]
    FROM_PORT_FIELD_NUMBER: _ClassVar[int]
    TO_DPID_FIELD_NUMBER: _ClassVar[int]
    TO_PORT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    RAW_LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    from_dpid: int
    from_port: int
    to_dpid: int
    to_port: int
    latency_us: int
    up: bool
    raw_latency_us: int
    def __init__(self, from_dpid: _Optional[int] = ..., from_port: _Optional[int] = ..., to_dpid: _Optional[int] = ..., to_port: _Optional[int] = ..., latency_us: _Optional[int] = ..., up: _Optional[bool] = ..., raw_latency_us: _Optional[int] = ...) -> None: ...

class Port(_message.Message):
    __slots__ = ("dpid", "port", "name", "up", "tx_bps", "rx_bps", "tx_bytes", "rx_bytes", "tx_dropped", "rx_dropped")
    DPID_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    TX_BPS_FIELD_NUMBER: _ClassVar[int]
    RX_BPS_FIELD_NUMBER: _ClassVar[int]
    TX_BYTES_FIELD_NUMBER: _ClassVar[int]
    RX_BYTES_FIELD_NUMBER: _ClassVar[int]
    TX_DROPPED_FIELD_NUMBER: _ClassVar[int]
    RX_DROPPED_FIELD_NUMBER: _ClassVar[int]
    dpid: int
    port: int
    name: str
    up: bool
    tx_bps: int
    rx_bps: int
    tx_bytes: int
    rx_bytes: int
    tx_dropped: int
    rx_dropped: int
    def __init__(self, dpid: _Optional[int] = ..., port: _Optional[int] = ..., name: _Optional[str] = ..., up: _Optional[bool] = ..., tx_bps: _Optional[int] = ..., rx_bps: _Optional[int] = ..., tx_bytes: _Optional[int] = ..., rx_bytes: _Optional[int] = ..., tx_dropped: _Optional[int] = ..., rx_dropped: _Optional[int] = ...) -> None: ...

class HostSeen(_message.Message):
    __slots__ = ("mac", "ip", "dpid", "port")
    MAC_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    DPID_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    mac: str
    ip: str
    dpid: int
    port: int
    def __init__(self, mac: _Optional[str] = ..., ip: _Optional[str] = ..., dpid: _Optional[int] = ..., port: _Optional[int] = ...) -> None: ...

class Path(_message.Message):
    __slots__ = ("from_mac", "to_mac", "dpids", "latency_us")
    FROM_MAC_FIELD_NUMBER: _ClassVar[int]
    TO_MAC_FIELD_NUMBER: _ClassVar[int]
    DPIDS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_US_FIELD_NUMBER: _ClassVar[int]
    from_mac: str
    to_mac: str
    dpids: _containers.RepeatedScalarFieldContainer[int]
    latency_us: int
    def __init__(self, from_mac: _Optional[str] = ..., to_mac: _Optional[str] = ..., dpids: _Optional[_Iterable[int]] = ..., latency_us: _Optional[int] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("t_us", "links", "ports", "hosts", "paths", "flows", "changes")
    T_US_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    t_us: int
    links: _containers.RepeatedCompositeFieldContainer[SwitchLink]
    ports: _containers.RepeatedCompositeFieldContainer[Port]
    hosts: _containers.RepeatedCompositeFieldContainer[HostSeen]
    paths: _containers.RepeatedCompositeFieldContainer[Path]
    flows: int
    changes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, t_us: _Optional[int] = ..., links: _Optional[_Iterable[_Union[SwitchLink, _Mapping]]] = ..., ports: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., hosts: _Optional[_Iterable[_Union[HostSeen, _Mapping]]] = ..., paths: _Optional[_Iterable[_Union[Path, _Mapping]]] = ..., flows: _Optional[int] = ..., changes: _Optional[_Iterable[str]] = ...) -> None: ...
