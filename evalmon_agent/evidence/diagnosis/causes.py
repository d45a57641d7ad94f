"""Lists the causes of failures: each slug with what happened and what to do about it; and the record of a diagnosis.

`{name}` stands for the text that the rule's pattern captured under that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from msgspec import Struct

from evalmon_agent.words.states import State

UNKNOWN = "unknown"
_BETWEEN_LINES = " ⏎ "


class LiesIn(Enum):
    """Where a cause lies, which says whether another node or another try can help."""

    ANYWHERE = "anywhere"
    EVAL = "eval"
    """In the script, the model or what was requested, whichever node it runs on."""
    EVAL_FOR_GOOD = "eval, for good"
    """The same, and it returns until somebody changes something."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Words for people; the slug is what programs go by and never changes."""

    phrase: str
    """What happened, to be read after the eval's name."""
    advice: str
    lies_in: LiesIn = LiesIn.ANYWHERE


class Diagnosis(Struct, frozen=True):
    """Why an attempt failed. `cause` is a stable slug, whose words are in `CAUSES`.

    `evidence` is the line that shows the cause; of an unknown cause, the last lines of what the job printed.
    """

    cause: str
    evidence: str | None
    advice: str | None


REFUSED = "refused-by-slurm"
"""The cause of an eval that never became a job."""

