"""Which GPUs and MIG instances a node shows us. Pure records."""


class Device:
    """A GPU, or one MIG instance of a GPU.

    `index` is NVML's, of an instance `parent:instance`; `minor` is the number of /dev/nvidiaN, None if unknown.
    `instances` are those that we may see; a GPU with MIG on and none of them stands for itself.
    """

    __slots__ = ("index", "instances", "minor", "uuid")

    def __init__(
        self, index: str, uuid: str, *, minor: int | None = None, instances: "tuple[Device, ...]" = ()
    ) -> None:
        self.index = index
        self.uuid = uuid
        self.minor = minor
        self.instances = instances

    @property
    def units(self) -> "tuple[Device, ...]":
        """What a program can use of it: its instances, else the GPU."""
        return self.instances or (self,)
