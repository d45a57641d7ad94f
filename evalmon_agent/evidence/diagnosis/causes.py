"""Lists the causes of failures: each slug with its meaning and what to do about it. Data.

`{name}` stands for the text that the rule's pattern captured under that name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

Wordings: TypeAlias = tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
"""Causes with their patterns of exceptions and of lines, root causes first (`*_wordings.py`)."""


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

    meaning: str
    advice: str
    lies_in: LiesIn = LiesIn.ANYWHERE


CAUSES: dict[str, Cause] = {
    # What Slurm decides.
    "time-limit": Cause("the time limit was reached", "Increase the eval's --time", lies_in=LiesIn.EVAL),
    "host-out-of-memory": Cause(
        "the job's memory (not the GPU's) was not enough",
        "Increase the eval's --mem, or load and keep less at once",
        lies_in=LiesIn.EVAL,
    ),
    "bystander-out-of-memory": Cause(
        "a process beside the eval ran out of memory; the eval itself ended well",
        "The result can be used; increase --mem if the killed process matters",
        lies_in=LiesIn.EVAL,
    ),
    "cancelled": Cause("it was cancelled", "Submit it again if that was not meant", lies_in=LiesIn.EVAL),
    "node-failure": Cause("its node failed", "Submit it again; tell the cluster's support if it happens on one node"),
    "preempted": Cause(
        "it was preempted by a job of higher priority",
        "Submit it again, or use another partition or QOS",
        lies_in=LiesIn.EVAL,
    ),
    "deadline": Cause("its deadline passed", "Submit it again with a later --deadline", lies_in=LiesIn.EVAL),
    "revoked": Cause("another cluster of the federation ran it", "Look at the sibling job", lies_in=LiesIn.EVAL),
    "lost": Cause("Slurm no longer knows the job", "Look at the eval's own log; submit it again if it has none"),
    "output-directory-missing": Cause(
        "the directory of its output does not exist or cannot be written to",
        "Create the directory before you submit (Slurm before 23.02 does not), or change --output and --error",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    # GPU.
    "cuda-out-of-memory": Cause(
        "the GPU's memory was not enough",
        "Use a smaller batch, a shorter context or fewer parallel samples, more GPUs, or a GPU with more memory",
        lies_in=LiesIn.EVAL,
    ),
    "gpu-lost": Cause(
        "the GPU failed", "Submit it again on another node (--exclude), and tell the cluster's support about this one"
    ),
    "cuda-mismatch": Cause(
        "CUDA, driver and GPU do not fit together",
        "Install a build for this node's driver and GPU (compare `nvidia-smi`), or load another CUDA module",
    ),
    "no-gpu": Cause("no GPU was found", "Ask for one (--gres=gpu:1), and use a build with CUDA"),
    "gpu-busy": Cause(
        "the GPU is in use by another process", "Submit it again; tell the cluster's support if it stays"
    ),
    "cuda-error": Cause(
        "the GPU reported an error",
        "Run again with CUDA_LAUNCH_BLOCKING=1 to see where; on one node only it may be the hardware",
    ),
    "nccl": Cause(
        "the GPUs could not talk to each other",
        "Look which rank failed first; run again with NCCL_DEBUG=INFO to see why",
    ),
    "kv-cache-memory": Cause(
        "no GPU memory was left for vLLM's KV cache",
        "Lower max_model_len, raise gpu_memory_utilization, or use more GPUs (tensor_parallel_size)",
        lies_in=LiesIn.EVAL,
    ),
    "engine-start": Cause("the inference engine did not start", "Look for the first error above it in the output"),
    # Disk and system.
    "disk-quota": Cause(
        "the disk quota is used up", "Delete files, or send caches elsewhere (HF_HOME, TMPDIR)", lies_in=LiesIn.EVAL
    ),
    "disk-full": Cause("the disk is full", "Free space, or send caches and logs elsewhere (HF_HOME, TMPDIR)"),
    "shared-memory": Cause("the shared memory (/dev/shm) was not enough", "Use fewer workers, or ask for more --mem"),
    "open-files": Cause("too many files were open", "Raise `ulimit -n` in the script, or use fewer workers"),
    "permission-denied": Cause("something may not be read, written or run", "Check the permissions of what is named"),
    "missing-file": Cause("a file was not found", "Check the path: is it there, and readable on the node?"),
    "port-in-use": Cause("a network port was in use", "Let the server choose a free port; two jobs may share the node"),
    "network": Cause(
        "a server could not be reached",
        "Compute nodes often have no internet: download before, or set the proxy in the script",
    ),
    # Models and data.
    "hub-gated": Cause(
        "the model or data set is gated",
        "Accept its terms on its page and give the job a token that may read it (HF_TOKEN or `hf auth login`)",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    "hub-authentication": Cause(
        "Hugging Face refused the token", "Give the job a valid token (HF_TOKEN)", lies_in=LiesIn.EVAL_FOR_GOOD
    ),
    "hub-offline": Cause(
        "a model or data set was neither in the cache nor could it be downloaded",
        "Download it on the login node into the HF_HOME that the job uses, then run with HF_HUB_OFFLINE=1",
    ),
    "model-not-found": Cause(
        "the model or checkpoint was not found",
        "Check its name or path, and that training wrote it",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    "checkpoint-damaged": Cause(
        "a checkpoint file is damaged or not whole",
        "Check its size; copy or download it again, or save it anew",
        lies_in=LiesIn.EVAL,  # it may still be on its way
    ),
    "checkpoint-mismatch": Cause(
        "the checkpoint does not fit the model",
        "Check that base model, adapter and vocabulary belong together",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    "token-out-of-vocabulary": Cause(
        "a token id lies beyond the model's vocabulary",
        "Check that tokenizer and model belong together (added tokens need resize_token_embeddings), and that no input "
        "is longer than the model takes",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    "model-unsupported": Cause(
        "this version does not know the model's architecture",
        "Upgrade transformers or vLLM in the eval's environment",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    "trust-remote-code": Cause(
        "the model or data set brings code of its own",
        "Read that code, then pass trust_remote_code=True if you trust it",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    "tokenizer": Cause(
        "the tokenizer could not be used",
        "Check that its files are beside the model, and what it needs",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    # APIs.
    "api-authentication": Cause(
        "the API refused the key, or there is none", "Set the provider's key in the job", lies_in=LiesIn.EVAL_FOR_GOOD
    ),
    "api-quota": Cause(
        "the API account has no credit left", "Check the account's plan and billing", lies_in=LiesIn.EVAL
    ),
    "api-rate-limit": Cause(
        "the API's rate limit was hit", "Lower --max-connections, or run fewer evals at once", lies_in=LiesIn.EVAL
    ),
    "api-unavailable": Cause("the API was not available", "Run it again later; inspect eval-retry keeps what is done"),
    # Environment and script.
    "environment-not-found": Cause(
        "the environment (conda, venv, module) was not found or not activated",
        "Check the activation lines of the script: do they work on a compute node in a fresh shell?",
    ),
    "missing-module": Cause(
        "a Python package is missing",
        "Install {module} in the eval's environment, or activate the right one",
        lies_in=LiesIn.EVAL_FOR_GOOD,
    ),
    "broken-installation": Cause(
        "an installed package cannot be loaded",
        "Its version does not fit another one, or the system: reinstall it",
    ),
    "command-not-found": Cause("a command was not found", "Check PATH: is the environment activated?"),
    "script-syntax": Cause("a script is not valid", "Mend the line that is named", lies_in=LiesIn.EVAL_FOR_GOOD),
    "unset-variable": Cause(
        "a variable of the script is not set", "Set it before it is used", lies_in=LiesIn.EVAL_FOR_GOOD
    ),
    "wrong-arguments": Cause(
        "a command got arguments that it does not take", "Compare with its --help", lies_in=LiesIn.EVAL_FOR_GOOD
    ),
    "task-not-found": Cause(
        "the task was not found", "Check its name and file, and where the script runs", lies_in=LiesIn.EVAL_FOR_GOOD
    ),
    # The process.
    "segmentation-fault": Cause(
        "a process crashed (segmentation fault)",
        "A compiled package failed: run with PYTHONFAULTHANDLER=1 to see which",
    ),
    "illegal-instruction": Cause(
        "a program was built for another CPU", "Reinstall it on a node of this kind, or choose nodes by --constraint"
    ),
    "bus-error": Cause(
        "a process crashed (bus error)", "Often /dev/shm or a memory-mapped file: look at disk and --mem"
    ),
    "aborted": Cause("a process aborted itself", "Look at the lines above"),
    "killed": Cause("a process was killed", "Often for memory: compare the memory used with --mem"),
    "terminated": Cause(
        "the command was ended by a signal", "See who sent it: the script, a wrapper, or an administrator"
    ),
    "python-error": Cause("a Python exception", "Look at the place that is named", lies_in=LiesIn.EVAL),
    # The eval's own word.
    "eval-error": Cause("the eval ended in an error", "Look at its log", lies_in=LiesIn.EVAL),
    "eval-cancelled": Cause(
        "the eval was cancelled from inside the job", "Run it again, or inspect eval-retry", lies_in=LiesIn.EVAL
    ),
    "eval-unfinished": Cause("the eval's log ends in the middle", "Its process died: look at the job's output"),
    "unfinished-samples": Cause(
        "not all samples were completed",
        "Look at the errors of the samples in its log; inspect eval-retry does the rest",
        lies_in=LiesIn.EVAL,
    ),
    "no-eval-log": Cause("the eval left no log", "Look at the job's output: did it run at all, and where does it log?"),
    "log-unreadable": Cause("the eval's log cannot be read", "Open it with the eval's own tools"),
    "unknown": Cause("the cause is not known", "Read the job's output"),
}


def returns_for_good(slug: str) -> bool:
    """Whether an eval fails for this cause again and again, until somebody changes something."""
    return slug in CAUSES and CAUSES[slug].lies_in is LiesIn.EVAL_FOR_GOOD


def meaning(slug: str) -> str:
    """The words of a cause; the slug itself of one that only another version knows."""
    return CAUSES[slug].meaning if slug in CAUSES else slug
