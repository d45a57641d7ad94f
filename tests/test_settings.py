"""Tests the settings: the contract's defaults, and one line for each error, with its place and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.errors import UnreadableError
from evalmon_agent.settings import MAX_BYTES, MonitorJobSettings, NotifyTarget, Settings, parse

# Section 6 of the contract, copied.
CONTRACT = """\
scripts: ["*/eval/*.slurm", "*/eval/*/*.slurm"]   # globs below EXP
poll_interval: 60          # s; below 60 is refused unless EVALMON_ALLOW_FAST_POLLING=1 is set where submit runs
gpu_status_every: 5        # polls
seff_retry_delay: 30       # s
sample_interval: 30        # s; >= 1
alert_after: 5             # failed polls in a row
lost_after: 1800           # s that a job may be unknown to Slurm before it is called lost
mode: sidecar              # or dependency
sidecar:    {partition: null, account: null, qos: null, time: "1-00:00:00", mem: 200M, extra: []}
completion: {partition: null, account: null, qos: null, time: "00:30:00",  mem: 500M, extra: []}
max_submit: null           # evals of this experiment that may be in the queue at once
stagger: 0                 # s between two submissions of evals
gpu_hour_price: null       # one number, or {gres type as Slurm names it: number}
currency: EUR
mail_user: null            # Slurm mails the end; the completion job's name carries the verdict
notify: []                 # Apprise URLs; needs the `notify` extra
notify_command: null       # argv list; gets the event as JSON on stdin
group_readable: false
allow_world_writable: false
"""


def read(text: str | bytes, *, fast_polling: bool = False) -> Settings:
    data = text if isinstance(text, bytes) else text.encode()
    return parse(data, path="/exp/evalmon.yaml", fast_polling=fast_polling)


def refusal(text: str | bytes) -> str:
    """The message without the file's name, which it always begins with; always one line."""
    with pytest.raises(UnreadableError) as refused:
        read(text)
    message = str(refused.value)
    assert (78, 1) == (refused.value.exit_status, len(message.splitlines()))
    assert message.startswith("/exp/evalmon.yaml: ")
    return message.removeprefix("/exp/evalmon.yaml: ")


def test_the_defaults_are_the_contracts() -> None:
    assert yaml.safe_load(CONTRACT) == msgspec.to_builtins(Settings())
    assert Settings() == read(CONTRACT)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "sidecar: {}", "\ufeff"])
def test_an_empty_file_gives_the_defaults(text: str) -> None:
    assert Settings() == read(text)


def test_omitted_settings_of_a_monitor_job_keep_their_defaults() -> None:
    found = read("sidecar: {partition: cpu}\ncompletion: {mem: 1G}\n")
    assert MonitorJobSettings(time="1-00:00:00", mem="200M", partition="cpu") == found.sidecar
    assert MonitorJobSettings(time="00:30:00", mem="1G") == found.completion


WRONG_TYPES = {
    "scripts": ["x", "1", "{a: b}", "null", "[1]", "[null]", "[[x]]"],
    "poll_interval": ["x", '"60"', "null", "true", "[60]", "{}", "2020-01-01"],
    "gpu_status_every": ["x", "1.5", "null", "true"],
    "seff_retry_delay": ["x", "null", "true"],
    "sample_interval": ["x", "null"],
    "alert_after": ["x", "1.5", "null"],
    "lost_after": ["x", "null"],
    "mode": ["x", "1", "null", "[sidecar]", "Sidecar"],
    "sidecar": ["x", "null", "[]", "1"],
    "completion": ["x", "null", "[]", "1"],
    "max_submit": ["x", "1.5", "[1]", "true"],
    "stagger": ["x", "null", "[1]", "true"],
    "gpu_hour_price": ["x", "[1]", "true", "{a100: x}", "{a100: null}", "{1: 2}"],
    "currency": ["1", "null", "[x]"],
    "mail_user": ["1", "[x]", "true"],
    "notify": ["x", "null", "[1]", "{}"],
    "notify_command": ["x", "[1]", "{}"],
    "group_readable": ["1", '"yes"', "null"],
    "allow_world_writable": ["1", '"yes"', "null"],
    **{f"sidecar.{key}": ["1", "[x]", "{}"] for key in ("partition", "account", "qos")},
    "sidecar.time": ["1", "null", "[x]"],
    "completion.mem": ["1", "null", "[x]"],
    "completion.extra": ["x", "null", "[1]", "{}"],
}
OUT_OF_RANGE = {
    "scripts": ["[]", '[""]', "[/etc/*]", "[../*]", "[a/../../b]", '["a\\0b"]', '["a\\nb"]'],
    "poll_interval": ["0", "-1", "59.9", "86401", ".inf", "-.inf", ".nan", "1e400"],
    "gpu_status_every": ["0", "-1"],
    "seff_retry_delay": ["-1", "3601", ".nan"],
    "sample_interval": ["0", "0.99", "86401", ".nan"],
    "alert_after": ["0", "-5"],
    "lost_after": ["0", "-1", "86401", ".inf"],
    "max_submit": ["0", "-1"],
    "stagger": ["-1", "86401", ".nan"],
    "gpu_hour_price": ["-1", ".nan", ".inf", "1e10", "{a100: -1}", "{a100: .nan}"],
    "currency": ['""', '"123456789012345678901"', '"a\\nb"'],
    "mail_user": ['"a\\nb"', '"\\e[31m"'],
    "notify_command": ["[]", '["x\\0"]'],
    "notify": ['["x\\u202e"]'],
    "sidecar.time": ['"x"', '""', '"0"', '"1:2:3:4"', '"UNLIMITED"', '"-5"', '"1-"x'],
    "completion.mem": ['"x"', '""', '"0"', '"-1G"', '"5X"', '"1.5G"'],
    "sidecar.extra": ['["--comment=a\\nb"]'],
}


