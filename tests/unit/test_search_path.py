"""Where a model's own modules are looked for."""

import pytest
from instances import write_files

from triton_stub.runtime.search_path import SearchPath

GIVEN = ("/m/1", "/m")
PROCESS = ["", "/lib"]


@pytest.fixture
def path():
    return SearchPath(GIVEN)


def test_the_models_folders_come_last(path):
    assert path.around(PROCESS) == ["", "/lib", "/m/1", "/m"]


def test_nothing_changed(path):
    assert path.changed(path.around(PROCESS), PROCESS) == path


def test_what_a_model_adds_keeps_its_end(path):
    now = ["/first", "/second", *path.around(PROCESS), "/last"]
    changed = path.changed(now, PROCESS)
    assert changed == SearchPath(GIVEN, front=("/first", "/second"), back=("/last",))
    assert changed.around(PROCESS) == now
    assert changed.changed(now, PROCESS) == changed


def test_what_a_model_takes_away_again(path):
    changed = path.changed(["/first", *path.around(PROCESS)], PROCESS)
    assert changed.changed(path.around(PROCESS), PROCESS) == path


def test_a_folder_that_the_process_has_too_is_the_models(path):
    process = ["/m/1", "/lib"]
    assert path.changed(path.around(process), process) == path


@pytest.mark.parametrize(
    "files",
    [{"1/mine.py": ""}, {"mine.py": ""}, {"1/mine/__init__.py": ""}, {"1/mine/part.py": ""}],
    ids=["version folder", "model folder", "package", "namespace package"],
)
def test_the_models_own_module(tmp_path, files):
    version = write_files(tmp_path, files)
    assert SearchPath((str(version), str(tmp_path))).has("mine")


def test_neither_here_nor_there(tmp_path):
    assert not SearchPath((str(tmp_path),)).has("mine")


def test_an_installed_package_wins_over_a_file_beside_the_model(tmp_path):
    write_files(tmp_path, {"numpy.py": ""})
    assert not SearchPath((str(tmp_path),)).has("numpy")


def test_but_not_over_a_folder_that_the_model_put_first(tmp_path):
    write_files(tmp_path, {"numpy.py": ""})
    path = SearchPath(GIVEN, front=(str(tmp_path),))
    assert path.has("numpy")
    assert path.find("numpy").origin == str(tmp_path / "numpy.py")


def test_a_relative_folder(tmp_path, monkeypatch):
    write_files(tmp_path, {"source/mine.py": ""})
    monkeypatch.chdir(tmp_path)
    assert SearchPath(GIVEN, back=("source",)).has("mine")
