"""Tests other wordings of the same causes: the last line of a traceback, or a line of a program."""

from __future__ import annotations

import pytest

from evalmon_agent.evidence.diagnosis.diagnose import AttemptEnd, diagnose
from evalmon_agent.words.states import State

RAISED = [
    ("broken-installation", "ImportError: cannot import name 'AutoProcessor' from 'transformers' (/me/x/__init__.py)"),
    ("missing-module", "ImportError: Loading an AWQ quantized model requires auto-awq library (`pip install autoawq`)"),
    ("missing-module", "importlib.metadata.PackageNotFoundError: No package metadata was found for bitsandbytes"),
    ("missing-module", "ImportError: AutoModel requires the PyTorch library but it was not found in your environment."),
    (
        "token-out-of-vocabulary",
        "openai.BadRequestError: Error code: 400 - {'message': 'Token id 9 is out of vocabulary'}",
    ),
    ("cuda-out-of-memory", "RuntimeError: CUDA error: out of memory"),
    ("cuda-out-of-memory", "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to"),
    ("cuda-error", "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    ("cuda-mismatch", "RuntimeError: Error 803: system has unsupported display driver / cuda driver combination"),
    ("no-gpu", "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    ("no-gpu", "ValueError: libcuda.so cannot be found; Failed to infer device type"),
    ("nccl", "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined."),
    ("nccl", "RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)"),
    (
        "network",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='a.b'): Max retries exceeded with url: /",
    ),
    (
        "hub-offline",
        "requests.exceptions.ConnectionError: (MaxRetryError('HTTPSConnectionPool(host=\\'huggingface.co\\'",
    ),
    (
        "hub-authentication",
        "HfHubHTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/api/whoami-v2",
    ),
    ("model-not-found", "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1-6)"),
    ("model-not-found", "OSError: /scratch/ckpt does not appear to have a file named config.json."),
    ("model-not-found", "OSError: Error no file named pytorch_model.bin, model.safetensors found in directory /x."),
    ("model-not-found", "ValueError: Can't find 'adapter_config.json' at '/scratch/adapter'"),
    ("tokenizer", "OSError: Can't load tokenizer for '/scratch/ckpt'."),
    ("tokenizer", "Exception: data did not match any variant of untagged enum ModelWrapper at line 268080 column 3"),
    ("model-unsupported", "ValueError: Model architectures ['Qwen3NextForCausalLM'] are not supported for now."),
    ("engine-start", "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue."),
    ("killed", "RuntimeError: DataLoader worker (pid 1234) is killed by signal: Killed. "),
    ("killed", "subprocess.CalledProcessError: Command '['python', 'x.py']' died with <Signals.SIGKILL: 9>."),
    (
        "disk-full",
        "SafetensorError: Error while serializing: IoError(Os { code: 28, message: No space left on device })",
    ),
    ("missing-file", "datasets.exceptions.DataFilesNotFoundError: No (supported) data files found in /me/data"),
    ("api-authentication", "google.genai.errors.ClientError: 400 INVALID_ARGUMENT. {'reason': 'API_KEY_INVALID'}"),
    ("api-authentication", "openai.PermissionDeniedError: Error code: 403 - {'error': {'message': 'no access'}}"),
    ("api-authentication", "botocore.exceptions.NoCredentialsError: Unable to locate credentials"),
    ("api-rate-limit", "tenacity.RetryError: RetryError[<Future at 0x7f raised RateLimitError>]"),
    ("python-error", "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
]
PRINTED = [
    ("host-out-of-memory", "srun: error: nid005475: tasks 0-2: Out Of Memory"),
    ("missing-module", "ModuleNotFoundError: No module named 'vllm'"),
    ("cuda-out-of-memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
    ("unknown", "ValueError: nobody knows this one"),
    ("unknown", "ModuleNotFoundError: No module named 'vllm'\nusing transformers instead"),
    (
        "disk-quota",
        "tar: x/y: Cannot write: Disk quota exceeded\ntar: Exiting with failure status due to previous errors",
    ),
    (
        "permission-denied",
        "slurmstepd: error: execve(): /me/run.sh: Permission denied\nsrun: error: n1: task 0: Exited",
    ),
    ("permission-denied", "mkdir: cannot create directory '/scratch/you': Permission denied"),
    ("missing-file", "cat: data/x.txt: No such file or directory"),
    ("environment-not-found", "cell.slurm: line 3: /sw/conda/etc/profile.d/conda.sh: No such file or directory"),
    ("wrong-arguments", "lm_eval run: error: argument --batch_size: invalid int value: 'big'"),
    ("wrong-arguments", "vllm serve: error: unrecognized arguments: --foo"),
    ("script-syntax", "bash: -c: line 1: syntax error: unexpected end of file"),
    ("segmentation-fault", "[n1:12345] *** Process received signal ***\n[n1:12345] Signal: Segmentation fault (11)"),
    (
        "port-in-use",
        "ERROR:    [Errno 98] error while attempting to bind on address ('::', 80): address already in use",
    ),
    ("unknown", "assert failed somewhere\nfailed: 3 of 12 checks"),
    ("unknown", "Exception in sample 3: TimeoutError\n2 samples had errors"),
    ("unknown", "bash: warning: setlocale: LC_ALL: cannot change locale (en_US.UTF-8)"),
    ("unknown", "slurmstepd: error: _get_pss: ferror() indicates error on file /proc/1/smaps"),
    ("unknown", "Grader said: ModuleNotFoundError: No module named 'numpy'"),
    (
        "unknown",
        'tool:\n    Traceback (most recent call last):\n      File "/a.py", line 1, in <module>\n    NameError: x',
    ),
]


@pytest.mark.parametrize(("expected", "exception"), RAISED)
def test_an_exception_is_recognised(expected: str, exception: str) -> None:
    text = f'Traceback (most recent call last):\n  File "/me/x/y.py", line 12, in go\n    do()\n{exception}\n'
    assert cause_of(text) == expected


@pytest.mark.parametrize(("expected", "text"), PRINTED)
def test_a_line_is_recognised(expected: str, text: str) -> None:
    assert cause_of(f"starting\n{text}\n") == expected


def cause_of(output: str) -> str:
    diagnosis = diagnose(AttemptEnd(state=State.FAILED, exit_code=1, output=output))
    assert diagnosis is not None
    return diagnosis.cause
