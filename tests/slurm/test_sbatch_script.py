"""Tests that batch scripts are parsed like sbatch does, where marked so as tried on sbatch 22.05 (`sbatch -vv`)."""

import shlex
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.sbatch import ScriptHead, read_head


def options(*lines: str) -> dict[str, str]:
    return dict(read_head("\n".join(["#!/bin/bash", *lines, "echo hi"])).options)


def test_an_ordinary_script_is_parsed() -> None:
    text = (
        "#!/bin/bash -l\n"
        "#SBATCH --job-name=eval-a\n"
        "#SBATCH -p gpu --gres=gpu:1\n"
        "\n"
        "# a comment\n"
        "#SBATCH --time=00:30:00   # half an hour\n"
        "module load x\n"
        "#SBATCH --mem=1G\n"
    )
    expected = ScriptHead(
        shebang="#!/bin/bash -l",
        leading_lines=(
            "#SBATCH --job-name=eval-a",
            "#SBATCH -p gpu --gres=gpu:1",
            "",
            "# a comment",
            "#SBATCH --time=00:30:00   # half an hour",
        ),
        options={"job-name": "eval-a", "partition": "gpu", "gres": "gpu:1", "time": "00:30:00"},
        is_het=False,
    )
    assert expected == read_head(text)


# Tried on sbatch 22.05.
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#SBATCH -p part1 --time=5 # comment --mem=3", {"partition": "part1", "time": "5"}),
        ("#SBATCH --job-name=\"a b\"'c' -A acc#x", {"job-name": "a bc", "account": "acc"}),
        ('#SBATCH --job-name="it\'s # 1" ', {"job-name": "it's # 1"}),
        ("#SBATCH --comment='a\\'b'", {"comment": "a'b"}),
        ("#SBATCH --comment=x\\ y\\#z", {"comment": "x"}),
        ("#SBATCH--mem=3", {"mem": "3"}),
        ("#SBATCH\t--mem=3", {"mem": "3"}),
        (" #SBATCH --qos=indented", {}),
        ("##SBATCH --mem=99", {}),
        ("#sbatch --mem=99", {}),
        ("#SBATCH --mem 3 --ntasks 3 --nodes 1", {"mem": "3", "ntasks": "3", "nodes": "1"}),
        ("#SBATCH --part=abbr", {"partition": "abbr"}),
        ("#SBATCH --gpus-per-n=2", {"gpus-per-node": "2"}),
        ("#SBATCH -Hn4 -N2", {"hold": "", "ntasks": "4", "nodes": "2"}),
        ("#SBATCH -t=10", {"time": "=10"}),
        ("#SBATCH --exclusive --nice=5 -k -s", {"exclusive": "", "nice": "5", "no-kill": "", "oversubscribe": ""}),
        ("#SBATCH --no-kill=off", {"no-kill": "off"}),
        ("#SBATCH -- --time=3", {}),
        ("#SBATCH -p a hetjob -t 3", {"partition": "a"}),
        ("#SBATCH --job-name=hetjob", {"job-name": "hetjob"}),
        ("#SBATCH --comment hetjob#x", {"comment": "hetjob"}),
        ("#SBATCH --comment ''hetjob -t 3", {"comment": "hetjob", "time": "3"}),
    ],
)
def test_a_line_is_parsed_as_by_sbatch(line: str, expected: dict[str, str]) -> None:
    assert expected == options(line)


def test_an_empty_argument_ends_its_line_and_takes_its_value_from_the_next() -> None:
    # sbatch joins the arguments of all lines as well.
    expected = {"comment": "--mem=2", "qos": "q"}
    assert expected == options('#SBATCH --comment "" --mem=1', "#SBATCH --mem=2 --qos=q")


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("-A", "account"), ("-a", "array"), ("-b", "begin"), ("-C", "constraint"), ("-c", "cpus-per-task"),
        ("-D", "chdir"), ("-d", "dependency"), ("-e", "error"), ("-G", "gpus"), ("-i", "input"), ("-J", "job-name"),
        ("-L", "licenses"), ("-M", "clusters"), ("-m", "distribution"), ("-N", "nodes"), ("-n", "ntasks"),
        ("-o", "output"), ("-p", "partition"), ("-q", "qos"), ("-t", "time"), ("-w", "nodelist"), ("-x", "exclude"),
    ],
)  # fmt: skip
def test_a_short_option_has_its_long_name(short: str, name: str) -> None:
    expected = {name: "value"}
    assert expected == options(f"#SBATCH {short} value")
    assert expected == options(f"#SBATCH {short}value")
    assert expected == options(f"#SBATCH --{name}=value")
    assert expected == options(f"#SBATCH --{name} value")


def test_the_last_value_of_an_option_counts() -> None:
    assert options("#SBATCH --time=1", "#SBATCH -t 2") == {"time": "2"}


def test_an_option_of_a_sites_plugin_is_kept() -> None:
    assert options("#SBATCH --x11-site=on --other -p a") == {"x11-site": "on", "other": "", "partition": "a"}


@pytest.mark.parametrize("separator", ["#SBATCH hetjob", "#SBATCH packjob", "#SBATCHhetjob", "#SBATCH  HetJob # x"])
def test_only_the_first_component_of_a_het_job_counts(separator: str) -> None:
    head = read_head(f"#!/bin/sh\n#SBATCH -p a\n{separator}\n#SBATCH -p b --mem=3\n")
    expected = (True, {"partition": "a"})
    assert expected == (head.is_het, dict(head.options))


@pytest.mark.parametrize("text", ["", "\n", "echo\n", "\n#!/bin/sh\n"])
def test_a_text_without_a_shebang_on_its_first_line_has_none(text: str) -> None:
    assert None is read_head(text).shebang


def test_a_unicode_blank_starts_a_command_for_sbatch() -> None:
    assert options("\u00a0", "#SBATCH --mem=1") == {}


def test_a_script_of_comments_only_is_parsed_to_its_end() -> None:
    assert read_head("#!/bin/sh\n#SBATCH --mem=1").leading_lines == ("#SBATCH --mem=1",)


@given(st.text())
def test_parsing_never_raises_and_the_head_is_the_start_of_the_text(text: str) -> None:
    head = read_head(text)
    lines = ([] if head.shebang is None else [head.shebang]) + list(head.leading_lines)
    assert text.split("\n")[: len(lines)] == lines


@given(st.text(alphabet="#SBATCH -p\"'\\=a\n\t ", max_size=200))
def test_no_directive_raises(text: str) -> None:
    read_head("#!/bin/sh\n#SBATCH " + text)


@given(st.text(alphabet=st.characters(exclude_characters="\n\\\0", exclude_categories=("Cs",)), min_size=1))
def test_a_value_quoted_for_a_shell_is_parsed_back(value: str) -> None:
    # shlex.quote writes '"'"' for a quote, which sbatch parses like a shell.
    assert options(f"#SBATCH --comment={shlex.quote(value)}") == {"comment": value}


@pytest.mark.parametrize("piece", ["#\n", "#SBATCH -p a\n", "\n"])
def test_a_long_head_takes_linear_time(piece: str) -> None:
    started = time.monotonic()
    read_head("#!/bin/sh\n" + piece * 100_000)
    read_head("#!/bin/sh\n#SBATCH " + "-s " * 300_000)
    assert time.monotonic() - started < 10
