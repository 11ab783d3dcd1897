"""Recordings that can be downloaded from their own homes, each with the digest of its bytes. Pure.

Digests are of the originals that the models in traces/ were fitted to and the readers tried with. Where the licence
says "none", the home names none: look and cite, do not pass on.
"""

from dataclasses import dataclass
from urllib.parse import quote

from testbed.trace.series import Recorded


@dataclass(frozen=True, slots=True)
class Recording:
    name: str  # also the name of the file
    of: str  # data set, kind of link
    licence: str
    url: str
    size_bytes: int | None  # None: not known before it is here
    sha256: str
    recorded: Recorded | None = None  # None: as its format says
    member: str | None = None  # of the zip archive that lies at `url`; size and digest are the member's


def _home(repository: str, path: str, commit: str = "HEAD") -> str:
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{quote(path)}"


_NONE = "none, cite"
_LUMOS = ("SIGCOMM21-5G/artifact", "e19113a674a267a0bf37cd52023bddc2a0cadc52")
_LUMOS_25 = "e54bb6170e4c17963be94dee9220c6106c8fc83e"
_MN_WILD = "Power-Model/MN-Wild/data-processed/iperf-logs"
_MEMU = "NUWiNS/sigcomm-5gmemu-5g-mmWave-uplink-data"
_UCC = _home("uccmisl/5Gdataset", "5G-production-dataset.zip", "3175653a6fc09611b7dba15e0e128183e6af7c6c")
_UCC_DRIVES = "5G-production-dataset/Download/Driving"
_STARLINK = ("Starlink-Project/Satellite-vs-Cellular", "e21c7e20f46c897343730a899cb3fa14233ea899")
_MAHIMAHI = ("ravinet/mahimahi", "c0613183586e6c71b7e13eb55cdd6aa1129bc882")
_PAM_TRIP = "datasets/raw_files/ping/ping_data_drive_trip_3"

