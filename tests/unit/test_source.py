"""Models that come with a request: what is left of their files afterwards."""

import gc

import pytest

from triton_stub.core.repository import source

CONFIG = '{"backend": "python", "input": [], "output": []}'
DEEP = "1/" + "d/" * 900


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(source.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def within(calls, work):
    return within(calls - 1, work) if calls else work()


def test_files_go_with_their_source_however_deep_they_are(temporary):
    files = {"file:1/model.py": b"x", f"file:{DEEP}/file": b"y"}
    # From within as many calls as a server has made by then.
    made = within(100, lambda: source.written("m", {"config": CONFIG, **files}, strict=True))
    assert (made.directory / DEEP / "file").read_bytes() == b"y"
    del made
    gc.collect()
    assert not list(temporary.iterdir())


def test_files_of_a_model_that_is_refused_go_at_once(temporary):
    with pytest.raises(OSError, match="Is a directory"):
        source.written("m", {"config": CONFIG, f"file:{DEEP}/a": b"", "file:1": b""}, strict=True)
    assert not list(temporary.iterdir())
