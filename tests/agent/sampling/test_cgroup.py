"""Tests where the job's cgroup is found (v1, v2 and both at once), and how its files are read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import as_root
from as_root import needs_root
from evalmon_agent.agent.sampling import host_usage
from evalmon_agent.agent.sampling.host_usage import CgroupUsage, field, limit_bytes, pids_in, quota_cores
from evalmon_agent.agent.sampling.sampler import KEEP_FREE_BYTES, why_leave

V1 = """\
9:name=systemd:/
6:freezer:/slurm_n1/uid_0/job_212/step_batch
4:memory:/slurm_n1/uid_0/job_212/step_batch/task_0
2:cpu,cpuacct:/slurm_n1/uid_0/job_212/step_batch/task_0
0::/
"""
V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "0::/system.slice/n1_slurmstepd.scope/job_212/step_batch/user/task_0\n"
V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_the_jobs_cgroups_of_version_1_are_found() -> None:
    job = "slurm_n1/uid_0/job_212"
    expected = {
        "memory": f"/sys/fs/cgroup/memory/{job}",
        "cpu": f"/sys/fs/cgroup/cpu,cpuacct/{job}",
        "cpuacct": f"/sys/fs/cgroup/cpu,cpuacct/{job}",
    }
    assert expected == host_usage.find_job(V1, V1_MOUNTS, job_id="212")


def test_the_jobs_cgroup_of_version_2_is_found() -> None:
    expected = {host_usage.UNIFIED: "/sys/fs/cgroup/system.slice/n1_slurmstepd.scope/job_212"}
    assert expected == host_usage.find_job(V2, V2_MOUNTS, job_id="212")


def test_in_a_container_only_the_mounted_part_counts() -> None:
    mounts = V2_MOUNTS.replace(" / /sys", " /system.slice /sys").replace("cgroup rw", r"a\040b rw")
    expected = {host_usage.UNIFIED: "/sys/fs/a b/n1_slurmstepd.scope/job_212"}
    assert expected == host_usage.find_job(V2, mounts, job_id="212")
    elsewhere = V2_MOUNTS.replace(" / /sys", " /docker/7 /sys")
    assert host_usage.find_job(V2, elsewhere, job_id="212") == {}


@pytest.mark.parametrize("job_id", ["21", "2120", "7"])
def test_another_jobs_cgroup_is_not_used(job_id: str) -> None:
    assert host_usage.find_job(V1, V1_MOUNTS, job_id=job_id) == {}


@given(st.text(max_size=200), st.text(max_size=200))
def test_parsing_accepts_any_text(own: str, mounts: str) -> None:
    assert isinstance(host_usage.find_job(own, mounts, job_id="1"), dict)
    assert isinstance(host_usage.find_job(V1 + own, V1_MOUNTS + mounts, job_id="212"), dict)


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def version_2(job: Path, *, used_mib: int, cache_mib: int, limit: str, step_limit: str = "max") -> dict[str, str]:
    stat = f"anon 1\nfile 5\ninactive_file {cache_mib << 19}\nactive_file {cache_mib << 19}\n"
    for directory, its_limit in ((job, limit), (job / "step_batch", step_limit)):
        write(
            directory,
            memory__current=f"{used_mib << 20}\n",
            memory__max=f"{its_limit}\n",
            memory__peak=f"{(used_mib + 1) << 20}\n",
            memory__stat=stat,
            cgroup__procs="",
            cpu__stat="usage_usec 1\n",
        )
    return {host_usage.UNIFIED: str(job)}


def test_memory_of_version_2_excludes_file_cache_and_the_nearest_limit_counts(tmp_path: Path) -> None:
    job = tmp_path / "job_1"
    directories = version_2(job, used_mib=100, cache_mib=30, limit=str(200 << 20), step_limit=str(150 << 20))
    source = CgroupUsage(directories, own=str(job / "step_batch"))
    usage = source.usage()
    mib = [n and n >> 20 for n in (usage.memory_bytes, usage.file_cache_bytes, usage.memory_peak_bytes)]
    assert [70, 30, 101] == mib
    assert usage.memory_limit_bytes == 150 << 20
    assert source.headroom_bytes() == (150 - 70) << 20


def as_the_kernel_lays_it_out(job: Path, *, version: int, own_pid: int) -> dict[str, str]:
    """A job of 100 MiB, 30 of them file cache, 12.5 s of CPU, 2 cores: the files of kernels 5.15 and 6.8."""
    if version == 2:
        version_2(job, used_mib=100, cache_mib=30, limit=str(200 << 20))
        cpu = (
            "usage_usec 12500000\nuser_usec 9000000\nsystem_usec 3500000\ncore_sched.force_idle_usec 0\nnr_periods 0\n"
        )
        write(job, cpu__stat=cpu, cpu__max="200000 100000\n", cgroup__procs="")
        write(job / "step_batch", cgroup__procs=f"{own_pid}\n")
        return {host_usage.UNIFIED: str(job)}
    cache = f"cache {40 << 20}\nrss {60 << 20}\ninactive_file 1\nactive_file 1\n"
    cache += f"total_cache {40 << 20}\ntotal_inactive_file {10 << 20}\ntotal_active_file {20 << 20}\n"
    write(
        job,
        memory__usage_in_bytes=f"{100 << 20}\n",
        memory__limit_in_bytes=f"{200 << 20}\n",
        memory__max_usage_in_bytes=f"{101 << 20}\n",
        memory__stat=cache,
        cpuacct__usage="12500000000\n",
        cpu__cfs_quota_us="200000\n",
        cpu__cfs_period_us="100000\n",
        cgroup__procs="",
    )
    write(job / "step_batch", cgroup__procs=f"{own_pid}\n", memory__limit_in_bytes="9223372036854771712\n")
    return dict.fromkeys(("memory", "cpu", "cpuacct"), str(job))


@pytest.mark.parametrize("version", [1, 2])
def test_all_figures_of_a_job_are_read_from_files_in_the_kernels_layout(tmp_path: Path, version: int) -> None:
    directories = as_the_kernel_lays_it_out(tmp_path / "job_1", version=version, own_pid=os.getpid())
    source = host_usage.CgroupUsage(directories)
    usage = source.usage()
    assert source.name == f"cgroup v{version}"
    assert (usage.cpu_s, usage.cpu_limit_cores) == (12.5, min(2.0, len(os.sched_getaffinity(0))))
    memory = (usage.memory_bytes, usage.file_cache_bytes, usage.memory_peak_bytes, usage.memory_limit_bytes)
    assert [70, 30, 101, 200] == [value and value >> 20 for value in memory]
    assert source.headroom_bytes() == 130 << 20
    assert usage.processes == 1
    assert usage.written_bytes is not None


@pytest.mark.parametrize("missing", ["cpu.stat", "memory.current", "memory.stat"])
def test_a_cgroup_without_accounting_is_not_used(tmp_path: Path, missing: str) -> None:
    directories = as_the_kernel_lays_it_out(tmp_path / "job_1", version=2, own_pid=1)
    (tmp_path / "job_1" / missing).unlink()
    with pytest.raises(OSError, match=r"."):
        host_usage.CgroupUsage(directories)


IN_VERSION_2 = """
import os, sys, time
from evalmon_agent.agent.sampling import host_usage, sampler
mount, job = sys.argv[1:]
own = f"{mount}/x.scope/job_{job}/step_batch/user/task_0"
os.makedirs(own)
try:
    with open(f"{own}/cgroup.procs", "w") as file: file.write(str(os.getpid()))
    directories = host_usage.job_directories(job)
    found = directories[host_usage.UNIFIED]
    assert os.path.samefile(found, f"{mount}/x.scope/job_{job}"), found
    used_s = lambda: host_usage.cpu_used_s({host_usage.UNIFIED: found})
    before, end = used_s(), time.process_time() + 0.2
    while time.process_time() < end: pass
    assert 0.15 < used_s() - before < 5, (before, used_s())
    assert host_usage.pids_in(found) == [os.getpid()]
    name = sampler.open_host_source({"SLURM_JOB_ID": job}, root=os.getpid()).name
    has_memory = os.path.exists(f"{found}/memory.current")
    v1 = "memory" in directories
    assert name == ("cgroup v2" if has_memory and not v1 else "cgroup v1" if v1 else "processes"), name
    print("as it should be")
