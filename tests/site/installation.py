"""A real installation in a folder of its own, started and asked from outside."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from qexplorer_site.processes import descendants

ROOT = Path(__file__).resolve().parents[2]


class Installation:
    """`./qexplorer up --light` without the install step, run from outside."""

    def __init__(self, folder: Path) -> None:
        self.var = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QX_")}
        kept.pop("DATABASE_URL", None)
        secrets = {"QX_SECRET_KEY": "only-for-this-test", "QX_STOP_GRACE": "10"}
        self.environment = kept | {"QX_VAR_DIR": str(folder), "PYTHONPATH": str(ROOT)} | secrets
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> "subprocess.Popen[str]":
        assert self._process is not None, "not started"
        return self._process

    def start(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "qexplorer_site.cli", "up", "--light", *options],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = []
        for line in self.process.stdout or ():
            said.append(line)
            if "runs at" in line:
                return
        pytest.fail(f"it did not start: {''.join(said)}")

    def word(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "qexplorer_site.cli", *words]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    @property
    def url(self) -> str:
        return str(json.loads((self.var / "run" / "supervisor.json").read_text())["url"])

    def tree(self) -> set[int]:
        return {self.process.pid, *descendants([self.process.pid])}

    def ready(self) -> dict[str, Any]:
        """The ready endpoint's answer, waited for until the workers have registered."""
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}healthz/ready", timeout=10) as answer:
                    return dict(json.load(answer))
            except urllib.error.HTTPError as error:
                if time.monotonic() > deadline:
                    return dict(json.load(error))
                time.sleep(0.2)
