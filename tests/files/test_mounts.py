"""Tests which lock is chosen for a file system, from real lines of mountinfo."""

from __future__ import annotations

import pytest

from evalmon_agent.files.proc import is_exported, lock_kind, mount_of, parse_mountinfo, same_flock

SOUND = {
    "ext4": "27 1 254:0 / /data rw,relatime - ext4 /dev/vda rw,discard",
    "xfs": "27 1 254:0 / /data rw,relatime - xfs /dev/sda1 rw,attr2,inode64,noquota",
    "tmpfs": "25 24 0:23 / /data rw,nosuid - tmpfs tmpfs rw,size=24684084k",
    "overlay": "1 0 0:1 / /data rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c",
    "nfs3": "41 27 0:38 / /data rw,relatime shared:1 - nfs nas:/vol rw,vers=3,local_lock=none,addr=10.0.0.1",
    "nfs4": "41 27 0:38 / /data rw,relatime - nfs4 nas:/vol rw,vers=4.2,sec=sys,local_lock=none",
    "nfs with POSIX locks of the node": "41 27 0:38 / /data rw - nfs nas:/vol rw,vers=3,local_lock=posix",
    "lustre with flock": "50 27 0:44 / /data rw,flock - lustre mgs@o2ib:/scratch rw,flock,user_xattr,lazystatfs",
    "cephfs": "60 27 0:50 / /data rw,relatime - ceph 10.0.0.1:6789:/ rw,name=admin,secret=<hidden>,acl",
}
NOT_SOUND = {
    "lustre": "50 27 0:44 / /data rw,relatime - lustre mgs@o2ib:/scratch rw,user_xattr,lazystatfs",
    "lustre localflock": "50 27 0:44 / /data rw,localflock - lustre mgs@o2ib:/scratch rw,localflock",
    "lustre noflock": "50 27 0:44 / /data rw - lustre mgs@o2ib:/scratch rw,noflock",
    "gpfs": "55 27 0:48 / /data rw,relatime - gpfs gpfs0 rw",
    "beegfs": "56 27 0:49 / /data rw,relatime - beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/beegfs-client.conf",
    "nfs with locks of the node": "41 27 0:38 / /data rw - nfs nas:/vol rw,vers=3,local_lock=all,addr=10.0.0.1",
    "nfs with flock of the node": "41 27 0:38 / /data rw - nfs nas:/vol rw,vers=3,local_lock=flock",
    "nfs without locks": "41 27 0:38 / /data rw - nfs nas:/vol rw,vers=3,nolock",
    "9p": "41 27 0:38 / /data rw - 9p host rw,trans=virtio",
    "sshfs": "41 27 0:38 / /data rw - fuse.sshfs me@there:/ rw,user_id=1000",
    "cifs": "41 27 0:38 / /data rw - cifs //nas/share rw,vers=3.0",
    "one that nobody knows": "41 27 0:38 / /data rw - wonderfs w rw",
}


pytestmark = pytest.mark.survives("F5")


@pytest.mark.parametrize("line", SOUND.values(), ids=SOUND)
def test_flock_is_chosen_where_it_excludes_other_nodes(line: str) -> None:
    assert lock_kind(mount_of("/data/study", parse_mountinfo(line)))[0] == "flock"


@pytest.mark.parametrize("line", NOT_SOUND.values(), ids=NOT_SOUND)
def test_a_marker_file_is_chosen_where_flock_may_not_exclude_other_nodes(line: str) -> None:
    assert lock_kind(mount_of("/data/study", parse_mountinfo(line)))[0] == "soft"


def test_an_unknown_mount_gets_a_marker_file() -> None:
    assert lock_kind(mount_of("/data", []))[0] == "soft"


def test_the_reason_names_the_deciding_option_or_type() -> None:
    def why(line: str) -> str:
        return lock_kind(mount_of("/data", parse_mountinfo(line)))[1]

    assert why(NOT_SOUND["lustre localflock"]).startswith("lustre mounted with localflock")
    assert why(NOT_SOUND["nfs with locks of the node"]).startswith("nfs mounted with local_lock=all")
    assert why(NOT_SOUND["lustre"]).startswith("lustre mounted without the option flock")
    assert why(NOT_SOUND["gpfs"]) == "gpfs is not known to carry flock across nodes"
    assert why(SOUND["nfs4"]) == "nfs4 carries flock across nodes"
    assert why(SOUND["ext4"]).startswith("ext4 is of one machine")
    assert lock_kind(None)[1] == "it is unknown how it is mounted"


@pytest.mark.parametrize(
    ("recorded", "here", "same"),
    [
        ("ext4", "ext4", True),
        ("ext4", "tmpfs", True),
        ("nfs", "nfs4", True),
        (None, "nfs4", True),
        ("wonderfs", "ext4", True),
        ("ext4", "nfs4", False),  # chosen on the NFS server itself
        ("nfs4", "xfs", False),
        ("nfs4", "gpfs", False),
        ("ext4", "sshfs", False),
    ],
)
def test_flock_is_shared_on_one_machine_or_across_nodes_but_not_between_both(
    recorded: str | None, here: str, same: bool
) -> None:
    line = {**SOUND, **NOT_SOUND}[here]
    assert same_flock(recorded, mount_of("/data", parse_mountinfo(line))) == same
    assert not same_flock(recorded, None)


def test_is_exported_reads_the_table_of_an_nfs_server() -> None:
    table = "/home\t10.0.0.0/24(rw,sync)\n/srv/with\\040space *(ro)\n# /data *(rw)\n\n"
    assert is_exported("/home", table)
    assert is_exported("/home/me/study", table)
    assert is_exported("/srv/with space/x", table)
    assert not is_exported("/homework", table)
    assert not is_exported("/data", table)
    assert is_exported("/data", "/ *(rw)\n")


MOUNTS = """\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 8:2 / /home rw - autofs auto.home rw
3 2 0:1 / /home/me rw shared:7 master:3 - nfs4 nas:/home/me rw
4 1 0:2 / /scratch rw - lustre a rw,flock
5 1 0:3 / /scratch rw - lustre b rw
6 1 0:4 / /with\\040space\\134x rw - gpfs g rw
garbage
7 1
8 1 0:5 / /homework rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "fstype", "point"),
    [
        ("/", "ext4", "/"),
        ("/etc", "ext4", "/"),
        ("/home/you", "autofs", "/home"),
        ("/home/me", "nfs4", "/home/me"),
        ("/home/me/study", "nfs4", "/home/me"),
        ("/home/mean", "autofs", "/home"),
        ("/homework/x", "xfs", "/homework"),
        ("/with space\\x/study", "gpfs", "/with space\\x"),
    ],
)
def test_mount_of_returns_the_longest_matching_mount_point(path: str, fstype: str, point: str) -> None:
    found = mount_of(path, parse_mountinfo(MOUNTS))
    assert found is not None
    assert (found.fstype, found.point) == (fstype, point)


def test_the_later_of_two_mounts_at_one_point_counts() -> None:
    found = mount_of("/scratch/x", parse_mountinfo(MOUNTS))
    assert found is not None
    assert "flock" not in found.options


def test_this_machines_mounts_can_be_parsed() -> None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = parse_mountinfo(file.read())
    found = mount_of("/proc", mounts)
    assert found is not None
    assert found.fstype == "proc"
