"""What is in `deploy/` is what systemd and Kubernetes take, and starts what there is."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from exraft.cli import _parser

DEPLOY = Path(__file__).parent.parent / "deploy"
MANIFESTS: list[dict[str, Any]] = list(
    yaml.safe_load_all((DEPLOY / "statefulset.yaml").read_text())
)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=[each["kind"] for each in MANIFESTS])
def test_a_manifest_is_as_kubernetes_has_it(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.30", strict=True)


def test_the_pods_serve_as_the_command_line_takes_it() -> None:
    [pods] = [each for each in MANIFESTS if each["kind"] == "StatefulSet"]
    [container] = pods["spec"]["template"]["spec"]["containers"]
    words = [word.replace("$(POD)", "exraft-0") for word in container["args"]]
    assert words[:3] == ["python", "-m", "exraft"]
    given = _parser().parse_args(words[3:])
    assert (given.command, given.node) == ("serve", "exraft-0.exraft:7001")
    [claim] = pods["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] in {each["name"] for each in container["volumeMounts"]}


def test_the_unit_serves_as_the_command_line_takes_it() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string((DEPLOY / "exraft@.service").read_text())
    assert unit["Service"]["Type"] == "notify"
    words = shlex.split(unit["Service"]["ExecStart"])
    named = {"${MACHINE}": "shop:Stock", "${NODE}": "db-1:7001", "${PEERS}": ":raft1@db-1:7001"}
    given = _parser().parse_args([named.get(w, w.replace("%i", "raft1")) for w in words[3:]])
    assert (given.command, given.name) == ("serve", ":raft1")