def as_yaml(key: str, value: str) -> str:
    outer, _, inner = key.partition(".")
    return f"{outer}: {{{inner}: {value}}}\n" if inner else f"{outer}: {value}\n"


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for wrong in (WRONG_TYPES, OUT_OF_RANGE) for key in wrong for value in wrong[key]]
)
def test_a_wrong_type_or_value_is_refused_with_its_key(key: str, value: str) -> None:
    text = as_yaml(key, value)
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        assert refusal(text).startswith("not valid YAML: ")
    else:
        assert re.match(rf"{re.escape(key)}(\[\d+\])?(: | must be ).+", refusal(text))


def test_every_key_is_tested_with_wrong_types() -> None:
    assert set(Settings.__struct_fields__) <= {key.partition(".")[0] for key in WRONG_TYPES}
    assert set(MonitorJobSettings.__struct_fields__) == {key.partition(".")[2] for key in WRONG_TYPES if "." in key}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("poll_intervall: 60", ("poll_intervall: no such setting; did you mean poll_interval?",)),
        ("sidecar: {gres: gpu}", ("sidecar.gres: no such setting", "partition", "extra")),
        ("completion: {Time: x}", ("completion.Time: no such setting", "time")),
        ("1: x", ("1: no such setting",)),
        ("null: x", ("None: no such setting",)),
        ("[a, b]: x", ("not valid YAML",)),
        ('"a\\nb": x', ("a\\nb: no such setting",)),
        ("poll_interval: 0", ("poll_interval must be a number > 0",)),
        ("alert_after: 0", ("alert_after must be a whole number >= 1",)),
        ("mode: both", ("mode must be sidecar or dependency",)),
        ("poll_interval: 30", ("poll_interval: 30 is below 60 s", "EVALMON_ALLOW_FAST_POLLING=1")),
        ("sidecar: {time: 12:00:00}", ("sidecar.time must be text", "quotes", '"00:30:00"')),
        ("completion: {time: 30}", ("completion.time must be text", "quotes")),
        ("sidecar: {mem: 200}", ("sidecar.mem must be text", "unit", '"200M"')),
        ("sidecar: {account: 12345}", ("sidecar.account must be text or null; put it in quotes",)),
        ("notify: [5]", ("notify[0] must be text or settings of its own", "put it in quotes")),
        ('scripts: "*.slurm"', ('scripts must be a list, e.g. ["*.slurm"]',)),
        ("scripts: []", ('scripts must be a list that is not empty, e.g. ["*.slurm"]',)),
        ("notify_command: x", ('notify_command must be a list or null, e.g. ["/home/me/tell.sh", "--now"]',)),
        ("sidecar: {extra: --nice}", ('sidecar.extra must be a list, e.g. ["--nice=100"]',)),
        ("group_readable: yes please", ("group_readable must be true or false",)),
        ("sidecar: cpu", ("sidecar must be settings of its own",)),
        ("scripts: [/etc/*]", ("scripts: /etc/* leads out of the experiment",)),
        ("- a\n- b", ("not a mapping of settings",)),
        ("just text", ("not a mapping of settings",)),
        ("a: b: c", ("not valid YAML: ", "line 1")),
        ("scripts: [", ("not valid YAML: ",)),
        ("\tmode: sidecar", ("not valid YAML: ",)),
        (b"\xff\xfe\xfa", ("not valid YAML: ",)),
        (b"mode: \0", ("not valid YAML: ",)),
    ],
)
def test_the_message_gives_the_place_and_what_is_allowed(text: str | bytes, expected: tuple[str, ...]) -> None:
    message = refusal(text)
    assert message.startswith(expected[0])
    assert [] == [part for part in expected if part not in message]


@pytest.mark.parametrize(("time", "number"), [("12:00:00", 43_200), ("1:30", 90), ("30", 30)])
def test_an_unquoted_time_is_parsed_as_yaml_does(time: str, number: int) -> None:
    assert {"time": number} == yaml.safe_load(f"time: {time}")
    assert "sidecar.time must be text; put it in quotes" in refusal(f"sidecar: {{time: {time}}}")


@pytest.mark.parametrize("time", ["00:30:00", "1-00:00:00", "01:00"])
def test_an_unquoted_time_that_yaml_leaves_as_text_is_a_time(time: str) -> None:
    assert time == read(f"sidecar: {{time: {time}}}").sidecar.time


