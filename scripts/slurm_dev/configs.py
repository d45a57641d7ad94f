"""Writes the text of Slurm's configuration files for an instance. Pure."""

from .instance import Instance

DATABASE = "slurm_acct"
CPUS_PER_NODE = 32
GPUS_PER_NODE = 2
# More than the machine may have (config_overrides): jobs only use what they really need.
MEMORY_MB_PER_NODE = 16000
# Every user has both accounts, the first by default, and both QOS; `few` takes this many jobs at once.
ACCOUNTS = ("lab_a", "lab_b")
QOS_WITH_LIMIT = "few"
MAX_JOBS_OF_QOS = 4
PRIVATE = "accounts,jobs,usage,users"


def slurm_conf(instance: Instance, *, hostname: str) -> str:
    """slurm.conf: fast reactions, real accounting, and defaults where a test may want a site's setting."""
    kind = "cgroup" if instance.cgroup_v1 else "linux"
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={hostname} NodeAddr=127.0.0.1 Port={port} Sockets=1"
        f" CoresPerSocket={CPUS_PER_NODE} ThreadsPerCore=1 RealMemory={MEMORY_MB_PER_NODE}"
        f" Gres=gpu:{GPUS_PER_NODE} State=UNKNOWN"
        for node, port in zip(instance.nodes, instance.node_ports, strict=True)
    )
    plugins = f"PluginDir={instance.plugins}\n" if instance.plugins else ""
    return f"""# Written by scripts/slurm-dev; gone after `slurm-dev down`.
{plugins}ClusterName={instance.cluster}
SlurmctldHost={hostname}(127.0.0.1)
SlurmctldPort={instance.ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# How long a requeued job waits before it begins again is cred_expire: 120 s by default, see slurm.conf(5).
AuthInfo=socket={instance.path("munge", "socket")},cred_expire=10

StateSaveLocation={instance.path("state")}
SlurmdSpoolDir={instance.path("spool", "%n")}
SlurmctldPidFile={instance.path("run", "slurmctld.pid")}
SlurmdPidFile={instance.path("run", "slurmd-%n.pid")}
SlurmctldLogFile={instance.path("log", "slurmctld.log")}
SlurmdLogFile={instance.path("log", "%n.log")}
SlurmctldDebug=info
SlurmdDebug=info
MailProg=/bin/true
# Room for scripts/bench tracking: thousands of evals, as a few arrays.
MaxJobCount=20000
MaxArraySize=5001

ProctrackType=proctrack/{"cgroup" if instance.cgroup_v1 else "linuxproc"}
TaskPlugin=task/{"cgroup" if instance.cgroup_v1 else "none"}
JobAcctGatherType=jobacct_gather/{kind}
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={instance.dbd_port}
# Towards slurmdbd this, and not AuthInfo, names munged's socket.
AccountingStoragePass={instance.path("munge", "socket")}
AccountingStorageTRES=gres/gpu
# As most sites have it: nobody submits without an account, or sees what is another's.
AccountingStorageEnforce=associations,limits,qos
PrivateData={PRIVATE}

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=2
SlurmdParameters=config_overrides
GresTypes=gpu
JobRequeue=1
# Ids of one digit look like everything else in a text.
FirstJobId=10001
ReturnToService=2
KillWait=2
# A node that does not answer is down after this; a slow machine needs some patience.
SlurmdTimeout=30
UnkillableStepTimeout=60
# Without a default a job that names no memory takes the whole node.
DefMemPerCPU={MEMORY_MB_PER_NODE // CPUS_PER_NODE}

{nodes}
# Jobs of the first three push those of `requeued` and `cancelled` off the nodes, and not each other.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=debug Nodes=ALL Default=YES MaxTime=1-00:00:00 State=UP PriorityTier=2 PreemptMode=OFF
PartitionName=short Nodes=ALL MaxTime=00:10:00 State=UP PriorityTier=2 PreemptMode=OFF
PartitionName=hidden Nodes=ALL MaxTime=00:10:00 State=UP PriorityTier=2 PreemptMode=OFF Hidden=YES
PartitionName=requeued Nodes=ALL MaxTime=1-00:00:00 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=cancelled Nodes=ALL MaxTime=1-00:00:00 State=UP PriorityTier=1 PreemptMode=CANCEL
"""


def slurmdbd_conf(instance: Instance) -> str:
    """slurmdbd.conf; no password: MariaDB knows root by its socket."""
    plugins = f"PluginDir={instance.plugins}\n" if instance.plugins else ""
    return f"""# Written by scripts/slurm-dev; gone after `slurm-dev down`.
DbdHost=localhost
DbdPort={instance.dbd_port}
{plugins}SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={instance.path("munge", "socket")}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc={DATABASE}
PrivateData={PRIVATE}
LogFile={instance.path("log", "slurmdbd.log")}
PidFile={instance.path("run", "slurmdbd.pid")}
DebugLevel=info
"""


def database_sql() -> str:
    """What MariaDB does whenever it starts.

    slurmdbd would make its database itself, but with libmariadb 3.4.10 (Debian 13) it dies of that: the
    connection that it made after "unknown database" may only have results of 0 columns.
    """
    return f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n"


def cgroup_conf(instance: Instance, *, version: tuple[int, int], swap_accounted: bool) -> str:
    """cgroup.conf; `version` is Slurm's.

    slurmd loads a cgroup plugin even if nothing uses it. The one for v2 would ask systemd for a scope, which
    would outlive the instance; before 23.02 there is no `disabled`, but the one for v1 does nothing until it is used.
    """
    if not instance.cgroup_v1:
        return f"CgroupPlugin={'disabled' if version >= (23, 2) else 'cgroup/v1'}\n"
    return f"""# Written by scripts/slurm-dev; gone after `slurm-dev down`.
CgroupPlugin=cgroup/v1
ConstrainRAMSpace=yes
ConstrainSwapSpace={"yes" if swap_accounted else "no"}
ConstrainDevices=yes
"""


def gres_conf(instance: Instance) -> str:
    """gres.conf: the devices that `device_paths` lists."""
    lines = [f"NodeName={node} Name=gpu File={path}" for node, path in device_paths(instance)]
    return "\n".join(["AutoDetect=off", *lines, ""])


def device_paths(instance: Instance) -> list[tuple[str, str]]:
    """(node, path) of every GPU's character device."""
    return [
        (node, instance.path("dev", node, f"gpu{number}")) for node in instance.nodes for number in range(GPUS_PER_NODE)
    ]
