"""Writes the JSON Schemas of evalmon's files into evalmon_agent/schemas, from the records that write or read them."""

import ast
import inspect
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from evalmon_agent.experiment import reports
from evalmon_agent.summary.notifications import Notification
from evalmon_agent.summary.records import Summary
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Record

_FILES: dict[str, tuple[str, Any]] = {
    "summary": ("evalmon's summary.json", Summary),
    "state": ("evalmon's state.json", ExperimentState),
    "registry": ("One line of evalmon's registry.jsonl", Record),
    "notification": ("A notification of evalmon's, as notify_command gets it", Notification),
    "job": ("A job's report of itself, evalmon's jobs/JOBID.json: what evalmon reads of it", reports.Report),
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, str]:
    """The text of each schema by the name of its file."""
    return {
        f"{name}.schema.json": json.dumps(_schema(title, record), indent=1, ensure_ascii=False) + "\n"
        for name, (title, record) in _FILES.items()
    }


def _schema(title: str, record: Any) -> Any:
    schema = {"$schema": _DIALECT, "title": title, **msgspec.json.schema(record)}
    for part in _records(msgspec.inspect.type_info(record)):
        _complete(schema["$defs"][part.__name__], part)
    return _with_public_names(schema)


def _records(of: Any) -> set[type]:
    """All records in a type."""
    records: set[type] = set()
    left, seen = [of], set[int]()
    while left:
        part = left.pop()
        if isinstance(part, tuple):
            left += part
        elif isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field) and id(part) not in seen:
            seen.add(id(part))
            if isinstance(part, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
                records.add(part.cls)
            left += [getattr(part, field) for field in part.__struct_fields__]
    return records


def _complete(schema: dict[str, Any], record: type) -> None:
    """Add what msgspec leaves out: fields' docstrings, which fields a file always has, and which `schema` it has."""
    for name, text in field_docstrings(record).items():
        schema["properties"][name]["description"] = text
    omits = issubclass(record, msgspec.Struct) and record.__struct_config__.omit_defaults
    if not omits and record.__module__ != reports.__name__:
        schema["required"] = [*schema["properties"]]
    if "schema" in schema["properties"]:
        schema["properties"]["schema"] = {"const": sys.modules[record.__module__].SCHEMA}


def field_docstrings(record: type) -> dict[str, str]:
    """The docstring after each field of a record that has one."""
    definition = ast.parse(inspect.getsource(record)).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: str(below.value.value)
        for field, below in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if not ast.unparse(field.annotation).startswith("ClassVar")
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }


def _with_public_names(value: Any) -> Any:
    """The name without the underscore of records that are private to a module."""
    if isinstance(value, list):
        return [_with_public_names(item) for item in value]
    if not isinstance(value, dict):
        return value.replace("#/$defs/_", "#/$defs/") if isinstance(value, str) else value
    changed = {key.removeprefix("_"): _with_public_names(item) for key, item in value.items()}
    title = changed.get("title")  # of a property of that name it is a schema
    if isinstance(title, str):
        changed["title"] = title.removeprefix("_")
    return changed


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    for name, text in schemas().items():
        (directory / name).write_text(text)
