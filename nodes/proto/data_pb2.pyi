from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hop(_message.Message):
    __slots__ = ("node", "address", "first", "last", "part", "kv_sources", "parts", "replicas")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    KV_SOURCES_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    node: str
    address: str
    first: int
    last: int
    part: str
    kv_sources: _containers.RepeatedCompositeFieldContainer[Held]
    parts: _containers.RepeatedCompositeFieldContainer[Placed]
    replicas: _containers.RepeatedCompositeFieldContainer[Held]
    def __init__(self, node: _Optional[str] = ..., address: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., part: _Optional[str] = ..., kv_sources: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., parts: _Optional[_Iterable[_Union[Placed, _Mapping]]] = ..., replicas: _Optional[_Iterable[_Union[Held, _Mapping]]] = ...) -> None: ...

class Placed(_message.Message):
    __slots__ = ("node", "address", "part", "kv_sources", "replicas")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    KV_SOURCES_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    node: str
    address: str
    part: str
    kv_sources: _containers.RepeatedCompositeFieldContainer[Held]
    replicas: _containers.RepeatedCompositeFieldContainer[Held]
    def __init__(self, node: _Optional[str] = ..., address: _Optional[str] = ..., part: _Optional[str] = ..., kv_sources: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., replicas: _Optional[_Iterable[_Union[Held, _Mapping]]] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("address", "first", "last", "heads")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    address: str
    first: int
    last: int
    heads: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, address: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., heads: _Optional[_Iterable[int]] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("node", "step", "kind", "start_us", "end_us", "size_bytes", "wire", "relative_error")
    NODE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_US_FIELD_NUMBER: _ClassVar[int]
    END_US_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_ERROR_FIELD_NUMBER: _ClassVar[int]
    node: str
    step: int
    kind: str
    start_us: int
    end_us: int
    size_bytes: int
    wire: str
    relative_error: float
    def __init__(self, node: _Optional[str] = ..., step: _Optional[int] = ..., kind: _Optional[str] = ..., start_us: _Optional[int] = ..., end_us: _Optional[int] = ..., size_bytes: _Optional[int] = ..., wire: _Optional[str] = ..., relative_error: _Optional[float] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("request_id", "stream", "model", "epoch", "step", "route", "reply_to", "dtype", "shape", "size_bytes", "chunk", "chunks", "spans", "sent_us", "error", "error_code", "deadline_us", "wire", "session", "life", "position", "tokens", "ended", "part", "arrived", "resumed", "lane", "ack_later", "answer_here")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    SPANS_FIELD_NUMBER: _ClassVar[int]
    SENT_US_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_US_FIELD_NUMBER: _ClassVar[int]
    WIRE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    LIFE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    ACK_LATER_FIELD_NUMBER: _ClassVar[int]
    ANSWER_HERE_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    stream: str
    model: str
    epoch: int
    step: int
    route: _containers.RepeatedCompositeFieldContainer[Hop]
    reply_to: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    size_bytes: int
    chunk: int
    chunks: int
    spans: _containers.RepeatedCompositeFieldContainer[Span]
    sent_us: int
    error: str
    error_code: str
    deadline_us: int
    wire: str
    session: str
    life: int
    position: int
    tokens: int
    ended: bool
    part: str
    arrived: bool
    resumed: bool
    lane: int
    ack_later: bool
    answer_here: bool
    def __init__(self, request_id: _Optional[int] = ..., stream: _Optional[str] = ..., model: _Optional[str] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ..., route: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., reply_to: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., size_bytes: _Optional[int] = ..., chunk: _Optional[int] = ..., chunks: _Optional[int] = ..., spans: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., sent_us: _Optional[int] = ..., error: _Optional[str] = ..., error_code: _Optional[str] = ..., deadline_us: _Optional[int] = ..., wire: _Optional[str] = ..., session: _Optional[str] = ..., life: _Optional[int] = ..., position: _Optional[int] = ..., tokens: _Optional[int] = ..., ended: _Optional[bool] = ..., part: _Optional[str] = ..., arrived: _Optional[bool] = ..., resumed: _Optional[bool] = ..., lane: _Optional[int] = ..., ack_later: _Optional[bool] = ..., answer_here: _Optional[bool] = ...) -> None: ...

class WeightsHeader(_message.Message):
    __slots__ = ("block", "name", "dtype", "shape", "size_bytes", "chunk", "chunks", "sha256")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    block: int
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    size_bytes: int
    chunk: int
    chunks: int
    sha256: bytes
    def __init__(self, block: _Optional[int] = ..., name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., size_bytes: _Optional[int] = ..., chunk: _Optional[int] = ..., chunks: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class WeightsRequest(_message.Message):
    __slots__ = ("model", "first", "last", "parts", "session", "life", "begin", "end", "catalogue", "news", "heads", "others")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    LIFE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_FIELD_NUMBER: _ClassVar[int]
    NEWS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    model: str
    first: int
    last: int
    parts: _containers.RepeatedScalarFieldContainer[str]
    session: str
    life: int
    begin: int
    end: int
    catalogue: bool
    news: bool
    heads: _containers.RepeatedScalarFieldContainer[int]
    others: _containers.RepeatedCompositeFieldContainer[KeptRows]
    def __init__(self, model: _Optional[str] = ..., first: _Optional[int] = ..., last: _Optional[int] = ..., parts: _Optional[_Iterable[str]] = ..., session: _Optional[str] = ..., life: _Optional[int] = ..., begin: _Optional[int] = ..., end: _Optional[int] = ..., catalogue: _Optional[bool] = ..., news: _Optional[bool] = ..., heads: _Optional[_Iterable[int]] = ..., others: _Optional[_Iterable[_Union[KeptRows, _Mapping]]] = ...) -> None: ...

class KeptRows(_message.Message):
    __slots__ = ("session", "life", "begin", "end")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    LIFE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    session: str
    life: int
    begin: int
    end: int
    def __init__(self, session: _Optional[str] = ..., life: _Optional[int] = ..., begin: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...
