"""The import scope: what a model's code sees, and what nobody else sees of it."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread
from types import ModuleType

import numpy as np
import pytest
from instances import write_files

from triton_stub.runtime.scope import ImportScope

MODEL = "1.model"
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def the_process_is_left_as_it_was(tmp_path):
    # A patch of its own: what a test patches must be undone before this looks.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", False)
        modules, path, finders = sys.modules.copy(), sys.path.copy(), sys.meta_path.copy()
        yield
        assert sys.modules == modules
        assert sys.path == path
        assert sys.meta_path == finders
        assert list(tmp_path.rglob("__pycache__")) == []


def scope_of(folder, files, **backend_modules):
    version = write_files(folder, files)
    return ImportScope([version, version.parent], backend_modules)


def model(folder, files, **backend_modules):
    """Import the model of these files; the others are beside it."""
    if isinstance(files, str):
        files = {"1/model.py": files}
    return scope_of(folder, files, **backend_modules).import_module(MODEL)


# What a model sees


def test_a_model_is_a_module_of_its_version(tmp_path):
    module = model(tmp_path, "names = (__name__, __package__, __file__, __spec__.name)")
    assert module.names == (MODEL, "1", str(tmp_path / "1" / "model.py"), MODEL)


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("1/helper.py", "import helper"),
        ("helper.py", "import helper"),
        ("1/helper.py", "from . import helper"),
        ("1/helper/__init__.py", "import helper"),
        ("1/package/helper.py", "from package import helper"),
        ("1/package/helper.py", "from .package import helper"),
        ("package/helper.py", "import package.helper as helper"),
        ("1/helper.py", "import importlib; helper = importlib.import_module('helper')"),
        ("1/helper.py", "import sys; __import__('helper'); helper = sys.modules['helper']"),
    ],
)
def test_ways_to_import_a_helper(tmp_path, name, statement):
    module = model(tmp_path, {"1/model.py": statement, name: "value = 7"})
    assert module.helper.value == 7


def test_the_version_folder_comes_before_the_model_folder(tmp_path):
    files = {"1/model.py": "from helper import value", "1/helper.py": "value = 'version'"}
    assert model(tmp_path, {**files, "helper.py": "value = 'model'"}).value == "version"


def test_helpers_import_each_other(tmp_path):
    files = {
        "1/model.py": "from package.one import value",
        "1/package/__init__.py": "from . import two",
        "1/package/one.py": "from .two import half\nfrom helper import half as other\n"
        "value = half + other",
        "1/package/two.py": "half = 3",
        "1/helper.py": "import package.two\nhalf = package.two.half + 1",
    }
    assert model(tmp_path, files).value == 7


def test_modules_that_import_each_other(tmp_path):
    files = {
        "1/model.py": "import helper\nvalue = helper.value()",
        "1/helper.py": "import other\ndef value(): return other.value()",
        "1/other.py": "import helper\ndef value(): return (helper.__name__, 7)",
    }
    assert model(tmp_path, files).value == ("helper", 7)


def test_backend_modules(tmp_path):
    backend = ModuleType("backend_module")
    module = model(
        tmp_path,
        "import backend_module\ndef later():\n    import backend_module\n    return backend_module",
        backend_module=backend,
    )
    assert module.backend_module is backend
    assert module.later() is backend


def test_installed_packages_and_the_standard_library_are_the_process_s(tmp_path):
    files = {
        "1/model.py": "import numpy, json, helper",
        "1/helper.py": "import numpy",
        "1/numpy.py": "raise AssertionError",
        "1/json.py": "raise AssertionError",
    }
    module = model(tmp_path, files)
    assert module.numpy is module.helper.numpy is np
    assert module.json is sys.modules["json"]


def test_a_module_of_the_test_run_is_seen_where_the_model_has_none(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "helper", ModuleType("helper"))
    assert model(tmp_path, "import helper").helper is sys.modules["helper"]


def test_a_module_of_the_test_run_is_not_seen_where_the_model_has_one(tmp_path, monkeypatch):
    theirs = ModuleType("helper")
    monkeypatch.setitem(sys.modules, "helper", theirs)
    files = {
        "1/model.py": "import helper\ndef later():\n    import helper\n    return helper",
        "1/helper.py": "value = 7",
    }
    module = model(tmp_path, files)
    assert module.helper.value == 7
    assert sys.modules["helper"] is theirs
    assert module.later() is module.helper
    assert sys.modules["helper"] is theirs


@pytest.mark.parametrize("future", ["", "from __future__ import annotations"])
def test_dataclasses(tmp_path, future):
    text = f"""
        {future}
        from dataclasses import dataclass
        from typing import ClassVar, get_type_hints

        @dataclass(slots=True)
        class Point:
            x: int
            count: ClassVar[int] = 0

        point, hints = Point(3), get_type_hints(Point)
    """
    module = model(tmp_path, text)
    assert repr(module.point) == "Point(x=3)"
    assert module.hints["x"] is int


def test_pickle_while_the_model_is_loaded_and_not_later(tmp_path):
    text = "import pickle\nclass Point: pass\nsaved = pickle.dumps(Point())\n"
    scope = scope_of(tmp_path, {"1/model.py": text})
    module = scope.import_module(MODEL)
    with scope.active():
        assert type(pickle.loads(module.saved)) is module.Point
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(module.saved)


# Later, in execute


def test_an_import_that_is_reached_later(tmp_path):
    files = {
        "1/model.py": "def later():\n    from helper import value\n    from .other import twice\n"
        "    return twice(value)",
        "1/helper.py": "value = 7",
        "1/other.py": "def twice(value):\n    import third\n    return third.twice(value)",
        "third.py": "def twice(value): return 2 * value",
    }
    assert model(tmp_path, files).later() == 14


def test_parts_of_a_package_that_are_reached_later(tmp_path):
    files = {
        "1/model.py": "import package\ndef later():\n    import package.part\n"
        "    from package import other\n    return package.part.value + other.value",
        "1/package/__init__.py": "",
        "1/package/part.py": "value = 3",
        "1/package/other.py": "value = 4",
    }
    assert model(tmp_path, files).later() == 7


def test_many_threads_import_the_same_helper_at_once(tmp_path):
    files = {
        "1/model.py": "def later(barrier):\n    barrier.wait()\n    import helper\n"
        "    return helper",
        "1/helper.py": "import time\ntime.sleep(0.01)\nvalue = 7",
    }
    module = model(tmp_path, files)
    barrier = Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(module.later, barrier) for _ in range(8)]
        helpers = {future.result(PATIENCE) for future in found}
    assert [helper.value for helper in helpers] == [7]


@pytest.mark.parametrize(
    ("start", "call"),
    [
        ("import importlib", "importlib.import_module('helper')"),
        ("import importlib.util", "importlib.import_module('helper')"),
        ("import importlib as i", "i.import_module('.helper', __package__)"),
        ("from importlib import import_module", "import_module('helper', package=None)"),
        ("from importlib import *", "import_module('1.helper')"),
        ("import importlib, helper", "importlib.reload(helper)"),
    ],
)
def test_a_helper_that_is_imported_later_by_its_name(tmp_path, start, call):
    files = {"1/model.py": f"{start}\ndef later(): return {call}.value", "1/helper.py": "value = 7"}
    assert model(tmp_path, files).later() == 7


def test_importlib_is_the_process_s_for_everything_else(tmp_path):
    text = "import importlib, numpy\nfound = importlib.import_module('numpy') is numpy\n"
    module = model(tmp_path, text + "def later(name): return importlib.import_module(name)")
    assert module.found
    assert module.later("json") is sys.modules["json"]
    assert module.importlib.util is sys.modules["importlib.util"]
    assert module.importlib.reload(sys.modules["keyword"]) is sys.modules["keyword"]
    for name, error in (("nowhere", ModuleNotFoundError), (".json", TypeError)):
        with pytest.raises(error):
            module.later(name)
    with pytest.raises(AttributeError, match=r"module 'importlib' has no attribute 'nothing'"):
        module.importlib.nothing  # noqa: B018


def test_later_a_module_is_not_in_sys_modules(tmp_path):
    module = model(tmp_path, "import sys\ndef later(): return sys.modules[__name__]")
    with pytest.raises(KeyError):
        module.later()


# Two models


HELPED = "import helper\ndef later():\n    import late\n    return late.value\n"


def helped(folder, value):
    return {
        "1/model.py": HELPED,
        "1/helper.py": f"value = {value!r}",
        "late.py": f"value = 'late ' + {value!r}",
    }


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_helpers_of_the_same_name(tmp_path, order):
    modules = {name: model(tmp_path / name, helped(tmp_path, name)) for name in order}
    assert {name: module.helper.value for name, module in modules.items()} == {"a": "a", "b": "b"}
    for name in "abba":
        assert modules[name].later() == f"late {name}"


def test_models_that_are_loaded_at_once(tmp_path):
    names = "abcdefgh"
    barrier = Barrier(len(names))

    def load_and_use(name):
        barrier.wait()
        module = model(tmp_path / name, helped(tmp_path, name))
        return module.helper.value, module.later(), module.later()

    with ThreadPoolExecutor(len(names)) as pool:
        found = {name: pool.submit(load_and_use, name) for name in names}
        for name, future in found.items():
            assert future.result(PATIENCE) == (name, f"late {name}", f"late {name}")


def test_two_instances_of_one_model_share_nothing(tmp_path):
    first = model(tmp_path, {"1/model.py": "import helper", "1/helper.py": "seen = []"})
    second = ImportScope([tmp_path / "1", tmp_path], {}).import_module(MODEL)
    assert first is not second
    assert first.helper.seen is not second.helper.seen


def test_one_scope_waits_for_another(tmp_path, monkeypatch):
    events = ModuleType("events")
    events.seen = []
    monkeypatch.setitem(sys.modules, "events", events)
    first = scope_of(tmp_path / "a", {"1/model.py": "import events"})
    second = scope_of(tmp_path / "b", {"1/model.py": "import events\nevents.seen.append('second')"})
    started = Event()

    def import_second():
        started.set()
        second.import_module(MODEL)

    thread = Thread(target=import_second)
    with first.active():
        thread.start()
        assert started.wait(PATIENCE)
        first.import_module(MODEL)
        thread.join(0.1)  # it would be done by then
        events.seen.append("first")
    thread.join(PATIENCE)
    assert events.seen == ["first", "second"]


def test_what_is_imported_already_does_not_wait_for_another_scope(tmp_path):
    files = {
        "1/model.py": "import helper\ndef later():\n    import helper\n    import json\n"
        "    return helper.value",
        "1/helper.py": "value = 7",
    }
    module = model(tmp_path / "a", files)
    with (
        ThreadPoolExecutor(1) as pool,
        scope_of(tmp_path / "b", {"1/model.py": ""}).active(),
    ):
        assert pool.submit(module.later).result(PATIENCE) == 7


def test_an_import_may_wait_for_a_thread_that_imports(tmp_path):
    files = {
        "1/model.py": "from concurrent.futures import ThreadPoolExecutor\n"
        "def fetch():\n    import helper\n    return helper.value\n"
        "with ThreadPoolExecutor(1) as pool:\n    value = pool.submit(fetch).result(60)",
        "1/helper.py": "value = 7",
    }
    assert model(tmp_path, files).value == 7


# sys.argv and sys.path


def test_there_are_no_arguments(tmp_path):
    before = sys.argv
    text = (
        "import argparse, sys\nargv = sys.argv\narguments = argparse.ArgumentParser().parse_args()"
    )
    assert model(tmp_path, text).argv == [""]
    assert sys.argv is before


def test_the_folders_at_the_end_of_the_path(tmp_path):
    path = model(tmp_path, "import sys\npath = sys.path.copy()").path
    assert path == [
        *sys.path, str(tmp_path / "1"), str(tmp_path), "/opt/tritonserver/backends/python"
    ]  # fmt: skip


def test_a_folder_that_the_model_adds_to_its_path(tmp_path):
    text = (
        "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), 'source'))\n"
        "import mine\ndef later():\n    import more\n    return more.value"
    )
    folders = [tmp_path / "a", tmp_path / "b"]
    modules = [
        model(folder, {"1/model.py": text, "1/source/mine.py": f"value = {folder.name!r}",
                       "1/source/more.py": f"value = {folder.name!r}"})
        for folder in folders
    ]  # fmt: skip
    assert [module.mine.value for module in modules] == ["a", "b"]
    assert [module.later() for module in modules] == ["a", "b"]


def test_a_folder_that_the_model_puts_first_wins_over_the_test_run(tmp_path, monkeypatch):
    theirs = ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", theirs)
    files = {
        "1/model.py": "import sys\nimport mine as before\n"
        f"sys.path.insert(0, {str(tmp_path / 'source')!r})\nimport mine",
        "source/mine.py": "value = 7",
    }
    module = model(tmp_path, files)
    assert module.before is theirs
    assert module.mine.value == 7
    assert sys.modules["mine"] is theirs


def test_a_folder_of_the_test_run_that_is_called_like_a_version(tmp_path, monkeypatch):
    files = {
        "1/model.py": "def later():\n    from .helper import value\n    return value",
        "1/helper.py": "value = 'mine'",
    }
    module = model(tmp_path / "m", files)
    write_files(tmp_path / "theirs", {"1/helper.py": "value = 'theirs'"})
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(tmp_path / "theirs"), *sys.path])
        assert module.later() == "mine"


# Failures


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"1/model.py": "import missing"}, ModuleNotFoundError),
        ({"1/model.py": "import helper", "1/helper.py": "1 / 0"}, ZeroDivisionError),
        ({"1/model.py": "import helper\nclass"}, SyntaxError),
        ({"1/model.py": "import sys\nsys.path.append('x')\nsys.exit(3)"}, SystemExit),
        ({"1/other.py": ""}, ModuleNotFoundError),
    ],
)
def test_an_import_that_fails_leaves_nothing_behind(tmp_path, files, error):
    scope = scope_of(tmp_path, files)
    for _ in range(2):
        with pytest.raises(error):
            scope.import_module(MODEL)


def test_a_later_import_that_fails_may_be_tried_again(tmp_path):
    files = {"1/model.py": "def later():\n    import helper\n    return helper.value"}
    module = model(tmp_path, {**files, "1/helper.py": "import missing"})
    with pytest.raises(ModuleNotFoundError):
        module.later()
    (tmp_path / "1" / "helper.py").write_text("value = 7")
    assert module.later() == 7


def test_a_scope_may_be_entered_again_from_within(tmp_path):
    scope = scope_of(tmp_path, {"1/model.py": "value = 7"})
    with scope.active(), scope.active():
        module = scope.import_module(MODEL)
        assert sys.modules[MODEL] is module
    assert MODEL not in sys.modules


# Turns


def in_a_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(PATIENCE)


def test_another_scope_has_its_turn_while_one_is_suspended(tmp_path):
    first = scope_of(tmp_path / "a", {"1/model.py": "value = 'a'"})
    second = scope_of(tmp_path / "b", {"1/model.py": "value = 'b'"})
    with first.active():
        mine = first.import_module(MODEL)
        with first.suspended():
            assert MODEL not in sys.modules
            assert in_a_thread(lambda: second.import_module(MODEL)).value == "b"
        assert sys.modules[MODEL] is mine
    assert MODEL not in sys.modules


def test_a_thread_of_a_scope_that_is_loading_may_suspend_it(tmp_path):
    first = scope_of(tmp_path / "a", {"1/model.py": ""})
    second = scope_of(tmp_path / "b", {"1/model.py": "value = 'b'"})

    def load_another():
        with first.suspended():
            return in_a_thread(lambda: second.import_module(MODEL)).value

    with first.active():
        mine = first.import_module(MODEL)
        assert in_a_thread(load_another) == "b"
        assert sys.modules[MODEL] is mine


def test_a_suspended_scope_imports_in_another_thread(tmp_path):
    files = {
        "1/model.py": "def later():\n    import late\n    return late.value",
        "late.py": "value = 3",
    }
    scope = scope_of(tmp_path, files)
    with scope.active():
        module = scope.import_module(MODEL)
        with scope.suspended():
            assert in_a_thread(module.later) == 3
            assert MODEL not in sys.modules
        assert sys.modules["late"].value == 3


def test_an_import_may_suspend_its_scope(tmp_path, monkeypatch):
    second = scope_of(tmp_path / "b", {"1/model.py": "value = 'b'"})
    tools = ModuleType("tools")
    monkeypatch.setitem(sys.modules, "tools", tools)
    files = {
        "1/model.py": "def later():\n    import late\n    return late.value",
        "late.py": "import tools\nvalue = tools.load_another()",
    }
    scope = scope_of(tmp_path / "a", files)
    module = scope.import_module(MODEL)

    def load_another():
        with scope.suspended():
            return in_a_thread(lambda: second.import_module(MODEL)).value

    tools.load_another = load_another
    assert module.later() == "b"
    assert in_a_thread(load_another) == "b", "nothing is active: nothing happens"


def test_another_thread_s_import_is_finished_before_the_scope_gives_up_its_turn(
    tmp_path, monkeypatch
):
    tools = ModuleType("tools")
    tools.inside, tools.go_on = Event(), Event()
    monkeypatch.setitem(sys.modules, "tools", tools)
    files = {
        "1/model.py": "def later():\n    import late\n    return late.value",
        "late.py": "import tools\ntools.inside.set()\nvalue = tools.go_on.wait(60)",
    }
    scope = scope_of(tmp_path, files)
    with scope.active(), ThreadPoolExecutor(1) as pool:
        module = scope.import_module(MODEL)
        late = pool.submit(module.later)
        assert tools.inside.wait(PATIENCE)
        with scope.suspended():
            assert "late" in sys.modules
            tools.go_on.set()
            assert late.result(PATIENCE) is True
            assert "late" not in sys.modules


def test_two_threads_may_suspend_a_scope_at_once(tmp_path):
    scope = scope_of(tmp_path, {"1/model.py": ""})
    inside, go_on = Event(), Event()

    def suspend():
        with scope.suspended():
            inside.set()
            return go_on.wait(PATIENCE)

    with scope.active(), ThreadPoolExecutor(1) as pool:
        mine = scope.import_module(MODEL)
        other = pool.submit(suspend)
        assert inside.wait(PATIENCE)
        with scope.suspended():
            pass
        assert MODEL not in sys.modules
        go_on.set()
        assert other.result(PATIENCE)
        assert sys.modules[MODEL] is mine
