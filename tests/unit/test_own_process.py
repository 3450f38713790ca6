"""A model in a process of its own: what it finds there, and what it leaves behind."""

import importlib
import subprocess
import sys
import textwrap
import threading
from types import ModuleType

import pytest
from instances import write_files

from triton_stub.runtime.own_process import OWN_THREADS, OwnOffspring, OwnScope


@pytest.fixture
def process(monkeypatch):
    """This one, which forgets what the test does to it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.usefixtures("process")
def test_modules_are_everybodys_and_leave_no_bytecode(tmp_path):
    files = {
        "1/model.py": "import sys, aid\nfrom .near import NEAR\nOWN = sys.modules[__name__]",
        "1/near.py": "NEAR = 1",
        "aid.py": "import fake",
    }
    fake = ModuleType("fake")
    folder = write_files(tmp_path / "m", files)
    scope = OwnScope([folder, folder.parent], {"fake": fake})
    with scope.active(), scope.suspended():
        model = scope.import_module("1.model")
    assert model is sys.modules["1.model"] is model.OWN
    assert model.NEAR == 1
    assert model.aid.fake is fake
    assert sys.path[-3:-1] == [str(tmp_path / "m" / "1"), str(tmp_path / "m")]
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.usefixtures("process")
def test_other_modules_are_imported_as_always(tmp_path):
    files = {"1/model.py": "import other", "elsewhere/other.py": ""}
    folder = write_files(tmp_path / "m", files)
    sys.path.append(str(write_files(tmp_path, {"there/other.py": "X = 2"}).parent / "there"))
    model = OwnScope([folder, folder.parent], {}).import_module("1.model")
    assert model.other.X == 2


def test_who_runs_and_who_keeps_the_process_from_ending():
    gate = threading.Event()
    before = set(OwnOffspring().running())
    threads = [
        threading.Thread(target=gate.wait, name=name, daemon=daemon)
        for name, daemon in ((f"{OWN_THREADS}reader", True), ("daemon", True), ("worker", False))
    ]
    for thread in threads:
        thread.start()
    try:
        assert set(OwnOffspring().running()) - before == set(threads[1:])
        assert threads[2] in OwnOffspring().left()
        assert threads[1] not in OwnOffspring().left()
        assert not OwnOffspring().daemons()
    finally:
        gate.set()
        for thread in threads:
            thread.join()


def test_children_of_multiprocessing_are_seen():
    program = """
        import multiprocessing, time
        from triton_stub.runtime.own_process import OwnOffspring
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[600])
        child.start()
        print(OwnOffspring().left() == [child])
        child.kill()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    assert subprocess.run(command, capture_output=True, check=True, timeout=60).stdout == b"True\n"
