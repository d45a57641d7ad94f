"""Lists the messages of failing memory, GPUs and disks. Data for `diagnose`.

Each entry: the cause, the patterns of exceptions (looked for in `Type: message`), the patterns of lines (from their
beginning). Root causes come before their consequences.
"""

from __future__ import annotations

from evalmon_agent.evidence.diagnosis.causes import Wordings
from evalmon_agent.evidence.diagnosis.output import STEPD, TOOL

MACHINE: Wordings = (
    (
        "host-out-of-memory",
        (
            r"^(?:\w+\.)*\w*MemoryError\b(?<!OutOfMemoryError)",
            r"^OSError: \[Errno 12\] Cannot allocate memory",
            r"DefaultCPUAllocator: (?:can't|not enough memory)",
            r"\[enforce fail at alloc_cpu\.cpp",
            r"^ray\.exceptions\.OutOfMemoryError: Task was killed due to the node running low on memory",
        ),
        (
            STEPD + r".*Detected \d+ oom[_-]kill event",
            STEPD + r".*(?:Exceeded|exceeded) (?:job|step) memory limit",
            r"srun: error: .*: Out Of Memory$",
            r"terminate called after throwing an instance of 'std::bad_alloc'",
        ),
    ),
    (
        "kv-cache-memory",
        (
            r"No available memory for the cache blocks",
            r"is larger than the maximum number of tokens that can be stored in (?:the )?KV cache",
            r"KV cache is needed, which is larger than the available KV cache memory",
        ),
        (),
    ),
    (
        "cuda-out-of-memory",
        (
            r"^(?:torch\.(?:cuda\.)?)?OutOfMemoryError: (?:CUDA|HIP|XPU) out of memory",
            r"^(?:\w+\.)*\w*: (?:CUDA|HIP) out of memory\. Tried to allocate",
            r"^(?:\w+\.)*\w*: CUDA error: out of memory",
            r"CUBLAS_STATUS_ALLOC_FAILED",
            r"RESOURCE_EXHAUSTED: Out of memory",
            r"cudaErrorMemoryAllocation",
            r"Free memory on device .* on startup is less than desired GPU memory utilization",
            r"^(?:cupy\S*|\S*)OutOfMemoryError: Out of memory allocating",
        ),
        (
            r"ggml_\w+: .*cudaMalloc failed: out of memory",
            r"RuntimeError: Not enough memory\. Please try to increase --mem-fraction-static",
        ),
    ),
    (
        "gpu-lost",
        (
            r"CUDA error: (?:uncorrectable ECC error|the launch timed out and was terminated)",
            r"\bGPU is lost\b",
            r"NVML\w*Error\w*: GPU is lost",
        ),
        (
            r"(?:\[[\d. ]+\] )?(?:kernel: )?NVRM: (?:Xid|.*fallen off the bus)",
            r"Unable to determine the device handle for (?:GPU|gpu) ?\S+: (?:GPU is lost|Unknown Error)",
        ),
    ),
    (
        "cuda-mismatch",
        (
            r"The NVIDIA driver on your system is too old",
            r"CUDA driver version is insufficient for CUDA runtime version",
            r"no kernel image is available for execution on the device",
            r"unsupported display driver / cuda driver combination",
            r"forward compatibility was attempted on non supported HW",
            r"the provided PTX was compiled with an unsupported toolchain",
            r"Driver/library version mismatch",
            r"cuda>=[\d.]+, please update your driver",
        ),
        (
            r"Failed to initialize NVML: Driver/library version mismatch",
            r"nvidia-container-cli: requirement error: unsatisfied condition: cuda",
        ),
    ),
    (
        "no-gpu",
        (
            r"No CUDA GPUs are available",
            r"Found no NVIDIA driver on your system",
            r"Torch not compiled with CUDA enabled",
            r"no CUDA-capable device is detected",
            r"Attempting to deserialize object on a CUDA device but torch\.cuda\.is_available\(\) is False",
            r"Failed to infer device type",
            r"Device string must not be empty",
            r"CUDA error: invalid device ordinal",
        ),
        (r"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver", r"No devices were found$"),
    ),
    ("gpu-busy", (r"CUDA-capable device\(s\) is/are busy or unavailable",), ()),
    # Before the CUDA error that it causes.
    (
        "token-out-of-vocabulary",
        (
            r"\b[Tt]oken id \d+ is out of vocabulary",
            r"^IndexError: index out of range in self",
        ),
        (
            r".{0,300}\bindexSelect\w+: .*Assertion `srcIndex < srcSelectDimSize` failed",
            r".{0,300}\bvectorized_gather_kernel: .*Assertion `ind >= ?0 && ind < ind_dim_size",
        ),
    ),
    (
        "cuda-error",
        (
            r"CUDA error: ",
            r"CUBLAS_STATUS_\w+",
            r"CUDNN_STATUS_\w+",
            r"\bcudaError\w+",
            r"^triton\.\w+.*(?:OutOfResources|PassManager)",
        ),
        (
            r"  what\(\):  CUDA error: ",
            r".{0,200}/ATen/native/cuda/\S+: .*: device-side assert|.{0,300}Assertion `.*` failed\.$",
        ),
    ),
    (
        "disk-quota",
        (r"\[Errno 122\]", r"Disk quota exceeded", r"\(os error 122\)"),
        (TOOL + r".*: Disk quota exceeded$",),
    ),
    (
        "disk-full",
        (r"\[Errno 28\]", r"No space left on device", r"database or disk is full"),
        (TOOL + r".*: No space left on device$",),
    ),
    (
        "shared-memory",
        (
            r"insufficient shared memory \(shm\)",
            r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) is killed by signal: Bus error",
            r"unable to (?:open|mmap|resize) (?:shared memory|\d+ bytes from file </torch_)",
        ),
        (r"ERROR: Unexpected bus error encountered in worker\. This might be caused by insufficient shared memory",),
    ),
    ("open-files", (r"\[Errno 24\]", r"Too many open files"), (TOOL + r".*: Too many open files$",)),
)
