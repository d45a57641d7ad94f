"""Tests that every fault and abuse has at least one test."""

from __future__ import annotations

import pytest

from survival import FAULTS, faults_of


def test_each_fault_and_abuse_has_a_test(request: pytest.FixtureRequest) -> None:
    option = request.config.option
    if request.config.args != request.config.getini("testpaths") or option.markexpr or option.keyword:
        pytest.skip("only some of the tests were asked for")
    made = {fault for item in request.session.items for fault in faults_of(item)}
    assert [fault for fault in FAULTS if fault not in made] == []