finally:
    with open(f"{mount}/cgroup.procs", "w") as file: file.write(str(os.getpid()))
    for directory in (own, *(own := os.path.dirname(own) for _ in range(4))): os.rmdir(directory)
"""


@needs_root
def test_job_cpu_time_and_processes_are_found_in_a_real_cgroup_of_version_2(tmp_path: Path) -> None:
    script = 'mount -t cgroup2 none "$1" || { echo cannot mount; exit 0; }; exec "$2" -c "$3" "$1" "$4"'
    words = ["sh", "-c", script, "sh", tmp_path, sys.executable, IN_VERSION_2, f"7{os.getpid()}"]
    done = subprocess.run(
        as_root.argv("unshare", "-m", *words), capture_output=True, text=True, timeout=30, check=False
    )
    if done.stdout == "cannot mount\n":
        pytest.skip("cgroup2 cannot be mounted here")
    assert (done.stdout, done.stderr) == ("as it should be\n", "")


def test_without_a_limit_there_is_no_headroom(tmp_path: Path) -> None:
    directories = version_2(tmp_path / "job_1", used_mib=100, cache_mib=30, limit="max")
    assert CgroupUsage(directories).headroom_bytes() is None
    assert why_leave(None) == ""


def test_a_removed_cgroup_raises_oserror(tmp_path: Path) -> None:
    source = CgroupUsage(version_2(tmp_path / "job_1", used_mib=100, cache_mib=30, limit="max"))
    shutil.rmtree(tmp_path / "job_1")
    with pytest.raises(OSError, match="memory"):
        source.usage()


def test_processes_of_all_steps_are_counted(tmp_path: Path) -> None:
    job = tmp_path / "job_1"
    for directory in (job, job / "step_batch"):
        write(directory, cgroup__procs="")
    write(job / "step_batch" / "task_0", cgroup__procs="11\n12\n")
    write(job / "step_0", cgroup__procs="13\n")
    assert sorted(pids_in(str(job))) == [11, 12, 13]


def test_added_and_removed_steps_are_seen_by_the_next_reading(tmp_path: Path) -> None:
    job = tmp_path / "job_1"
    write(job, cgroup__procs="1\n")
    write(job / "step_0", cgroup__procs="2\n")
    assert sorted(pids_in(str(job))) == [1, 2]
    write(job / "step_1" / "task_0", cgroup__procs="4\n5\n")
    write(job / "step_1", cgroup__procs="3\n")
    assert sorted(pids_in(str(job))) == [1, 2, 3, 4, 5]
    shutil.rmtree(job / "step_0")
    assert sorted(pids_in(str(job))) == [1, 3, 4, 5]
    shutil.rmtree(job)
    with pytest.raises(OSError, match="job_1"):
        pids_in(str(job))


def test_the_sampler_exits_when_less_than_64_mib_are_left() -> None:
    assert why_leave(KEEP_FREE_BYTES) == ""
    assert (
        why_leave(KEEP_FREE_BYTES - 1) == "the job has 63 MiB of memory left, less than 64: left the memory to the eval"
    )
    assert why_leave(-5).startswith("the job has 0 MiB")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max\n", None), ("9223372036854771712\n", None), ("104857600\n", 104857600), ("", None), ("-1", None)],
)
def test_an_unlimited_value_is_no_limit(text: str, expected: int | None) -> None:
    assert expected == limit_bytes(text)


@pytest.mark.parametrize(("text", "expected"), [("200000 100000\n", 2.0), ("max 100000", None), ("-1 100000", None)])
def test_the_quota_is_converted_to_cores(text: str, expected: float | None) -> None:
    assert expected == quota_cores(text)


def test_a_field_is_found_by_its_whole_name() -> None:
    text = "total_inactive_file 5\ninactive_file 7\nactive_file 2\n"
    assert [7, 9, None] == [field(text, "inactive_file"), field(text, "inactive_file", "active_file"), field(text, "x")]
