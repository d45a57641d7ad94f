"""Lists the messages of failing models, APIs, environments, scripts and processes. Data for `diagnose`.

Each entry: the cause, the patterns of exceptions (looked for in `Type: message`), the patterns of lines (from their
beginning). Root causes come before their consequences.
"""

from __future__ import annotations

from evalmon_agent.evidence.diagnosis.causes import Wordings
from evalmon_agent.evidence.diagnosis.output import ARGPARSE, SHELL, SLURM, STEPD, TOOL

PROGRAMS: Wordings = (
    (
        "hub-gated",
        (
            r"You are trying to access a gated repo",
            r"GatedRepoError",
            r"is a gated dataset on the Hub",
            r"Cannot access gated repo for url",
        ),
        (r"Access to model \S+ is restricted", r"Cannot access gated repo for url"),
    ),
    (
        "hub-authentication",
        (
            r"Invalid user token",
            r"Invalid credentials in Authorization header",
            r"LocalTokenNotFoundError",
            r"401 Client Error: Unauthorized for url: https://huggingface\.co/api/whoami",
        ),
        (),
    ),
    (
        "checkpoint-damaged",
        (
            r"Error while deserializing header",
            r"PytorchStreamReader failed",
            r"failed finding central directory",
            r"Consistency check failed: file should be of size",
            r"Unable to load weights from (?:pytorch checkpoint|PyTorch|safetensors) file",
        ),
        (),
    ),
    (
        "checkpoint-mismatch",
        (
            r"Error\(s\) in loading state_dict for",
            r"size mismatch for \S+: copying a param",
            r"does not match the base model",
        ),
        (),
    ),
    (
        "model-unsupported",
        (
            r"Transformers does not recognize this architecture",
            r"Model architectures \[.*\] (?:are not supported|failed to be inspected)",
            r"Unrecognized configuration class",
        ),
        (),
    ),
    (
        "trust-remote-code",
        (
            r"contains custom code which must be executed to correctly load",
            r"(?:requires|Please pass the argument|set the option) `?trust_remote_code=True`?",
            r"Loading \S+ requires you to execute the (?:configuration|dataset script|modeling) ",
        ),
        (),
    ),
    (
        "model-not-found",
        (
            r"RepositoryNotFoundError",
            r"RevisionNotFoundError",
            r"is not a local folder and is not a valid model identifier",
            r"Repo id must be in the form",
            r"Incorrect path_or_model_id",
            r"Unrecognized model in \S+\. Should have a `model_type` key",
            r"does not appear to have a file named",
            r"Error no file named \S+",
            r"Can't find '?adapter_config\.json'? at",
            r"Invalid repository ID or local directory specified",
            r"Cannot find any model weights with",
            r"Model API \S+ of model \S+ not recognized",
            r"(?:NotFoundError|Error code: 404).*(?:model_not_found|model: |does not exist or you do not have access)",
            r"^(?:FileNotFound|NotADirectory|OS)Error: .*(?:checkpoint|adapter|safetensors|pytorch_model|\bepoch_\d)",
        ),
        (),
    ),
    (
        "tokenizer",
        (
            r"Couldn't instantiate the backend tokenizer",
            r"Can't load tokenizer for",
            r"tokenizer\.chat_template is not set",
            r"data did not match any variant of untagged enum ModelWrapper",
            r"Tokenizer class \S+ does not exist or is not currently imported",
        ),
        (),
    ),
    (
        "api-quota",
        (r"insufficient_quota", r"exceeded your current quota", r"credit balance is too low", r"Error code: 402\b"),
        (),
    ),
    (
        "api-authentication",
        (
            r"^(?:\w+\.)*(?:AuthenticationError|PermissionDeniedError)\b",
            r"Error code: 40[13]\b",
            r"Missing credentials\. Please pass an",
            r"The api_key client option must be set",
            r"Could not resolve authentication method",
            r"Incorrect API key provided",
            r"API_KEY_INVALID",
            r"Unable to locate credentials",
            r"No \w*_API_KEY defined in the environment",
        ),
        (r"(?:ERROR: )?No \w*(?:_API_KEY|_BASE_URL)\b.* defined in the environment",),
    ),
    (
        "api-rate-limit",
        (
            r"^(?:\w+\.)*RateLimitError\b",
            r"RetryError\[.*RateLimitError",
            r"Error code: 429\b",
            r"429 Too Many Requests",
        ),
        (),
    ),
    (
        "api-unavailable",
        (
            r"^(?:\w+\.)*(?:InternalServerError|OverloadedError|ServiceUnavailableError)\b",
            r"Error code: 5\d\d\b",
            r"overloaded_error",
        ),
        (),
    ),
    (
        "hub-offline",
        (
            r"We couldn't connect to '?https?://\S+'? to load (?:the files|this file|this model)",
            r"outgoing traffic has been disabled",
            r"offline mode is enabled",
            r"OfflineModeIsEnabled",
            r"LocalEntryNotFoundError",
            r"Couldn't reach .* on the Hub",
            r"Couldn't find (?:a dataset script|cache for|any data file)\b.*",
            r"Connection error, and we cannot find the requested files in the (?:disk|local) cache",
            r"host=\\?'(?:cdn-lfs\S*\.)?(?:huggingface\.co|hf\.co)\\?'",
        ),
        (),
    ),
    (
        "environment-not-found",
        (r"EnvironmentNameNotFound", r"EnvironmentLocationNotFound"),
        (
            SHELL + r"(?:conda|mamba|micromamba|module|ml): (?:command )?not found",
            r"EnvironmentNameNotFound: ",
            r"EnvironmentLocationNotFound: ",
            r"CondaError: Run 'conda init' before 'conda activate'",
            r"CommandNotFoundError: Your shell has not been properly configured to use 'conda",
            r"Lmod has detected the following error:",
            r"(?:ModuleCmd_Load\.c\(\d+\):)?ERROR:?\s*\(?\d*\)?:? ?Unable to locate a modulefile for",
            SHELL + r"\S*(?:/activate|/conda\.sh|/mamba\.sh|/etc/profile\.d/\S+): No such file or directory",
            r"critical libmamba .*(?:Cannot activate|does not exist)",
        ),
    ),
    (
        "script-syntax",
        (r"^(?:SyntaxError|IndentationError|TabError): ",),
        (
            SHELL + r"syntax error",
            SHELL + r"unexpected EOF while looking for matching",
            SHELL + r"Syntax error: ",
        ),
    ),
    ("unset-variable", (), (SHELL + r"\S+: unbound variable", SHELL + r"\S+: parameter not set")),
    (
        "task-not-found",
        (r"^ValueError: Tasks not found: ", r"^(?:\w+\.)*\w+: Task named '.*' not found"),
        (
            r"(?:Error: )?Task named '.*' not found\.?$",
            r"Error: No inspect tasks were found at the specified paths",
        ),
    ),
    (
        "wrong-arguments",
        (),
        (
            r"Error: (?:No such (?:option|command)|Missing (?:option|argument)|Invalid value|Got unexpected extra arg)",
            r"Error: Option '?\S+ requires",
            ARGPARSE + r"(?:unrecognized arguments|the following arguments are required|argument \S+|ambiguous option)",
            r"(?:sbatch|srun|inspect|python3?|vllm|lm[-_]eval): (?:error: )?(?:unrecognized|invalid) option",
        ),
    ),
    (
        "missing-module",
        (
            r"^ModuleNotFoundError: No module named '(?P<module>[^']+)'",
            r"^ImportError: .*[`'\"]pip install (?:-U )?'?(?P<module>[\w.-]+)",
            r"^\w+Error: .*\bpackage (?:for )?(?P<module>[\w.-]+) (?:seems to be not|doesn't seem to be) installed",
            r"^ImportError: .*\brequires the (?P<module>[\w.-]+) library but it was not found in your environment",
            r"^(?:\w+\.)*PackageNotFoundError: (?:No package metadata was found for |The ')(?P<module>[\w.-]+)",
        ),
        (
            r"\S*python[\d.]*: (?:.{0,200}\(ModuleNotFoundError: )?No module named '?(?P<module>[\w.]+)",
            r"ERROR: .* requires optional dependencies\. Install with:",
        ),
    ),
    (
        "broken-installation",
        (
            r"^ImportError: ",
            r"undefined symbol: ",
            r"cannot open shared object file",
            r"version `GLIBC\w*_[\d.]+' not found",
        ),
        (
            TOOL + r".*error while loading shared libraries: ",
            TOOL + r".*version `GLIBC\w*_[\d.]+' not found",
            TOOL + r".*cannot execute binary file: Exec format error",
        ),
    ),
    (
        "permission-denied",
        (r"^PermissionError: ", r"\[Errno 13\]", r"\[Errno 30\] Read-only file system"),
        (
            TOOL + r".*: Permission denied$",
            STEPD + r"execve\(\): .*: Permission denied",
            TOOL + r".*: Read-only file system$",
        ),
    ),
    (
        "command-not-found",
        (),
        (
            SHELL + r"\S+: (?:command )?not found$",
            SLURM + r"(?:execve\(\)|task \d+ launch failed): .*No such file or directory",
            r"env: \S+: No such file or directory",
            TOOL + r".*: bad interpreter: No such file or directory",
        ),
    ),
    (
        "missing-file",
        (
            r"^(?:FileNotFoundError|NotADirectoryError|IsADirectoryError): ",
            r"\[Errno 2\] No such file or directory",
            r"DataFilesNotFoundError",
        ),
        (
            r"\S*python[\d.]*: can't open file .*\[Errno 2\]",
            TOOL + r".*: No such file or directory$",
        ),
    ),
    (
        "port-in-use",
        (r"\[Errno 98\]", r"(?i)address already in use", r"EADDRINUSE"),
        (
            r".*\[Errno 98\].*[Aa]ddress already in use",
            r".*The server socket has failed to (?:listen|bind).*EADDRINUSE",
        ),
    ),
    (
        "network",
        (
            r"^(?:\w+\.)*(?:APIConnectionError|ConnectionRefusedError|ConnectTimeout|ConnectError|gaierror)\b",
            r"Max retries exceeded with url",
            r"Name or service not known",
            r"Temporary failure in name resolution",
            r"Network is unreachable",
            r"Connection refused",
            r"Cannot connect to proxy",
        ),
        (r"curl: \(\d+\) ", r"ssh: .*: (?:Connection|Could not resolve)", r"fatal: unable to access 'https?://"),
    ),
    (
        "nccl",
        (
            r"DistBackendError",
            r"DistNetworkError",
            r"DistStoreError",
            r"\bNCCL (?:error|communicator|operations)",
            r"ncclInternalError|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError",
        ),
        (
            r"\[E\d* ?[\d: .]*ProcessGroupNCCL\.cpp:\d+\].*(?:collective operation timeout|NCCL error|have failed)",
            r"\S+:\d+:\d+ \[\d+\] .*NCCL WARN ",
            r"torch\.distributed\.DistBackendError: ",
        ),
    ),
    (
        "engine-start",
        (
            r"Engine core initialization failed",
            r"EngineDeadError",
            r"Engine process failed to start",
            r"Server (?:exited|process died|failed to start|crashed)",
            r"(?:vLLM|SGLang|sglang) server (?:failed|did not|process)",
        ),
        (),
    ),
    (
        "illegal-instruction",
        (r"killed by signal: Illegal instruction",),
        (
            SHELL + r" *\d+ Illegal instruction",
            r"srun: error: .*: Illegal instruction",
            r"Fatal Python error: Illegal instruction",
        ),
    ),
    (
        "segmentation-fault",
        (r"killed by signal: Segmentation fault",),
        (
            SHELL + r" *\d+ Segmentation fault",
            r"srun: error: .*: Segmentation fault",
            r"Fatal Python error: Segmentation fault",
            r"Segmentation fault(?: \(core dumped\))?$",
            r"\[\S+:\d+\] \*\*\* Process received signal \*\*\*",
            r"!{5,} Segfault encountered !{5,}",
        ),
    ),
    (
        "bus-error",
        (),
        (SHELL + r" *\d+ Bus error", r"srun: error: .*: Bus error", r"Fatal Python error: Bus error"),
    ),
    (
        "killed",
        (r"died with <Signals\.SIGKILL: 9>", r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) is killed by signal: Killed"),
        (SHELL + r" *\d+ Killed", r"srun: error: .*: Killed$", r"Killed$"),
    ),
    (
        "aborted",
        (),
        (SHELL + r" *\d+ Aborted", r"srun: error: .*: Aborted", r"Fatal Python error: Aborted"),
    ),
)