def test_names_in_any_script_are_accepted() -> None:
    assert ["日本\u3000é/*.slurm"] == read('scripts: ["日本\\u3000é/*.slurm"]').scripts


def test_faster_polling_is_for_test_clusters_only() -> None:
    assert 2.0 == read("poll_interval: 2", fast_polling=True).poll_interval
    assert 60.0 == read("poll_interval: 60").poll_interval


@pytest.mark.survives("S9")
def test_a_file_of_nested_aliases_is_refused_at_once() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
    )
    assert refusal(bomb).startswith("not valid YAML: too many aliases")
    assert ["x", "x"] == read("notify: &n [x, x]\nnotify_command: *n\n").notify_command


@pytest.mark.survives("S9")
def test_a_huge_file_is_refused_without_reading_it() -> None:
    assert refusal(b"#" * (MAX_BYTES + 1)).startswith("more than 64 KiB")
    assert Settings() == read(b"#" * MAX_BYTES)


@pytest.mark.survives("S9")
@pytest.mark.parametrize(
    "text",
    [
        "[" * 2_000,
        pytest.param("[" * 30_000, marks=pytest.mark.full),  # PyYAML takes time by the square
        "{a: " * 15_000,
        "- " * 30_000,
        "? " * 30_000,
    ],
    ids=lambda t: f"{t[:4]}, {len(t)}",
)
def test_deep_nesting_is_refused(text: str) -> None:
    assert refusal(text).startswith("not valid YAML: ")


@pytest.mark.survives("S9")
@pytest.mark.parametrize(
    "text",
    [
        "x: !!python/object/apply:os.system ['touch canary']",
        "!!python/name:os.system",
        'poll_interval: !!int ""',
        'poll_interval: !!float ""',
        "group_readable: !!bool maybe",
        "mail_user: !!timestamp x",
        "mail_user: 2001-99-99",
        "poll_interval: 1" + "0" * 5000,
        "<<: 5",
        "notify: !!omap [a]",
        "mail_user: !!binary '*'",
    ],
)
def test_tags_and_unusual_yaml_are_refused_in_one_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(text)
    assert [] == list(tmp_path.iterdir())


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Settings.__struct_fields__, "x"]), VALUES, max_size=4))
def test_any_mapping_gives_settings_or_one_line(raw: dict[str, object]) -> None:
    one_line_or_settings(yaml.safe_dump(raw).encode())


@pytest.mark.survives("S9")
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass"))))
def test_any_bytes_give_settings_or_one_line(data: bytes) -> None:
    one_line_or_settings(data)


def one_line_or_settings(data: bytes) -> None:
    message = ""
    try:
        read(data)
    except UnreadableError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


SECRET = "swordfish-0123"


@pytest.mark.parametrize(
    "text",
    [
        f'notify: ["mailto://me:{SECRET}" x',
        f"mailto://me:{SECRET}@h: 1",
        f'notify: ["mailto://me:{SECRET}\\q"]',
        f"notify: [mailto: {SECRET}@h]",
        f"notify:\n  - json://{SECRET}\n bad: [",
        f"notify: [*{SECRET}]",
        f"notify: [!{SECRET} x]",
        f"notify: {{json://{SECRET}@x}}",
        f"notify: [{{json://{SECRET}@x: 1}}]",
        f"notify: [json://{SECRET}, json://{SECRET}\x01]",
        f'notify: ["json://{SECRET}\\u202e"]',
        f'notify: [{{url: "json://{SECRET}\\u202e"}}]',
        f'notify_command: [x, "--token={SECRET}\\0"]',
        f"notify: !!int {SECRET}",
        f"notify: [!!timestamp {SECRET}]",
        f"notify: [!!float {SECRET}]",
        f"a: b: json://{SECRET}",
        f'notify: [{{url: "json://{SECRET}", quiet: "{SECRET}"}}]',
    ],
)
def test_no_error_message_has_a_secret(text: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read(text)
    assert SECRET not in str(caught.value)


def test_a_notification_target_may_set_its_events_and_quiet_hours() -> None:
    text = 'notify: ["json://x", {url: "ntfy://y", events: [failed, alert-cleared], quiet: "22:00-07:00"}]'
    assert read(text).notify == ["json://x", NotifyTarget("ntfy://y", ["failed", "alert-cleared"], "22:00-07:00")]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{events: [failed]}", ("notify[0]: ", "missing required field `url`")),
        ("{url: x, event: [failed]}", ("notify[0]: ", "`event`")),
        ("{url: x, events: [fails]}", ("notify[0].events[0] must be complete or failed or alert",)),
        ("{url: x, events: []}", ("notify[0].events must be a list that is not empty",)),
        ("{url: x, quiet: 22}", ("notify[0].quiet must be text", '"22:00-07:00"')),
        ('{url: x, quiet: "22-7"}', ("notify[0].quiet must be text", '"22:00-07:00"')),
        ('""', ("notify[0] must be text that is not empty",)),
    ],
)
def test_a_wrong_target_is_reported_with_its_key(target: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UnreadableError) as caught:
        read(f"notify: [{target}]")
    assert all(word in str(caught.value) for word in words), str(caught.value)