RECORDINGS = (
    Recording(
        "lumos5g-walk-17",
        "Lumos5G: 5G mmWave, walking, down",
        _NONE,
        _home(_LUMOS[0], "Video-Streaming/Network-Traces/Lumous5G/5G/5g_trace_17_walking", _LUMOS[1]),
        9375,
        "3c38ebcea68d5f48190c4b9e7cc3d056c14e3a78080d380940175fbc774e528e",
        "goodput",
    ),
    Recording(
        "lumos5g-walk-25",
        "Lumos5G: 5G mmWave, walking, down",
        _NONE,
        _home(_LUMOS[0], "Video-Streaming/Network-Traces/Lumous5G/5G/5g_trace_25_walking", _LUMOS_25),
        9441,
        "30c070e91e118c33cef971007603d137598d1789941ab4faf9c0b7e084654f6a",
        "goodput",
    ),
    Recording(
        "lumos5g-lte-drive-50031",
        "Lumos5G: LTE, driving, down",
        _NONE,
        _home(_LUMOS[0], "Video-Streaming/Network-Traces/Lumous5G/4G/4g_trace_driving_50031_dr", _LUMOS[1]),
        2066,
        "3f0ec38e9b959677eaec6cd6fbcde45fd549b70b4d69e57f41d1c3ccffb950d2",
        "goodput",
    ),
    Recording(
        "mnwild-run157.csv",
        "SIGCOMM 2021 MN-Wild: 5G mmWave and low band, walking, down",
        _NONE,
        _home(_LUMOS[0], f"{_MN_WILD}/S20UPM-run157-iPerf.csv"),
        170_754,
        "32860825e419482963dce64bbcf1dc29aff28334841c1ec672f00a1e73e3eeac",
    ),
    Recording(
        "mnwild-run195.csv",
        "SIGCOMM 2021 MN-Wild: 5G mmWave and low band, walking, up",
        _NONE,
        _home(_LUMOS[0], f"{_MN_WILD}/S20UPM-run195-iPerf.csv"),
        173_356,
        "10b59f502a95390bf29e4a8d3a4310655bcd587d4cbe480cb4193c81e2981037",
    ),
    Recording(
        "memu22-throughput-walk.list",
        "5G-MeMU22: 5G mmWave, walking, up",
        _NONE,
        _home(_MEMU, "throughput/walking/5g/toward.list"),
        67_623,
        "e7947527d3ccbe6366fbf1095adeea3b59f2484d29ece5b16963bf3e2135592a",
    ),
    Recording(
        "memu22-ping-walk.list",
        "5G-MeMU22: 5G mmWave, walking, round trips",
        _NONE,
        _home(_MEMU, "ping/walking/5g/toward.list"),
        8403,
        "53d5d0835fefb7cd2bc3c9b465540156cf3efa1117733019b8463ba7f0eea01f",
    ),
    Recording(
        "memu22-throughput-lte-drive.list",
        "5G-MeMU22: LTE, driving, up",
        _NONE,
        _home(_MEMU, "throughput/driving/lte/throughput.list"),
        615_671,
        "8f140cfcb6af23d8f21836141290baafa221c3ff2968027a28bd5acccff9a6ac",
    ),
    Recording(
        "ucc5g-drive-2019-12-16.csv",
        "UCC 5G: mid-band 5G and LTE, driving, both ways and round trips",
        "GPL-3.0",
        _UCC,
        367_099,
        "79b5ead9c68c42959ae0ff8ae00d06d0475663b3fc2f1388a6c7d54b9e03b425",
        member=f"{_UCC_DRIVES}/B_2019.12.16_14.23.32.csv",
    ),
    Recording(
        "ucc5g-drive-2020-01-16.csv",
        "UCC 5G: mid-band 5G and LTE, driving, both ways and round trips",
        "GPL-3.0",
        _UCC,
        49_429,
        "5a81c89417e82c022cf73744e77bb3af7a212426f87d36631bc1c1ceb034d643",
        member=f"{_UCC_DRIVES}/B_2020.01.16_12.10.03.csv",
    ),
    Recording(
        "mtu5g-drive.csv",
        "MTU Measurements5G: mid-band 5G and LTE, driving, up",
        _NONE,
        _home(
            "MTU-Insectt/Measurements5G",
            "all_interfaces/cleaned_and_synced/Data5G.csv",
            "ab9e549ecfe826a5e1c8492ff6273234473a7015",
        ),
        55_182,
        "8b492b5f7b9a8614611ea36fb5ca8549066569ff1df787e9f312b09552d4c2f2",
    ),
    Recording(
        "mahimahi-tmobile-lte.down",
        "mahimahi: LTE, driving, down",
        "GPL-3.0",
        _home(_MAHIMAHI[0], "traces/TMobile-LTE-short.down", _MAHIMAHI[1]),
        1_211_415,
        "4f33dce8dd811b5702272af64aaf64d3913719919abd776edf1e0f7c0965da43",
    ),
    Recording(
        "mahimahi-tmobile-lte.up",
        "mahimahi: LTE, driving, up",
        "GPL-3.0",
        _home(_MAHIMAHI[0], "traces/TMobile-LTE-short.up", _MAHIMAHI[1]),
        1_005_225,
        "1c0d1bf5417b07597724fd64afe676af3c1f337a4ccdde90106bf96b1bcf18b2",
    ),
    Recording(
        "nyc-lte-bus",
        "Cellular Traces NYC: LTE, bus, down",
        _NONE,
        _home("Soheil-ab/Cellular-Traces-NYC", "trace-3114405-bus"),
        1_381_581,
        "37cd1d5f768d4ab80ced579498f292d82a898457896be7dd9a533d9cc332e0af",
    ),
    Recording(
        "hsdpa-bus-14",
        "HSDPA Norway: 3G, bus, down",
        "MIT",
        _home("confiwent/Real-world-bandwidth-traces", "cooked_3gp/norway_bus_14"),
        7271,
        "ec8eaa0d511254daaa3d708647e345d3ebf89a37f3ec4383159ca106ccade605",
        "goodput",
    ),
    Recording(
        "starlink-drive-down.csv",
        "Satellite vs Cellular: Starlink, driving, down",
        _NONE,
        _home(_STARLINK[0], "6-Driving-Speed/UDP/Downlink/delurban_mob_all_area.csv", _STARLINK[1]),
        665_871,
        "7cc8ea222f77682fc95bc685805b14237afb472a544c16e7d8b9acd7e85dffc0",
    ),
    Recording(
        "starlink-drive-up.csv",
        "Satellite vs Cellular: Starlink, driving, up",
        _NONE,
        _home(_STARLINK[0], "3-Thrpt-Comp/UDP/Uplink/mob_all_area.csv"),
        462_199,
        "b34a8e07eef2339d0d482104297284bb0fa999664f4e197a0f1548f43aab39a8",
    ),
    Recording(
        "cicv5g-arterial-n78.txt",
        "CICV5G: 5G n78, vehicle, round trips, positions and cells",
        "CC-BY-4.0",
        _home("zxr805/CICV5G", "data/Arterial road/n78/50/arterial_n78_v50_run01.txt"),
        258_413,
        "65d8c941de755ad0f97d2839335741debe239cdf5d2dd42de89767f318881862",
    ),
    Recording(
        "pam25-verizon-ping.out",
        "PAM 2025 multi-carrier: 5G and LTE, driving, round trips",
        "CC0-1.0",
        _home(
            "NUWiNS/pam2025-multi-carrier-dataset",
            f"{_PAM_TRIP}/08_07_2023/verizon/173326491/ping_173738752.out",
            "57e176f97652e67197ede5fa18e312941a44207b",
        ),
        13_954,
        "1632955de185e5de33b6581855bbef41da028c2d633db438c2ad91e543e580fa",
    ),
)


def by_name(name: str) -> Recording | None:
    return next((one for one in RECORDINGS if one.name == name), None)


def by_digest(sha256: str) -> Recording | None:
    return next((one for one in RECORDINGS if one.sha256 == sha256), None)
