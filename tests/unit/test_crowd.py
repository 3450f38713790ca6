"""A short run of the crowd, and that it would notice."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from triton_stub.engines.stub import StubEngine

BENCH = Path(__file__).parents[1] / "bench"


def test_nothing_is_lost():
    options = ["--seconds=1", "--rounds=2", "--clients=3", "--engines=stub"]
    command = [sys.executable, str(BENCH / "crowd.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert done.stderr == ""
    assert done.stdout.endswith("\nnothing is lost\n")
    rows = re.findall(r"^\| stub \| (\w+) \| ([0-9]+) \|", done.stdout, re.MULTILINE)
    assert [protocol for protocol, _ in rows] == ["http", "grpc"]
    assert all(int(count) for _, count in rows)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_is_lost_or_mixed_up_is_told(protocol, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import crowd
    import crowd_client

    # Every third request is refused, and every second number of the others is another one.
    wrong = crowd.CODE.replace(
        "        return pb_utils",
        '        if numbers[1] % 3 == 0:\n            raise pb_utils.TritonModelException("no")\n'
        "        numbers = numbers + numbers[1] % 2\n        return pb_utils",
    )
    assert wrong != crowd.CODE
    (tmp_path / "same/1").mkdir(parents=True)
    (tmp_path / "same/config.pbtxt").write_text(crowd.CONFIG)
    (tmp_path / "same/1/model.py").write_text(wrong)
    monkeypatch.setattr(crowd, "PATIENCE", 0)
    with StubEngine(tmp_path) as engine:
        url = getattr(engine, f"{protocol}_url")
        told = crowd_client.Client("same", 7).run(protocol, url, seconds=60)
        assert crowd.counted(engine, len(told["seconds"]))
    wrong = told["wrong"]
    assert len(wrong) == crowd_client.MOST_COMPLAINTS
    assert wrong[0] == "request 7.1 has the answer [8, 2] of request 7.1"
    assert wrong[1].startswith("request 7.3: InferenceServerException")
    assert len(told["seconds"]) < 60
