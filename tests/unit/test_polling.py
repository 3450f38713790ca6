"""What has changed in the repositories since they were looked at last."""

import os
import shutil
import time

import pytest
from model_files import CONFIG, write_model

from triton_stub.core.repository.folders import Folders
from triton_stub.core.repository.polling import poll_all, poll_named
from triton_stub.errors import ConfigError

ENSEMBLE = f"""
platform: "ensemble" {CONFIG}
ensemble_scheduling {{
    step {{
        model_name: "step" model_version: -1
        input_map {{ key: "IN" value: "IN" }} output_map {{ key: "OUT" value: "OUT" }}
    }}
}}
"""


class Watched:
    """A repository, and what is known of it."""

    def __init__(self, path):
        self.path = path
        self.folders = Folders([path])
        self.known = {}

    def poll(self, **named):
        if named:
            polled = poll_named(self.folders, self.known, named, strict=True)
        else:
            polled = poll_all(self.folders, self.known, strict=True)
        self.known |= {name: polled.known[name] for name in polled.added | polled.modified}
        for name in polled.deleted:
            del self.known[name]
        return polled


def touch(path):
    newer = max(path.stat().st_mtime_ns + 1, time.time_ns())
    os.utime(path, ns=(newer, newer))


@pytest.fixture
def watched(tmp_path):
    for name in ("a", "step"):
        write_model(tmp_path, name, config=f'backend: "python" {CONFIG}')
    write_model(tmp_path, "ensemble", config=ENSEMBLE)
    return Watched(tmp_path)


def test_all_models(watched):
    assert watched.poll().added == {"a", "step", "ensemble"}
    touch(watched.path / "a" / "1" / "model.py")
    shutil.rmtree(watched.path / "step")
    polled = watched.poll()
    assert polled.modified == {"a"}
    assert polled.unmodified == {"ensemble"}
    assert polled.deleted == {"step"}
    assert not polled.added
    assert not polled.errors


def test_models_by_name(watched):
    polled = watched.poll(a={})
    assert polled.added == {"a"}
    assert polled.known["a"].explicit


def test_the_steps_of_an_ensemble_come_along(watched):
    polled = watched.poll(ensemble={})
    assert polled.added == {"ensemble", "step"}
    assert polled.known["ensemble"].explicit
    assert not polled.known["step"].explicit
    touch(watched.path / "step" / "1" / "model.py")
    assert watched.poll(step={}).known["step"].explicit
    touch(watched.path / "step" / "1" / "model.py")
    # Once asked for by name it stays so.
    assert watched.poll(ensemble={}).known["step"].explicit


def test_a_step_that_is_not_there(watched):
    shutil.rmtree(watched.path / "step")
    polled = watched.poll(ensemble={})
    assert list(polled.errors) == ["step"]
    assert polled.lines == ["failed to poll model 'step': model not found in any model repository."]


def test_a_bad_configuration(watched):
    watched.poll()
    (watched.path / "a" / "config.pbtxt").write_text("nonsense: 1")
    (watched.path / "new").mkdir()
    (watched.path / "new" / "config.pbtxt").write_text("nonsense: 1")
    touch(watched.path / "a" / "config.pbtxt")
    polled = watched.poll()
    assert set(polled.errors) == {"a", "new"}
    assert all(isinstance(error, ConfigError) for error in polled.errors.values())
    # What is known goes on, what is not is no model.
    assert "a" in polled.unmodified
    assert "new" not in polled.known
    assert all(line.startswith("Poll failed for model directory '") for line in polled.lines)


def test_a_model_that_is_ambiguous_now(watched, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    watched.folders = Folders([watched.path, other])
    watched.poll()
    write_model(other, "a")
    polled = watched.poll()
    assert polled.deleted == {"a"}
    assert polled.lines == ["failed to poll model 'a': not unique across all model repositories"]


def test_a_repository_that_cannot_be_read(watched):
    watched.poll()
    (watched.path / "gone").symlink_to("nowhere")
    polled = watched.poll()
    assert polled.deleted == {"a", "step", "ensemble"}
    assert list(polled.errors) == [str(watched.path)]


def test_other_files_are_always_new(watched):
    given = {"config": '{"backend": "python"}', "file:1/model.py": b""}
    assert watched.poll(a=given).added == {"a"}
    assert watched.poll(a=given).modified == {"a"}


def test_a_model_of_another_name(watched, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write_model(other, "folder", config=f'name: "whatever" backend: "python" {CONFIG}')
    watched.folders.register(other, {"name": "folder"})
    polled = watched.poll(name={})
    assert polled.known["name"].source.config.name == "name"
    assert polled.known["name"].source.directory == other / "folder"