CAUSES: dict[str, Cause] = {
    # What Slurm decides.
    "time-limit": Cause("reached the time limit", "Increase the eval's --time (evalmon retry does)", LiesIn.EVAL),
    "host-out-of-memory": Cause(
        "ran out of memory",
        "Increase the eval's --mem (evalmon retry does), or load and keep less at once",
        LiesIn.EVAL,
    ),
    "bystander-out-of-memory": Cause(
        "succeeded, but another process of its job ran out of memory",
        "The result can be used; increase --mem if the killed process matters",
        LiesIn.EVAL,
    ),
    "cancelled": Cause("was cancelled", "Submit it again if that was not intended", LiesIn.EVAL),
    "node-failure": Cause(
        "ended when the node failed", "Submit it again; tell the cluster's support if it happens on one node"
    ),
    "preempted": Cause(
        "was preempted by a job of higher priority", "Submit it again, or use another partition or QOS", LiesIn.EVAL
    ),
    "deadline": Cause("reached the deadline", "Submit it again with a later --deadline", LiesIn.EVAL),
    "revoked": Cause(
        "ran on another cluster of the federation", "See the sibling job on the other cluster", LiesIn.EVAL
    ),
    "lost": Cause("disappeared from Slurm", "Look at the eval's own log; submit it again if it has none"),
    "output-directory-missing": Cause(
        "could not open the output file",
        "Create the directory before you submit (Slurm before 23.02 does not), or change --output and --error",
    ),
    REFUSED: Cause(
        "was refused by Slurm",
        "Change what Slurm names in its script, then submit it again (evalmon submit), or drop it (evalmon drop)",
        LiesIn.EVAL,
    ),
    # GPU.
    "cuda-out-of-memory": Cause(
        "ran out of GPU memory",
        "Use a smaller batch, a shorter context or fewer parallel samples, more GPUs, or a GPU with more memory",
        LiesIn.EVAL,
    ),
    "gpu-lost": Cause(
        "lost the GPU", "Submit it again on another node (--exclude), and tell the cluster's support about this one"
    ),
    "cuda-mismatch": Cause(
        "found that CUDA, driver and GPU do not fit together",
        "Install a build for this node's driver and GPU (compare `nvidia-smi`), or load another CUDA module",
    ),
    "no-gpu": Cause("found no GPU", "Request one (--gres=gpu:1), and use a build with CUDA"),
    "gpu-busy": Cause(
        "found the GPU in use by another process", "Submit it again; tell the cluster's support if it happens again"
    ),
    "cuda-error": Cause(
        "got an error from the GPU",
        "Run it again with CUDA_LAUNCH_BLOCKING=1 to see where; if it happens on one node only, suspect the hardware",
    ),
    "nccl": Cause(
        "failed in communication between GPUs",
        "Find out which rank failed first; run it again with NCCL_DEBUG=INFO to see why",
    ),
    "kv-cache-memory": Cause(
        "had no GPU memory left for vLLM's KV cache",
        "Lower max_model_len, raise gpu_memory_utilization, or use more GPUs (tensor_parallel_size)",
        LiesIn.EVAL,
    ),
    "engine-start": Cause("could not start the inference engine", "Look for the first error above it in the output"),
    # Disk and system.
    "disk-quota": Cause(
        "used up the disk quota", "Delete files, or send caches elsewhere (HF_HOME, TMPDIR)", LiesIn.EVAL
    ),
    "disk-full": Cause("ran out of disk space", "Free space, or send caches and logs elsewhere (HF_HOME, TMPDIR)"),
    "shared-memory": Cause("ran out of shared memory (/dev/shm)", "Use fewer workers, or increase --mem"),
    "open-files": Cause("opened too many files", "Raise `ulimit -n` in the script, or use fewer workers"),
    "permission-denied": Cause("lacked a permission", "Check the permissions of the file that the error names"),
    "missing-file": Cause("did not find a file", "Check the path: is it there, and readable on the node?"),
    "port-in-use": Cause(
        "found a network port in use", "Let the server choose a free port; two jobs may share the node"
    ),
    "network": Cause(
        "could not reach a server",
        "Compute nodes often have no internet: download beforehand, or set the proxy in the script",
    ),
    # Models and data.
    "hub-gated": Cause(
        "had no access to a gated model or data set",
        "Accept its terms on its page and give the job a token that may read it (HF_TOKEN or `hf auth login`)",
        LiesIn.EVAL_FOR_GOOD,
    ),
    "hub-authentication": Cause(
        "had no valid Hugging Face token", "Give the job a valid token (HF_TOKEN)", LiesIn.EVAL_FOR_GOOD
    ),
    "hub-offline": Cause(
        "could not download a model or data set that is not in the cache",
        "Download it on the login node into the HF_HOME that the job uses, then run with HF_HUB_OFFLINE=1",
    ),
    "model-not-found": Cause(
        "did not find the model or checkpoint",
        "Check its name or path, and that training wrote it",
        LiesIn.EVAL_FOR_GOOD,
    ),
    "checkpoint-damaged": Cause(
        "found a damaged checkpoint file",
        "Check its size; copy or download it again, or save it anew",
        LiesIn.EVAL,  # it may still be on its way
    ),
    "checkpoint-mismatch": Cause(
        "found a checkpoint that does not fit the model",
        "Check that base model, adapter and vocabulary belong together",
        LiesIn.EVAL_FOR_GOOD,
    ),
    "token-out-of-vocabulary": Cause(
        "used a token id beyond the model's vocabulary",
        "Check that tokenizer and model belong together (added tokens need resize_token_embeddings), and that no input "
        "is longer than the model takes",
        LiesIn.EVAL_FOR_GOOD,
    ),
    "model-unsupported": Cause(
        "could not load a model of unknown architecture",
        "Upgrade transformers or vLLM in the eval's environment",
        LiesIn.EVAL_FOR_GOOD,
    ),
    "trust-remote-code": Cause(
        "did not run the code that comes with the model or data set",
        "Read that code, then pass trust_remote_code=True if you trust it",
        LiesIn.EVAL_FOR_GOOD,
    ),
    "tokenizer": Cause(
        "could not use the tokenizer",
        "Check that its files are beside the model, and what it needs",
        LiesIn.EVAL_FOR_GOOD,
    ),
    # APIs.
    "api-authentication": Cause("had no valid API key", "Set the provider's key in the job", LiesIn.EVAL_FOR_GOOD),
    "api-quota": Cause("had no credit left at the API", "Check the account's plan and billing", LiesIn.EVAL),
    "api-rate-limit": Cause(
        "hit the API's rate limit", "Lower --max-connections, or run fewer evals at once", LiesIn.EVAL
    ),
    "api-unavailable": Cause(
        "found the API unavailable", "Run it again later; inspect eval-retry keeps finished samples"
    ),
    # Environment and script.
    "environment-not-found": Cause(
        "could not activate the environment (conda, venv, module)",
        "Check the activation lines of the script: do they work on a compute node in a fresh shell?",
    ),
    "missing-module": Cause(
        "did not find a Python package",
        "Install {module} in the eval's environment, or activate the right one",
        LiesIn.EVAL_FOR_GOOD,
    ),
    "broken-installation": Cause(
        "could not load an installed package", "Its version does not fit another one, or the system: reinstall it"
    ),
    "command-not-found": Cause("did not find a command", "Check PATH: is the environment activated?"),
    "script-syntax": Cause(
        "stopped at a syntax error in a script", "Fix the line that the error names", LiesIn.EVAL_FOR_GOOD
    ),
    "unset-variable": Cause("used an unset variable of the script", "Set it before it is used", LiesIn.EVAL_FOR_GOOD),
    "wrong-arguments": Cause("passed wrong arguments to a command", "Compare with its --help", LiesIn.EVAL_FOR_GOOD),
    "task-not-found": Cause(
        "did not find the task", "Check its name and file, and where the script runs", LiesIn.EVAL_FOR_GOOD
    ),
    # The process.
    "segmentation-fault": Cause(
        "crashed (segmentation fault)", "A compiled package failed: run with PYTHONFAULTHANDLER=1 to see which"
    ),
    "illegal-instruction": Cause(
        "ran a program that was built for another CPU",
        "Reinstall it on a node of this kind, or choose nodes by --constraint",
    ),
    "bus-error": Cause("crashed (bus error)", "Often /dev/shm or a memory-mapped file: look at disk and --mem"),
    "aborted": Cause("aborted", "Look at the lines above"),
    "killed": Cause("was killed", "Often for memory: compare the memory used with --mem"),
    "terminated": Cause("was ended by a signal", "See who sent it: the script, a wrapper, or an administrator"),
    "python-error": Cause("raised a Python exception", "See the line of your code that the error names"),
    # The eval's own word.
    "eval-error": Cause("ended in an error", "Read its log for the full error"),
    "eval-cancelled": Cause("was cancelled from inside the job", "Run it again, or inspect eval-retry", LiesIn.EVAL),
    "eval-unfinished": Cause("left an unfinished log", "Its process died: look at the job's output"),
    "unfinished-samples": Cause(
        "did not complete all samples",
        "Look at the errors of the samples in its log; inspect eval-retry runs the rest",
        LiesIn.EVAL,
    ),
    "no-eval-log": Cause("left no log", "Look at the job's output: did it run at all, and where does it log?"),
    "log-unreadable": Cause("left an unreadable log", "Open it with the eval's own tools"),
    "unknown": Cause("failed for an unknown reason", "Read the job's output"),
}

