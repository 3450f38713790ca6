"""The enumerations of the in-process API, with the numbers of ``tritonserver.h``."""

from __future__ import annotations

from enum import IntEnum


class ModelControlMode(IntEnum):
    """Which models are loaded, and when."""

    NONE = 0
    POLL = 1
    EXPLICIT = 2


class RateLimitMode(IntEnum):
    """Whether instances wait for resources that others use."""

    OFF = 0
    EXEC_COUNT = 1


class InstanceGroupKind(IntEnum):
    """Where an instance of a model runs."""

    AUTO = 0
    CPU = 1
    GPU = 2
    MODEL = 3


class LogFormat(IntEnum):
    """How a line of the log begins."""

    DEFAULT = 0
    ISO8601 = 1


class MetricFormat(IntEnum):
    """How metrics are printed."""

    PROMETHEUS = 0


class MetricKind(IntEnum):
    """What the number of a metric may do."""

    COUNTER = 0
    GAUGE = 1


class ModelBatchFlag(IntEnum):
    """Whether the first dimension of a model's tensors is the batch."""

    UNKNOWN = 1
    FIRST_DIM = 2


class ModelTxnPropertyFlag(IntEnum):
    """How many responses a request may have."""

    ONE_TO_ONE = 1
    DECOUPLED = 2


class MemoryType(IntEnum):
    """Where the values of a tensor are."""

    CPU = 0
    CPU_PINNED = 1
    GPU = 2


class DataType(IntEnum):
    """The datatypes of tensors; the numbers are those of the configuration, too."""

    INVALID = 0
    BOOL = 1
    UINT8 = 2
    UINT16 = 3
    UINT32 = 4
    UINT64 = 5
    INT8 = 6
    INT16 = 7
    INT32 = 8
    INT64 = 9
    FP16 = 10
    FP32 = 11
    FP64 = 12
    BYTES = 13
    BF16 = 14


class DLDeviceType(IntEnum):
    """Devices in DLPack (``dlpack.h``)."""

    kDLCPU = 1  # noqa: N815
    kDLCUDA = 2  # noqa: N815
    kDLCUDAHost = 3  # noqa: N815
    kDLOpenCL = 4  # noqa: N815
    kDLVulkan = 7  # noqa: N815
    kDLMetal = 8  # noqa: N815
    kDLVPI = 9  # noqa: N815
    kDLROCM = 10  # noqa: N815
    kDLROCMHost = 11  # noqa: N815
    kDLExtDev = 12  # noqa: N815
    kDLCUDAManaged = 13  # noqa: N815
    kDLOneAPI = 14  # noqa: N815
    kDLWebGPU = 15  # noqa: N815
    kDLHexagon = 16  # noqa: N815
