"""Tests one eval of each supported version of a framework, as a job: its results, its scores, and the proof of its log.

Each version gets a virtual environment below ~/.cache, which later runs use again; for the newest, pip looks for an
update.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from real_slurm.cluster import HEADER, Exp

pytestmark = [pytest.mark.slurm, pytest.mark.full]

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalmon-tests"
TASKS = Path(__file__).with_name("owned_tasks.py")

LM_EVAL_TASK = """
task: even
dataset_path: json
dataset_kwargs: {data_files: {test: DIR/even.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""

# Before 0.4.13 lm_eval's dummy model wants to download a tokenizer.
TRANSFORMERS = """
__version__ = "0"


class AutoTokenizer:
    pad_token = eos_token = bos_token = ""
    pad_token_id = eos_token_id = bos_token_id = 0

    @classmethod
    def from_pretrained(cls, name):
        return cls()
"""

READ = """
import json, sys
from inspect_ai.log import read_eval_log
log = read_eval_log(sys.argv[1])
scores = {f"{s.name}/{n}": m.value for s in log.results.scores for n, m in s.metrics.items()} if log.results else {}
done = sum(sample.error is None for sample in log.samples or [])
print(json.dumps([log.status, done, len(log.eval.dataset.sample_ids), scores]))
"""


def programs_of(requirement: str) -> Path:
    """The directory of the programs of an environment with this version."""
    place = CACHE / f"{requirement}-python{sys.version_info.major}.{sys.version_info.minor}"
    pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    if not (place / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        subprocess.run([*pip, "install", requirement], check=True)
        (place / "complete").touch()
    elif "==" not in requirement:
        subprocess.run([*pip, "install", "--upgrade", requirement], check=True)
    return place / "bin"


def submitted(exp: Exp, scripts: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The results of these scripts, which have one directory and one home."""
    folder = exp.root / "r1" / "eval"
    for name, body in scripts.items():
        prepare = f"export HOME={shlex.quote(str(exp.root))} HF_HUB_OFFLINE=1\ncd {shlex.quote(str(folder))}\n"
        exp.script("r1", f"{name}_epoch0", prepare + body, header=HEADER.replace("mem=100", "mem=2000"))
    done = exp.submit()
    assert (done.returncode, done.stderr) == (0, "")
    exp.wait_complete(timeout=600)
    return {name.split("/")[1]: ev for name, ev in exp.evals().items()}


def shown(result: dict[str, Any]) -> list[Any]:
    return [result["status"], result["samples_completed"], result["samples_total"], result["scores"]]


@pytest.mark.parametrize("requirement", ["inspect-ai==0.3.200", "inspect-ai==0.3.243", "inspect-ai"])
def test_each_version_of_inspect_ai_is_supported(exp: Exp, requirement: str) -> None:
    programs = programs_of(requirement)
    command = f"{programs}/inspect eval {TASKS}@owned --max-samples 1 --log-dir logs"
    evals = submitted(exp, {"good": f"{command}\n", "bad": f"{command} -T end=raises\n"})
    assert {name: ev["verdict"] for name, ev in evals.items()} == {"good": "ok", "bad": "suspect"}, exp.outputs()
    for ev in evals.values():
        [result] = ev["results"]
        read = subprocess.run(
            [programs / "python", "-c", READ, result["log"]], check=True, capture_output=True, text=True
        )
        assert shown(result) == json.loads(read.stdout)
        assert (result["known_by"], ev["result_unknown"]) == ("process", None)
    assert len({ev["results"][0]["log"] for ev in evals.values()}) == 2
    assert evals["good"]["results"][0]["samples_completed"] == 12
    assert "the model went away" in evals["bad"]["results"][0]["error"]


@pytest.mark.parametrize("requirement", ["lm_eval==0.4.10", "lm_eval==0.4.11", "lm_eval"])
def test_each_version_of_lm_eval_is_supported(exp: Exp, requirement: str) -> None:
    questions = [{"q": f"Is {n} even?", "choices": ["no", "yes"], "gold": 1 - n % 2} for n in range(12)]
    (exp.root / "even.jsonl").write_text("".join(f"{json.dumps(question)}\n" for question in questions))
    (exp.root / "even.yaml").write_text(LM_EVAL_TASK.replace("DIR", str(exp.root)))
    (exp.root / "modules").mkdir()
    (exp.root / "modules" / "transformers.py").write_text(TRANSFORMERS)
    lm_eval = f"PYTHONPATH={exp.root}/modules {programs_of(requirement)}/lm_eval"
    command = f"{lm_eval} run --model dummy --include_path {exp.root} --output_path results"
    scripts = {
        "good": f"{command} --tasks even --model_args pretrained=a\n",
        "other": f"{command} --tasks even --model_args pretrained=b\n",
        "bad": f"{command} --tasks odd\ntrue\n",
    }
    evals = submitted(exp, scripts)
    outcome = {name: (ev["verdict"], len(ev["results"])) for name, ev in evals.items()}
    assert outcome == {"good": ("ok", 1), "other": ("ok", 1), "bad": ("suspect", 0)}, json.dumps(evals, indent=1)
    for name, model in (("good", "a"), ("other", "b")):
        [result] = evals[name]["results"]
        log = json.loads(Path(result["log"]).read_text())
        assert log["config"]["model_args"] in ({"pretrained": model}, f"pretrained={model}")
        scores = {f"even/{key}": value for key, value in log["results"]["even"].items() if key.startswith("acc")}
        assert shown(result) == ["success", 12, 12, scores]
        assert (result["known_by"], evals[name]["result_unknown"]) == ("place", None)
