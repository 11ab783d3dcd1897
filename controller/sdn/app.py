"""The shell around the core: OpenFlow 1.3 by os-ken, its events in, the core's messages out.

Rules: every event, the timer's too, is handled in the one thread of the application's queue: the state needs no lock.
Threads block on sockets, queues and sleeps only. Importing this module needs OSKEN_HUB_TYPE=native in the environment;
os-ken's eventlet hub would patch the sockets that gRPC uses.
"""

import struct
import time
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from typing import Any

from os_ken.base.app_manager import OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.controller import Datapath
from os_ken.controller.event import EventBase
from os_ken.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3 as ofp
from os_ken.ofproto import ofproto_v1_3_parser as parser

from controller.sdn import core, flows, lldp
from controller.sdn.graph import Counters, Port

_STAMP = struct.Struct("!q")
_SHOWN_BYTES = 128  # of a frame: enough for LLDP and the headers that name a host
_COOKIE = 0x6D6563


def now_us() -> int:
    return time.monotonic_ns() // 1000


class EventTick(EventBase):
    """It is time for one of the core's own events."""

    def __init__(self, due: core.Measure | core.Review) -> None:
        super().__init__()
        self.due = due


class LinkStateApp(OSKenApp):
    """Holds the core's state and the live switches; `publish` is called with the state after each review."""

    OFP_VERSIONS = [ofp.OFP_VERSION]  # noqa: RUF012
    LOGGER_NAME = "sdn"

    def __init__(self, *args: Any, period_us: int, publish: Callable[[core.State, int], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._period_us = period_us
        self._publish = publish
        self._state = core.start(period_us)
        self._datapaths: dict[int, Datapath] = {}

    def start(self) -> None:
        super().start()
        self.threads.append(hub.spawn(self._tick))

    def _tick(self) -> None:
        """Measures on whole periods of the clock, so that runs agree on when; reviews half a period later."""
        half_us = self._period_us // 2
        due_us = (now_us() // self._period_us + 1) * self._period_us
        while self.is_active:
            _sleep_until(due_us)
            self.send_event(self.name, EventTick(core.Measure()))
            _sleep_until(due_us + half_us)
            self.send_event(self.name, EventTick(core.Review()))
            due_us = max(due_us + self._period_us, now_us() // self._period_us * self._period_us)

    # -- events in

    @set_ev_cls(EventTick)
    def on_tick(self, tick: EventTick) -> None:
        t_us = now_us()
        self._feed(tick.due, t_us)
        if isinstance(tick.due, core.Review):
            for words in self._state.changes:
                self.logger.info("%d %s", t_us, words)
            self._publish(self._state, t_us)
            self._state = core.taken(self._state)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def on_switch(self, event: Any) -> None:
        datapath = event.datapath
        dpid: int | None = datapath.id
        if dpid is None:
            return  # died before it had said who it is
        old = self._datapaths.get(dpid)
        if event.state == MAIN_DISPATCHER:
            self._datapaths[dpid] = datapath
            if old is not None and old is not datapath:
                # os-ken's native send thread ends only when a send fails: give the dead connection one
                _send(old, [parser.OFPEchoRequest(old)])
            ports = tuple(_port(dpid, desc) for desc in dict(datapath.ports).values() if _real(desc.port_no))
            self._feed(core.SwitchJoined(dpid, ports), now_us())
        elif old is datapath:
            del self._datapaths[dpid]
            self._feed(core.SwitchLeft(dpid), now_us())

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def on_port(self, event: Any) -> None:
        dpid, desc = self._current(event), event.msg.desc
        if dpid is None or not _real(desc.port_no):
            return
        if event.msg.reason == ofp.OFPPR_DELETE:
            self._feed(core.PortRemoved((dpid, desc.port_no)), now_us())
        else:
            self._feed(core.PortSet(_port(dpid, desc)), now_us())

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def on_frame(self, event: Any) -> None:
        dpid, port = self._current(event), event.msg.match["in_port"]
        if dpid is not None and _real(port):
            self._feed(core.FrameSeen((dpid, port), bytes(event.msg.data)), _received_us(event))

    @set_ev_cls(ofp_event.EventOFPEchoReply, MAIN_DISPATCHER)
    def on_echo(self, event: Any) -> None:
        dpid, data = self._current(event), bytes(event.msg.data or b"")
        if dpid is not None and len(data) == _STAMP.size:
            self._feed(core.EchoSeen(dpid, *_STAMP.unpack(data)), _received_us(event))

    @set_ev_cls(ofp_event.EventOFPPortStatsReply, MAIN_DISPATCHER)
    def on_counters(self, event: Any) -> None:
        dpid, t_us = self._current(event), _received_us(event)
        if dpid is None:
            return
        readings = {
            (dpid, row.port_no): Counters(t_us, row.tx_bytes, row.rx_bytes, row.tx_dropped, row.rx_dropped)
            for row in event.msg.body
            if _real(row.port_no)
        }
        self._feed(core.CountersSeen(readings), t_us)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, MAIN_DISPATCHER)
    def on_error(self, event: Any) -> None:
        """A refused message is a fault of ours; it must not go unseen."""
        dpid, msg = event.msg.datapath.id, event.msg
        self.logger.error("switch %s refused a message: type %s code %s", dpid, msg.type, msg.code)

    def _current(self, event: Any) -> int | None:
        """The switch an event came from, or None when it came over a connection that has been replaced."""
        dpid: int = event.msg.datapath.id
        return dpid if self._datapaths.get(dpid) is event.msg.datapath else None

    # -- messages out

    def _feed(self, event: core.Event, t_us: int) -> None:
        self._state, messages = core.step(self._state, event, t_us)
        for dpid, ours in groupby(messages, attrgetter("dpid")):
            datapath = self._datapaths.get(dpid)
            if datapath is not None:
                _send(datapath, [_openflow(datapath, message) for message in ours])


def _send(datapath: Datapath, messages: list[Any]) -> None:
    """In one write: a switch that wakes for each message sends the last probes long after their stamps."""
    if datapath.is_active and datapath.state != DEAD_DISPATCHER:
        for message in messages:
            datapath.set_xid(message)
            message.serialize()
        datapath.send(b"".join(message.buf for message in messages))


def _openflow(datapath: Datapath, message: core.Message) -> Any:
    match message:
        case flows.FlowMod():
            return _flow_mod(datapath, message)
        case core.Clear():
            return parser.OFPFlowMod(
                datapath,
                table_id=ofp.OFPTT_ALL,
                command=ofp.OFPFC_DELETE,
                out_port=ofp.OFPP_ANY,
                out_group=ofp.OFPG_ANY,
            )
        case core.Probe(dpid, port):
            data = lldp.encode(lldp.Stamp(dpid, port, now_us()))
            actions = [parser.OFPActionOutput(port)]
            return parser.OFPPacketOut(datapath, ofp.OFP_NO_BUFFER, ofp.OFPP_CONTROLLER, actions, data)
        case core.Echo():
            return parser.OFPEchoRequest(datapath, _STAMP.pack(now_us()))
        case core.ReadCounters():
            return parser.OFPPortStatsRequest(datapath, 0, ofp.OFPP_ANY)


def _flow_mod(datapath: Datapath, mod: flows.FlowMod) -> Any:
    flow = mod.flow
    instructions = []
    if flow.output:
        action = parser.OFPActionOutput(flow.output, _SHOWN_BYTES)
        instructions.append(parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, [action]))
    if flow.goto:
        instructions.append(parser.OFPInstructionGotoTable(flow.goto))
    return parser.OFPFlowMod(
        datapath,
        cookie=_COOKIE,
        table_id=flow.table,
        command=ofp.OFPFC_ADD if mod.command == "add" else ofp.OFPFC_DELETE_STRICT,
        priority=flow.priority,
        buffer_id=ofp.OFP_NO_BUFFER,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        match=parser.OFPMatch(**dict(flow.match)),
        instructions=instructions,
    )


def _sleep_until(at_us: int) -> None:
    time.sleep(max(0, at_us - now_us()) / 1e6)


def _real(port_no: int) -> bool:
    return 0 < port_no < ofp.OFPP_MAX


def _port(dpid: int, desc: Any) -> Port:
    up = not (desc.config & ofp.OFPPC_PORT_DOWN or desc.state & ofp.OFPPS_LINK_DOWN)
    return Port((dpid, desc.port_no), desc.name.decode("ascii", "replace"), up)


def _received_us(event: Any) -> int:
    """When the message came off the socket: the event has waited in a queue since."""
    waited_s = max(0.0, time.time() - event.timestamp)
    return now_us() - round(waited_s * 1e6)
