"""Device profiles: what each class of processor sustains on dense float32 work, and where the figure comes from.

`flops_per_s` and `memory_bytes_per_s` are what inference sustains, the peaks are the data sheet's. Big matrix products
reach 45 to 75 % of the peak on server parts, phones throttle; of the memory's bandwidth three quarters are taken, about
what STREAM reaches. A node of an experiment may override any field. One multiply-add counts as two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GIGA = 10**9
TERA = 10**12
MIB = 2**20
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Device:
    peak_flops_per_s: int
    flops_per_s: int
    memory_bytes: int  # for models and what they keep
    peak_bytes_per_s: int
    what: str  # the part, and what its figures follow from
    cpus_ppm: int | None = None  # processors of the machine that it is given with `compute: cgroup`

    @property
    def sustained(self) -> float:
        """The share of the peak that is kept up."""
        return self.flops_per_s / self.peak_flops_per_s

    @property
    def memory_bytes_per_s(self) -> int:
        return self.peak_bytes_per_s * 3 // 4


_CORE = (
    "one core of `server_cpu`; the paper (arXiv 2504.00407) gives its container {} CPU and {}, of an unnamed machine"
)

_PROFILES = {
    # Two Cortex-A715 beside the big core: 16 FLOP a cycle, 45 each. About half is sustained once warm; of 8 GB one
    # application gets half.
    "phone": Device(
        190 * GIGA,
        100 * GIGA,
        4 * GIB,
        68 * GIGA,
        "phone of 2023: a Cortex-X3 at 3.2 GHz (four 128-bit FMA pipes), two Cortex-A715 at 2.8; LPDDR5X-8533, 64 bits",
    ),
    # Vendors state 15 to 30 TOPS at int8; transformers in fp16 reach about an eighth of that.
    "phone_npu": Device(
        15_800 * GIGA, 2 * TERA, 4 * GIB, 68 * GIGA, "the same phone with its neural unit: Apple A15, 15.8 TOPS at int8"
    ),
    # Xavier NX: 384 cores at 1.1 GHz = 0.84 TFLOP/s, 51 GB/s (59.7 with 16 GB). Of 8 GB, shared with the CPU, 6 are
    # free.
    "edge_small": Device(
        1_280 * GIGA,
        640 * GIGA,
        6 * GIB,
        68 * GIGA,
        "NVIDIA Jetson Orin Nano 8 GB, data sheet: 1024 CUDA cores at 625 MHz, LPDDR5 of 128 bits",
    ),
    "orin_nx": Device(
        1_880 * GIGA,
        940 * GIGA,
        14 * GIB,
        102_400_000_000,
        "NVIDIA Jetson Orin NX 16 GB, data sheet DS-10712: 1024 CUDA cores at 918 MHz, LPDDR5 of 128 bits at 6400",
    ),
    "agx_orin": Device(
        5_320 * GIGA,
        2_660 * GIGA,
        56 * GIB,
        204_800_000_000,
        "NVIDIA Jetson AGX Orin 64 GB, technical brief: 2048 CUDA cores at 1.3 GHz, LPDDR5 of 256 bits at 6400",
    ),
    # Its 70 W hold it at about half.
    "mec_gpu": Device(
        8_100 * GIGA,
        4 * TERA,
        16 * GIB,
        320 * GIGA,
        "NVIDIA T4, data sheet: 8.1 TFLOP/s, GDDR6 of 256 bits at 10 Gbit/s",
    ),
    "gpu_3090": Device(
        35_600 * GIGA,
        20 * TERA,
        24 * GIB,
        936 * GIGA,
        "NVIDIA GeForce RTX 3090, specification: 10496 CUDA cores at 1.695 GHz, GDDR6X of 384 bits at 19.5 Gbit/s",
    ),
    "cloud_gpu": Device(
        19_500 * GIGA, 14 * TERA, 40 * GIB, 1555 * GIGA, "NVIDIA A100 40 GB, data sheet: 19.5 TFLOP/s, HBM2"
    ),
    "server_cpu": Device(
        2_048 * GIGA,
        1 * TERA,
        64 * GIB,
        141 * GIGA,
        "Intel Xeon Gold 6248: 20 cores, two AVX-512 FMA units each at the 1.6 GHz they keep; six channels DDR4-2933",
    ),
    # AMP4EC's three containers. A share of a processor is a share of its time, so of what it reads in it, too.
    "cpu_1": Device(102 * GIGA, 50 * GIGA, 1 * GIB, 7_050_000_000, _CORE.format("1.0", "1 GB"), 1_000_000),
    "cpu_06": Device(61 * GIGA, 30 * GIGA, 512 * MIB, 4_230_000_000, _CORE.format("0.6", "512 MB"), 600_000),
    "cpu_04": Device(41 * GIGA, 20 * GIGA, 512 * MIB, 2_820_000_000, _CORE.format("0.4", "512 MB"), 400_000),
}
PROFILES: Mapping[str, Device] = MappingProxyType(_PROFILES)
