"""The live page of a sweep: it shows what the storage holds and changes nothing."""

from __future__ import annotations

import json
import socket
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from splitlearn.sweep.dashboard import check_installed, dashboard_server, live_page
from tests.sweep.test_study import created, storage


def asked(address: str, path: str, method: str = "GET", host: str | None = None) -> tuple[int, bytes]:
    place = address.removeprefix("http://").partition("/")[0]
    connection = HTTPConnection(place, timeout=60)
    connection.request(method, path, headers={"Host": host or place})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_the_page_shows_a_sweep_while_it_runs(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    study = created(tmp_path)
    with live_page(storage(tmp_path)) as address:
        assert asked(address, "/dashboard")[0] == 200
        claim = study.claim()
        assert claim is not None
        study.finish(claim, {"rate": 2.0, "score": 0.5})
        status, content = asked(address, "/api/studies/0")
        told = json.loads(content)
        assert (status, told["name"], told["objective_names"]) == (200, "sweep", ["rate", "score"])
        first = next(trial for trial in told["trials"] if trial["number"] == 0)
        assert first["values"] == [2.0, 0.5]
        assert {param["name"]: param["param_external_value"] for param in first["params"]} == {
            name: str(value) for name, value in claim.values.items()
        }


def test_the_page_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    study = created(tmp_path)
    before = Path(storage(tmp_path)).read_bytes()
    with live_page(storage(tmp_path)) as address:
        changes = {"DELETE": "/api/studies/0", "POST": "/api/trials/0/tell", "PUT": "/api/studies/0/note"}
        for method, path in changes.items():
            assert asked(address, path, method) == (403, b"this page shows a sweep and changes nothing")
        assert asked(address, "/api/studies", host="elsewhere.org")[0] == 403  # which a stranger let lead here
    assert Path(storage(tmp_path)).read_bytes() == before
    assert len(study.trials()) == 6


def test_a_port_that_is_taken_is_left_to_others(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    created(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        dashboard_server(storage(tmp_path), taken.getsockname()[1])
    with live_page(storage(tmp_path)) as one, live_page(storage(tmp_path)) as other:
        assert one != other


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(ImportError, match=r"needs optuna-dashboard: pip install 'splitlearn\[dashboard\]'"):
        check_installed()
