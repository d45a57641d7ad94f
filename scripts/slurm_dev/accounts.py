"""Creates accounts, a QOS with a limit, and users who may submit."""

import os
import pwd
import re
from collections.abc import Sequence
from contextlib import suppress

from . import configs, daemons
from .errors import SlurmDevError
from .instance import Instance

# The user that scripts/test creates.
TEST_USERS = ("evalmon-test", "evalmon-other")
# How sacctmgr says, with exit status 1, that there is nothing to do, in 22.05 and 26.05.
_NOTHING_TO_DO = re.compile(r"Nothing (?:new )?added|Already existing")


def prepare(instance: Instance) -> None:
    """Make the accounts and the QOS, and let the likely users use them; slurmdbd runs.

    Raises:
        SlurmDevError: sacctmgr refused.
    """
    for account in configs.ACCOUNTS:
        _add(instance, "account", account, "Description=-", "Organization=-")
    _add(instance, "qos", configs.QOS_WITH_LIMIT, f"MaxSubmitJobsPerUser={configs.MAX_JOBS_OF_QOS}")
    add_users(instance, likely_users())


def add_users(instance: Instance, names: Sequence[str]) -> None:
    """Give users the accounts and QOS of the instance.

    Raises:
        SlurmDevError: sacctmgr refused, or there is no such user on this machine.
    """
    for name in names:
        with suppress(KeyError):
            pwd.getpwnam(name)
            continue
        raise SlurmDevError(f"{name}: no such user on this machine")
    _add(
        instance,
        "user",
        ",".join(names),
        f"account={','.join(configs.ACCOUNTS)}",
        f"DefaultAccount={configs.ACCOUNTS[0]}",
        f"qos=normal,{configs.QOS_WITH_LIMIT}",
    )


def likely_users() -> list[str]:
    """Root, the caller of sudo, and the tests' users that exist on this machine."""
    uids = {0, int(os.environ.get("SUDO_UID", "0"))}
    for name in TEST_USERS:
        with suppress(KeyError):
            uids.add(pwd.getpwnam(name).pw_uid)
    return [pwd.getpwuid(uid).pw_name for uid in sorted(uids)]


def _add(instance: Instance, *words: str) -> None:
    done = daemons.run(instance, "sacctmgr", "-i", "add", *words)
    message = done.stdout + done.stderr
    if done.returncode != 0 and not _NOTHING_TO_DO.search(message):
        raise SlurmDevError(f"sacctmgr add {' '.join(words)}: {message.strip()}")
