from nodes.proto import data_pb2 as _data_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConnectRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class StartRequest(_message.Message):
    __slots__ = ("t0_us",)
    T0_US_FIELD_NUMBER: _ClassVar[int]
    t0_us: int
    def __init__(self, t0_us: _Optional[int] = ...) -> None: ...

class SliceRef(_message.Message):
    __slots__ = ("model", "first", "last", "part")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    model: str
    first: int
    last: int
    part: str
    def __init__(self, model: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., part: _Optional[str] = ...) -> None: ...

class PrepareRequest(_message.Message):
    __slots__ = ("slice", "source_address", "deadline_s", "kv_sources")
    SLICE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    KV_SOURCES_FIELD_NUMBER: _ClassVar[int]
    slice: SliceRef
    source_address: str
    deadline_s: float
    kv_sources: _containers.RepeatedCompositeFieldContainer[_data_pb2.Held]
    def __init__(self, slice: _Optional[_Union[SliceRef, _Mapping]] = ..., source_address: _Optional[str] = ..., deadline_s: _Optional[float] = ..., kv_sources: _Optional[_Iterable[_Union[_data_pb2.Held, _Mapping]]] = ...) -> None: ...

class PrepareReply(_message.Message):
    __slots__ = ("ok", "why", "bytes_moved", "digest")
    OK_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    BYTES_MOVED_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ok: bool
    why: str
    bytes_moved: int
    digest: str
    def __init__(self, ok: _Optional[bool] = ..., why: _Optional[str] = ..., bytes_moved: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("followed",)
    FOLLOWED_FIELD_NUMBER: _ClassVar[int]
    followed: _containers.RepeatedCompositeFieldContainer[Followed]
    def __init__(self, followed: _Optional[_Iterable[_Union[Followed, _Mapping]]] = ...) -> None: ...

class Followed(_message.Message):
    __slots__ = ("model", "held")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    model: str
    held: _data_pb2.Held
    def __init__(self, model: _Optional[str] = ..., held: _Optional[_Union[_data_pb2.Held, _Mapping]] = ...) -> None: ...

class LoadRequest(_message.Message):
    __slots__ = ("load_ppm",)
    LOAD_PPM_FIELD_NUMBER: _ClassVar[int]
    load_ppm: int
    def __init__(self, load_ppm: _Optional[int] = ...) -> None: ...

class UpRequest(_message.Message):
    __slots__ = ("up",)
    UP_FIELD_NUMBER: _ClassVar[int]
    up: bool
    def __init__(self, up: _Optional[bool] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node", "up", "load_ppm", "queue_us", "queued", "memory_used_bytes", "memory_limit_bytes", "rss_bytes", "cpu_s", "served", "refused", "busy_s", "slices")
    NODE_FIELD_NUMBER: _ClassVar[int]
    UP_FIELD_NUMBER: _ClassVar[int]
    LOAD_PPM_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    node: str
    up: bool
    load_ppm: int
    queue_us: int
    queued: int
    memory_used_bytes: int
    memory_limit_bytes: int
    rss_bytes: int
    cpu_s: float
    served: int
    refused: int
    busy_s: float
    slices: _containers.RepeatedCompositeFieldContainer[SliceRef]
    def __init__(self, node: _Optional[str] = ..., up: _Optional[bool] = ..., load_ppm: _Optional[int] = ..., queue_us: _Optional[int] = ..., queued: _Optional[int] = ..., memory_used_bytes: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., rss_bytes: _Optional[int] = ..., cpu_s: _Optional[float] = ..., served: _Optional[int] = ..., refused: _Optional[int] = ..., busy_s: _Optional[float] = ..., slices: _Optional[_Iterable[_Union[SliceRef, _Mapping]]] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("stream", "hops")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    stream: str
    hops: _containers.RepeatedCompositeFieldContainer[_data_pb2.Hop]
    def __init__(self, stream: _Optional[str] = ..., hops: _Optional[_Iterable[_Union[_data_pb2.Hop, _Mapping]]] = ...) -> None: ...

class SwitchRequest(_message.Message):
    __slots__ = ("epoch", "routes", "lost", "reaches", "flops_per_s", "memory_bytes_per_s", "copied_us")
    class FlopsPerSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class MemoryBytesPerSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    REACHES_FIELD_NUMBER: _ClassVar[int]
    FLOPS_PER_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    COPIED_US_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    lost: _containers.RepeatedScalarFieldContainer[str]
    reaches: _containers.RepeatedCompositeFieldContainer[Reach]
    flops_per_s: _containers.ScalarMap[str, int]
    memory_bytes_per_s: _containers.ScalarMap[str, int]
    copied_us: int
    def __init__(self, epoch: _Optional[int] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ..., lost: _Optional[_Iterable[str]] = ..., reaches: _Optional[_Iterable[_Union[Reach, _Mapping]]] = ..., flops_per_s: _Optional[_Mapping[str, int]] = ..., memory_bytes_per_s: _Optional[_Mapping[str, int]] = ..., copied_us: _Optional[int] = ...) -> None: ...

class Reach(_message.Message):
    __slots__ = ("from_address", "to_address", "rate_bps", "delay_us")
    FROM_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TO_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RATE_BPS_FIELD_NUMBER: _ClassVar[int]
    DELAY_US_FIELD_NUMBER: _ClassVar[int]
    from_address: str
    to_address: str
    rate_bps: int
    delay_us: int
    def __init__(self, from_address: _Optional[str] = ..., to_address: _Optional[str] = ..., rate_bps: _Optional[int] = ..., delay_us: _Optional[int] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("stream", "request_id", "sent_us", "done_us", "ok")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SENT_US_FIELD_NUMBER: _ClassVar[int]
    DONE_US_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    stream: str
    request_id: int
    sent_us: int
    done_us: int
    ok: bool
    def __init__(self, stream: _Optional[str] = ..., request_id: _Optional[int] = ..., sent_us: _Optional[int] = ..., done_us: _Optional[int] = ..., ok: _Optional[bool] = ...) -> None: ...

class PhoneStatus(_message.Message):
    __slots__ = ("node", "in_flight", "outcomes", "sent", "finished")
    class InFlightEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    node: str
    in_flight: _containers.ScalarMap[int, int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    sent: int
    finished: bool
    def __init__(self, node: _Optional[str] = ..., in_flight: _Optional[_Mapping[int, int]] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., sent: _Optional[int] = ..., finished: _Optional[bool] = ...) -> None: ...
