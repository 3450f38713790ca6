"""Models that load, unload and ask for other models; and when a model is loaded again."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from broken_models import CONFIG, write_models
from conftest import MODELS
from mortal import MortalEngines, control, touch
from patience import wait_until
from probing import expressions, probe

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine

IN = np.ones(1, np.float32)
# Every model writes down, in EVENTS, that it begins or ends, and runs code when it does.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

def run(code, args):
    names = {"pb": pb_utils, "args": args}
    try:
        exec(code, names)
        return names.get("told")
    except pb_utils.TritonModelException as error:
        return str(error)

def note(*words):
    with open("EVENTS", "a") as file:
        print(*words, file=file)

class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        self.told = run(BEGIN, args)
        note("TEXT", args["model_name"], args["model_version"], "begins")

    def execute(self, requests):
        out = pb_utils.Tensor("OUT", np.array([repr(self.told).encode()], object))
        return [pb_utils.InferenceResponse([out]) for _ in requests]

    def finalize(self):
        told = run(END, self.args)
        note("TEXT", self.args["model_name"], self.args["model_version"], "ends", told)
"""


class World:
    """A repository, and what happened to its models."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "models"
        self._folder = folder
        self.begin()
        shutil.copytree(MODELS / "probe", self.repository / "probe")

    def begin(self) -> None:
        """A new case: nothing has happened yet, and ``_N`` means another number."""
        self.number = f"_{next(_NUMBERS)}"
        self.events = self._folder / f"events{self.number}"
        self.models: list[str] = []

    def path(self, path: str) -> Path:
        """A file or folder of a model."""
        return self.repository / path.replace("_N", self.number)

    def probe(self, engine: Engine, code: str, model: str = "probe") -> str:
        """What code tells that runs in a model."""
        told = probe(engine, code.replace("_N", self.number), model=model)
        # Each engine has its own folders.
        return re.sub(r"  /\S*/(?=\d+/model\.py\()", "  …/", told)

    def add(self, name: str, *, text: str = "disk", config: str = CONFIG, versions: int = 1,
            begin: str = "", end: str = "") -> None:  # fmt: skip
        """Write a model, whose initialize and finalize run code."""
        name = name.replace("_N", self.number)
        self.models.append(name)
        code = self.code(text, begin.replace("_N", self.number), end.replace("_N", self.number))
        files = {f"{version}/model.py": code for version in range(1, versions + 1)}
        write_models(self.repository, {name: files}, config)

    def add_probe(self, name: str) -> str:
        """Another model that runs code; its name."""
        path = self.path(name)
        shutil.copytree(MODELS / "probe_async", path)
        self.models.append(path.name)
        return path.name

    def code(self, text: str, begin: str = "", end: str = "") -> str:
        """The text of a ``model.py``."""
        code = MODEL.replace("EVENTS", str(self.events)).replace("TEXT", text)
        return code.replace("BEGIN", repr(begin)).replace("END", repr(end))

    def happened(self, count: int) -> list[str]:
        """What happened since this was asked last, as soon as it is so much."""
        wait_until(lambda: (self.events.exists() and len(self._lines()) >= count) or not count)
        lines = self._lines() if self.events.exists() else []
        self.events.unlink(missing_ok=True)
        return lines

    def _lines(self) -> list[str]:
        return self.events.read_text().splitlines()


_NUMBERS = itertools.count()
JSON = {
    "backend": "python",
    "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]}],
}
OTHER_JSON = {**JSON, "parameters": {"k": {"string_value": "v"}}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"))
    world.add("good")
    world.add("two", versions=2, config=CONFIG + "version_policy { all { } }")
    world.add("bad", begin="raise ValueError('boo')")
    world.add("garbled", config="nonsense: 1")
    (world.repository / "empty").mkdir()
    (world.repository / "empty" / "config.pbtxt").write_text(CONFIG)
    return world


@pytest.fixture(scope="module")
def engines(world: World) -> Iterator[MortalEngines]:
    """Both engines; only the model that runs code is loaded."""
    with MortalEngines(world.repository, ["probe"], strict=True) as both:
        yield both


NAMES = ("good", "two", "bad", "garbled", "empty", "new")
GIVEN = f"""
LM, UM, RM = pb_utils.load_model, pb_utils.unload_model, pb_utils.is_model_ready
J, O = {json.dumps(JSON)!r}, {json.dumps(OTHER_JSON)!r}
for name in {NAMES}: UM(name)
"""
LINES = """
# 1.2-load-model 2.12-arguments
LM('good')
LM(model_name='good', config='', files=None)
LM('good', J, None)
LM(b'good', b'')
LM('go\\0od')
LM('good\\0x')
LM()
LM(None)
LM(1)
LM('good', None)
LM('good', config=1)
LM('good', '', None, 1)
LM(name='good')
# 1.2-unload-model 2.12-arguments
UM('good'), UM(model_name='good', unload_dependents=True), UM(b'good', 1), UM('good', [])
UM('good', np.bool_(True))
UM()
UM(None)
UM('good', None)
UM('good', 'x')
UM('good', 0.0)
UM('good', unload_dependents=object())
UM('good', False, 1)
# 1.2-is-model-ready 2.12-arguments
RM('probe'), RM('probe', ''), RM(model_name='probe', model_version='1'), RM(b'probe', b'1')
RM()
RM('probe', 1)
RM('probe', None)
RM(1)
RM(name='probe')
# 2.12-unknown
LM('nope')
LM('good ')
LM('events')
LM('..good')
# 2.12-failing
LM('bad')
LM('garbled')
LM('empty')
RM('bad'), RM('bad', '1')
# 2.12-files-type
LM('good', files=[])
LM('good', files='x')
LM('good', '', (('file:1/model.py', b''),))
LM('go\\0od', files=3)
LM('good', J, {'file:1/model.py': 'x'})
LM('good', J, {'file:1/model.py': None})
LM('good', J, {'file:1/model.py': bytearray(b'x')})
LM('good', J, {'file:1/model.py': np.zeros(1)})
LM('good', J, {'file:1/model.py': memoryview(b'x')})
LM('good', J, {'file:1/model.py': c.COUNTER})
LM('good', J, {1: b'x'})
LM('good', J, {None: b'x'})
LM('good', J, {'a': b'x', 1: 'x'})
import types; LM('good', J, types.MappingProxyType({}))
# 2.12-files-config
LM('new', files={'file:1/model.py': b''})
LM('new', '', {'file:1/model.py': b''})
LM('good', '', {'1/model.py': b'x'})
LM('good', '', {'config': b'x'})
LM('good', 'x')
LM('good', '[]')
LM('good', '3')
LM('good', '{')
LM('good', '{"nonsense": 1}')
LM('good', '{"name": "other"}')
LM('new', J)
# 2.12-files
LM('new', J, {'file:1/model.py': b'raise ValueError(5)'})
LM('new', J, {'file:../x/model.py': b''})
LM('new', J, {'file:1/../../x': b''})
LM('new', J, {'file:/x/model.py': b''})
LM('new', J, {'file:model.py': b''})
LM('new', J, {'file:1': b''})
LM('new', J, {'file:': b''})
LM('new', J, {'config': b'x'})
# 2.12-unload-unknown
UM('nope'), UM(''), UM('good'), UM('a/b'), UM('..')
# 2.12-ready-unknown
RM('nope'), RM('probe', '2'), RM('', ''), RM('good'), RM('prob\\0e'), RM('a/b'), RM('nope', '1')
# 2.12-ready-version
[RM('probe', text) for text in ('1', '1x', ' 1', '\\t\\n\\v\\f\\r 1', '+1', '01', '1.5', '1\\0', '1-')]
[RM('probe', text) for text in ('0', '-0', '0x1', '2', '9223372036854775807')]
RM('probe', 'abc')
RM('probe', ' ')
RM('probe', '-1')
RM('probe', '-9223372036854775808')
RM('probe', '-9223372036854775809')
RM('probe', '9223372036854775808')
RM('probe', '--1')
RM('probe', '+')
RM('probe', 'x1')
RM('probe', '\\xa01')
RM('probe', 'a\\0b')
RM('nope', 'abc')
# 2.12-when
LM('good'), RM('good'), RM('good', '1'), RM('good', '2'), UM('good'), RM('good')
LM('two'), RM('two'), [RM('two', v) for v in '0123'], UM('two'), RM('two', '1')
LM('new', J, {'file:7/model.py': b'class TritonPythonModel: pass'}), RM('new', '7'), RM('new', '1')
"""  # noqa: E501


@pytest.mark.parametrize("line", expressions(LINES))
def test_a_line_in_a_model(engines: MortalEngines, line: str) -> None:
    def told(engine: Engine) -> str:
        # Models from files that come with the call are in a folder of their own.
        return re.sub(r"  /\S*/(?=\d+/model\.py\()", "  …/", probe(engine, GIVEN + line))

    engines.same(told)


NEWER_NAMES = ["", " ", "\t\n", "..", " .. ", "a/b", "/", "./good", "../good", "good/1"]


@pytest.mark.rule("2.12-names")
@pytest.mark.newer("26.03", "core model_repository_manager.cc: ValidateModelName")
@pytest.mark.parametrize("name", NEWER_NAMES)
def test_names_that_are_refused(engines: MortalEngines, name: str) -> None:
    told = probe(engines.stub, f"pb_utils.load_model({name!r})")
    said = (
        f"invalid model name '{name}', model name must not contain path traversal characters"
        if name.strip()
        else "Model name cannot be empty. Please enter a valid name to deploy."
    )
    assert told == (
        "c_python_backend_utils.TritonModelException: Failed to load model: Failed to process the "
        f"request for model 'probe_0', message: {said}"
    )


# When a model is loaded again: the repository changes, so each engine has one of its own.


class Worlds(NamedTuple):
    """Both engines, and the repositories of each."""

    engines: MortalEngines
    stub: World
    native: World

    def same(self, body: Callable[[Engine, World], Any]) -> Any:
        """The same as ``MortalEngines.same``; with ``_N`` at the end of the names of models."""

        return self.engines.same(lambda engine: self.outcome(engine, body))

    def outcome(self, engine: Engine, body: Callable[[Engine, World], Any]) -> Any:
        """What ``body`` returns on one engine."""
        world = self.stub if isinstance(engine, StubEngine) else self.native
        world.begin()
        try:
            told = body(engine, world)
        finally:
            for name in world.models:
                control(engine, "unload", name)
        return json.loads(json.dumps(told).replace(world.number, "_N"))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    """Both engines with a repository of its own each; only the probes are loaded."""
    stub, native = (World(tmp_path_factory.mktemp(name)) for name in ("stub", "native"))
    with MortalEngines(
        native.repository, ["probe"], stub_repository=stub.repository, strict=True
    ) as engines:
        yield Worlds(engines, stub, native)


Step = str | Callable[[World], object]


def load(*arguments: str) -> str:
    return f"pb_utils.load_model({', '.join(arguments)})"


def tried(code: str) -> str:
    return f"try: {code}\nexcept pb_utils.TritonModelException as e: told = str(e)\ntold"


def changed(path: str) -> Step:
    return lambda world: touch(world.path(path))


def written(path: str, text: str = "") -> Step:
    def write(world: World) -> None:
        world.path(path).write_text(text)
        touch(world.path(path))

    return write


def removed(path: str) -> Step:
    return lambda world: shutil.rmtree(world.path(path))


GOOD, TWO, NEW = load("'good_N'"), load("'two_N'"), load("'new_N'")
PLAIN, OTHER = repr(json.dumps(JSON)), repr(json.dumps(OTHER_JSON))
ALL = CONFIG + "version_policy { all { } }"
# Steps, and how many things each of them lets happen.
AGAIN: dict[str, list[tuple[Step, int]]] = {
    "unmodified": [(GOOD, 1), (GOOD, 0), (load("'good_N'", "''"), 0)],
    "unloaded": [(GOOD, 1), ("pb_utils.unload_model('good_N')", 1), (GOOD, 1)],
    "code": [(GOOD, 1), (changed("good_N/1/model.py"), 0), (GOOD, 2)],
    "another file": [(GOOD, 1), (written("good_N/x.txt"), 0), (GOOD, 2)],
    "same configuration": [
        (GOOD, 1), (written("good_N/config.pbtxt", CONFIG + "\n"), 0), (GOOD, 0)],
    "other configuration": [
        (GOOD, 1), (written("good_N/config.pbtxt", CONFIG + "max_batch_size: 2"), 0), (GOOD, 2)],
    "fewer versions": [(TWO, 2), (written("two_N/config.pbtxt", CONFIG), 0), (TWO, 1)],
    "more versions": [
        (written("two_N/config.pbtxt", CONFIG), 0), (TWO, 1),
        (written("two_N/config.pbtxt", ALL), 0), (TWO, 1)],
    "one version": [(TWO, 2), (changed("two_N/2/model.py"), 0), (TWO, 2)],
    "a file for all versions": [(TWO, 2), (written("two_N/x.txt"), 0), (TWO, 4)],
    "a version that is gone": [(TWO, 2), (removed("two_N/2"), 0), (TWO, 1)],
    "config": [
        (load("'good_N'", OTHER), 1), (load("'good_N'", OTHER), 0), (GOOD, 0),
        (load("'good_N'", PLAIN), 2), (GOOD, 0), (changed("good_N/1/model.py"), 0), (GOOD, 2)],
    "bad config": [(GOOD, 1), (tried(load("'good_N'", "'{'")), 0), (GOOD, 0)],
    "broken code": [
        (GOOD, 1), (written("good_N/1/model.py", "1 / 0"), 0), (tried(GOOD), 0),
        (tried(GOOD), 0), ("pb_utils.is_model_ready('good_N')", 0),
        ("pb_utils.unload_model('good_N')", 1), (tried(GOOD), 0)],
    "broken version": [
        (TWO, 2), (written("two_N/2/model.py", "1 / 0"), 0), (changed("two_N/1/model.py"), 0),
        (tried(TWO), 2), ("pb_utils.is_model_ready('two_N', '2')", 0)],
    "files": [
        (GOOD, 1), (load("'good_N'", OTHER, "FILES"), 2), (load("'good_N'", OTHER, "OTHERS"), 0),
        (load("'good_N'", PLAIN, "OTHERS"), 2), (GOOD, 2)],
    "files of no model": [
        (load("'new_N'", PLAIN, "FILES"), 1), ("pb_utils.is_model_ready('new_N', '2')", 0),
        (tried(NEW), 0), ("pb_utils.unload_model('new_N')", 1), (tried(NEW), 0)],
}  # fmt: skip
RULES = {"config": "config", "files": "files", "bad config": "files-config"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.rule("4.11-reload", "2.12-" + RULES.get(n, "unmodified")))
        for n in AGAIN
    ],
)
def test_what_is_loaded_again(worlds: Worlds, name: str) -> None:
    def run(engine: Engine, world: World) -> list[Any]:
        world.add("good_N")
        world.add("two_N", versions=2, config=ALL)
        files = {text: {"file:2/model.py": world.code(text).encode()} for text in ("one", "other")}
        told: list[Any] = []
        for step, count in AGAIN[name]:
            if callable(step):
                step(world)
                continue
            code = step.replace("FILES", repr(files["one"])).replace("OTHERS", repr(files["other"]))
            told.append((world.probe(engine, code), sorted(world.happened(count))))
            told.append([engine.ready(name) for name in world.models])
        return told

    worlds.same(run)


@pytest.mark.rule("2.12-unmodified")
def test_more_instances(worlds: Worlds) -> None:
    def run(engine: Engine, world: World) -> list[str]:
        world.add("good_N")
        world.probe(engine, GOOD)
        written("good_N/config.pbtxt", CONFIG + "instance_group { count: 2 }")(world)
        world.probe(engine, GOOD)
        return sorted(world.happened(2))

    assert worlds.same(run) == ["disk good_N 1 begins"] * 2


# Where and when


@pytest.mark.rule("2.12-files")
def test_files_are_in_a_folder_of_their_own(worlds: Worlds) -> None:
    begin = (
        "import pathlib; folder = pathlib.Path(args['model_repository'])\n"
        "told = sorted(path.name for path in folder.rglob('*'))"
    )

    def run(engine: Engine, world: World) -> list[Any]:
        world.models.append(f"new{world.number}")
        code = world.code("files", begin, "told = args['model_repository']")
        files = {"file:1/model.py": code.encode()}
        told = [world.probe(engine, load("'new_N'", PLAIN, repr(files)))]
        assert told == ["None"]
        told.append(engine.infer(f"new{world.number}", IN=IN)["OUT"][0].decode())
        world.probe(engine, "pb_utils.unload_model('new_N')")
        *happened, path = world.happened(2)[-1].split()
        assert str(world.repository) not in path
        wait_until(lambda: not Path(path).exists())
        return [*told, happened]

    worlds.same(run)


@pytest.mark.rule("2.12-several-files")
@pytest.mark.deviation("several-files")
def test_more_than_one_file(worlds: Worlds) -> None:
    files = "{'file:1/model.py': b'', 'file:1/a.txt': b''}"
    told = probe(worlds.engines.stub, load("'new'", PLAIN, files))
    assert deviations.SEVERAL_FILES.server in told
    assert "Give it one file" in told


BUSY = "open('STARTED', 'w').close()\nwhile not os.path.exists('GO'): time.sleep(0.01)\n"


class Busy:
    """Code that runs in another model until it may end."""

    def __init__(self, engine: Engine, world: World, model: str) -> None:
        self._go = world.events.with_suffix(".go")
        started = world.events.with_suffix(".started")
        code = BUSY.replace("STARTED", str(started)).replace("GO", str(self._go))
        self._told: list[str] = []
        self._thread = threading.Thread(
            target=lambda: self._told.append(probe(engine, code + "'done'", model=model))
        )
        self._thread.start()
        wait_until(started.exists)

    def end(self) -> str:
        """Let it end; what it told."""
        self._go.touch()
        self._thread.join(60)
        return self._told[0]


SPARE, UNLOAD = load("'spare_N'"), "pb_utils.unload_model('spare_N')"
READY = "pb_utils.is_model_ready('spare_N')"


@pytest.mark.rule("2.12-no-waiting")
def test_a_busy_model_is_unloaded_and_loaded(worlds: Worlds) -> None:
    def run(engine: Engine, world: World) -> list[Any]:
        spare = world.add_probe("spare_N")
        world.probe(engine, SPARE)
        busy = Busy(engine, world, spare)
        told = [world.probe(engine, f"{UNLOAD}, {READY}"), engine.ready(spare)]
        told.append(world.probe(engine, f"{SPARE}, {READY}"))
        told.append(world.probe(engine, "'quick'", model=spare))
        return [*told, busy.end(), engine.ready(spare)]

    worlds.same(run)


@pytest.mark.rule("2.12-unload-itself")
@pytest.mark.parametrize("wait", ["", "await asyncio.sleep(0.1); "])
def test_a_model_unloads_itself(worlds: Worlds, wait: str) -> None:
    def run(engine: Engine, world: World) -> list[Any]:
        spare = world.add_probe("spare_N")
        world.probe(engine, SPARE)
        told = [world.probe(engine, f"{UNLOAD}; {wait}{READY}", model=spare), engine.ready(spare)]
        return [*told, world.probe(engine, f"{SPARE}, {READY}"), engine.ready(spare)]

    assert worlds.same(run)[0] == "False"


@pytest.mark.rule("2.12-unload-itself")
def test_a_model_loads_itself_again(worlds: Worlds) -> None:
    def run(engine: Engine, world: World) -> list[Any]:
        spare = world.add_probe("spare_N")
        world.probe(engine, SPARE)
        changed("spare_N/1/model.py")(world)
        code = f"self.kept['old'] = 1; {SPARE}; self.kept"
        return [
            world.probe(engine, code, model=spare),
            world.probe(engine, "self.kept", model=spare),
        ]

    assert worlds.same(run) == ["{'old': 1}", "{}"]


@pytest.mark.rule("2.12-when")
def test_models_that_load_models_when_they_are_loaded(worlds: Worlds) -> None:
    def run(engine: Engine, world: World) -> list[Any]:
        ready = "[pb.is_model_ready(n) for n in ('a_N', 'b_N', 'c_N')]"
        world.add("a_N", begin=f"pb.load_model('b_N'); told = {ready}", end=f"told = {ready}")
        world.add("b_N", begin=f"pb.load_model('c_N'); told = {ready}", end=f"told = {ready}")
        world.add("c_N", begin=f"told = {ready}", end=f"told = {ready}")
        told = [control(engine, "load", world.models[0]), world.happened(3)]
        told += [engine.infer(name, IN=IN)["OUT"][0].decode() for name in world.models]
        for name in world.models:
            told += [control(engine, "unload", name), world.happened(1)]
        return told

    worlds.same(run)


FINALIZE = {
    "load": ("pb.load_model('b_N')", [], 2),
    "unload": ("pb.unload_model('b_N')", ["b_N"], 2),
    "ready": ("told = pb.is_model_ready('a_N'), pb.is_model_ready('b_N')", ["b_N"], 1),
}


@pytest.mark.rule("2.12-when")
@pytest.mark.parametrize("name", FINALIZE)
def test_model_control_in_finalize(worlds: Worlds, name: str) -> None:
    end, loaded, count = FINALIZE[name]

    def run(engine: Engine, world: World) -> list[Any]:
        world.add("a_N", end=end)
        world.add("b_N")
        for model in ("a_N", *loaded):
            world.probe(engine, load(repr(model)))
        told = world.happened(1 + len(loaded))
        world.probe(engine, "pb_utils.unload_model('a_N')")
        return [*told, *sorted(world.happened(count)), engine.ready(world.models[1])]

    worlds.same(run)


# While the server starts, and without explicit model control


@pytest.mark.rule("2.12-start-up")
def test_while_the_server_starts(tmp_path: Path) -> None:
    world = World(tmp_path)
    for call in ("is_model_ready", "load_model", "unload_model"):
        world.add(call, begin=f"pb.{call}('good')")
    world.add("good")
    with MortalEngines(world.repository, world.models) as engines:
        for name in world.models[:3]:
            told = engines.same(lambda engine, name=name: engine.infer(name, IN=IN)["OUT"][0])
            assert b"Server not ready" in told


@pytest.mark.rule("2.12-explicit-only")
def test_without_explicit_control(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("good")
    with MortalEngines(world.repository, None) as engines:
        for call in ("load_model('good')", "unload_model('good')", "load_model('')"):
            told = engines.same(lambda engine, call=call: probe(engine, f"pb_utils.{call}"))
            assert "explicit model load / unload is not allowed" in told
        for name in ("good", "nope"):
            engines.same(lambda engine, n=name: probe(engine, f"pb_utils.is_model_ready('{n}')"))


# Deadlocks of the real server

CIRCLES = {
    "itself": {"a": "pb.load_model('a')"},
    "unloads itself": {"a": "pb.unload_model('a')"},
    "two": {"a": "pb.load_model('b')", "b": "pb.load_model('a')"},
    "three": {"a": "pb.load_model('b')", "b": "pb.load_model('c')", "c": "pb.unload_model('a')"},
    "from a thread": {
        "a": "import threading; done = []\n"
        "def load():\n"
        " try: pb.load_model('a')\n"
        " except pb.TritonModelException as e: done.append(str(e))\n"
        "t = threading.Thread(target=load); t.start(); t.join(); told = done"
    },
}


@pytest.mark.rule("2.12-circle")
@pytest.mark.deviation("loading-circle")
@pytest.mark.parametrize("name", CIRCLES)
def test_models_that_wait_for_each_other(tmp_path: Path, name: str) -> None:
    world = World(tmp_path)
    for model, begin in CIRCLES[name].items():
        world.add(model, begin=begin)
    with StubEngine(world.repository, models=[]) as engine:
        assert control(engine, "load", "a") == ""
        told = [engine.infer(model, IN=IN)["OUT"][0].decode() for model in world.models]
        assert deviations.LOADING_CIRCLE.server in told[-1]
        assert "Ask for it in execute." in told[-1]