CAUSE_BY_STATE = {
    State.TIMEOUT: "time-limit",
    State.OUT_OF_MEMORY: "host-out-of-memory",
    State.CANCELLED: "cancelled",
    State.NODE_FAIL: "node-failure",
    State.BOOT_FAIL: "node-failure",
    State.PREEMPTED: "preempted",
    State.DEADLINE: "deadline",
    State.REVOKED: "revoked",
    State.LOST: "lost",
}
"""The causes that Slurm's state alone decides."""


def returns_for_good(slug: str) -> bool:
    """Whether an eval fails for this cause again and again, until somebody changes something."""
    return slug in CAUSES and CAUSES[slug].lies_in is LiesIn.EVAL_FOR_GOOD


def phrase(slug: str) -> str:
    """What happened, to be read after the eval's name; the slug itself of a cause that only another version knows."""
    return CAUSES[slug].phrase if slug in CAUSES else slug


def plural(words: str) -> str:
    """A phrase as it is read after a number of evals."""
    verb, space, rest = words.partition(" ")
    return _PLURALS.get(verb, verb) + space + rest


_PLURALS = {"was": "were", "waits:": "wait:", "runs": "run"}


def one_line(evidence: str) -> str:
    """Several last lines as one."""
    return evidence.replace("\n", _BETWEEN_LINES)
