"""Model repositories on disk: what is found, what is loaded, and what is said of the rest."""

import threading

import pytest
from gates import GATES
from model_files import BROKEN, CONFIG, GATED, write_model

from triton_stub.core.backend_model import BackendModel
from triton_stub.core.host import ServerHost
from triton_stub.core.log import Log
from triton_stub.core.repository.repository import ModelState, Repository, describe_failures
from triton_stub.errors import ConfigError, InferenceError, LoadError, StatusCode

ALL = f"{CONFIG} version_policy {{ all {{ }} }}"
TIMEOUT = 60


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def open_repository(log):
    repositories = []

    def opened(*paths):
        repositories.append(Repository(paths, ServerHost(log)))
        return repositories[-1]

    yield opened
    for repository in repositories:
        repository.unload_all(TIMEOUT)


@pytest.fixture
def repository(tmp_path, open_repository):
    return open_repository(tmp_path)


def versions(repository, name="model"):
    return [model.version for model in repository.ready(name)]


def states(repository):
    return [(state.name, state.version, state.state) for state in repository.index()]


def refusal(repository, name="model", version=-1):
    with pytest.raises(InferenceError) as caught:
        repository.find(name, version)
    return str(caught.value), caught.value.code


def running():
    mine = {"model_0", "a_0", "b_0"}
    return [thread.name for thread in threading.enumerate() if thread.name in mine]


def test_a_path_that_is_no_directory(tmp_path, log):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(LoadError, match=f"{path} is not a directory"):
            Repository([path], ServerHost(log))


def test_models_are_found_in_alphabetical_order(tmp_path, open_repository):
    for path, name in (("one", "b"), ("one", "a"), ("two", "c")):
        write_model(tmp_path / path, name)
    (tmp_path / "one" / "README.md").touch()
    assert open_repository(tmp_path / "one", tmp_path / "two").model_names() == ["a", "b", "c"]


def test_links_are_followed(tmp_path, open_repository):
    write_model(tmp_path / "elsewhere", "model")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model").symlink_to(tmp_path / "elsewhere" / "model")
    repository = open_repository(tmp_path / "models")
    assert repository.model_names() == ["model"]
    repository.load("model")
    assert versions(repository) == [1]


def test_a_link_to_nowhere_in_a_repository(tmp_path, repository):
    write_model(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for call in (repository.model_names, repository.index):
        with pytest.raises(LoadError, match=r"cannot read a model repository: .*/gone"):
            call()
    with pytest.raises(LoadError, match=r"cannot read a model repository: .*/gone"):
        repository.start()
    repository.load("model")  # by name it is found


def test_a_link_to_nowhere_in_a_model(tmp_path, repository):
    (write_model(tmp_path) / "2").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LoadError, match=r"cannot read model 'model': .*/2"):
        repository.load("model")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nobody", r"failed to poll .* there are: a"),
        (".", r"failed to poll .* there are: a"),
        ("file", r"failed to poll .* there are: a"),
        ("", r"Model name cannot be empty"),
        ("..", r"invalid model name '\.\.', model name must not contain path traversal"),
        ("a/b", r"invalid model name 'a/b', model name must not contain path traversal"),
    ],
)
def test_a_name_that_is_no_model(tmp_path, repository, name, told):
    write_model(tmp_path, "a")
    write_model(tmp_path / "a", "b")
    (tmp_path / "file").touch()
    with pytest.raises(LoadError, match=told):
        repository.load(name)
    assert repository.loaded_names() == []


def test_a_model_in_two_repositories_is_in_none(tmp_path, open_repository):
    for path in ("one", "two"):
        write_model(tmp_path / path, "model")
    repository = open_repository(tmp_path / "one", tmp_path / "two")
    with pytest.raises(LoadError, match=r"in more than one repository: .*one/model, .*two/model"):
        repository.load("model")
    assert refusal(repository)[0].endswith("'model' is not found")
    (state,) = repository.index()
    assert state.reason == "model appears in two or more repositories"


@pytest.mark.parametrize(
    ("policy", "loaded"),
    [
        ("", [12]),
        ("version_policy { }", [0, 3, 12]),
        ("version_policy { latest { num_versions: 2 } }", [3, 12]),
        ("version_policy { latest { num_versions: 9 } }", [0, 3, 12]),
        ("version_policy { all { } }", [0, 3, 12]),
        ("version_policy { specific { versions: [ 12, 0 ] } }", [0, 12]),
    ],
)
def test_version_policies(tmp_path, repository, policy, loaded):
    for version in (3, 0, 12):
        write_model(tmp_path, config=f"{CONFIG} {policy}", version=version)
    repository.load("model")
    assert versions(repository) == loaded
    assert repository.find("model").version == loaded[-1]


def test_a_version_that_is_asked_for_and_not_there(tmp_path, repository, log):
    config = f"{CONFIG} version_policy {{ specific {{ versions: [ 1, 3 ] }} }}"
    write_model(tmp_path, config=config)
    repository.load("model")
    assert versions(repository) == [1]
    assert (
        "version 3 is specified for model 'model', but the version directory is not present"
    ) in [record.message for record in log.records()]


@pytest.mark.parametrize(
    ("folder", "complaint"),
    [
        ("01", "contains leading zeros in its directory name"),
        ("00", "contains leading zeros in its directory name"),
        ("foo", "fails to convert to integral number"),
        ("- 2", "fails to convert to integral number"),
        ("²", "fails to convert to integral number"),
        ("٢", "fails to convert to integral number"),
        (".git", "fails to convert to integral number"),
    ],
)
def test_a_directory_that_is_no_version_is_ignored(tmp_path, repository, log, folder, complaint):
    (write_model(tmp_path, config=f'backend: "python" {CONFIG}') / folder).mkdir()
    repository.load("model")
    assert versions(repository) == [1]
    assert f"ignore version directory '{folder}' which {complaint}" in [
        record.message for record in log.records()
    ]


@pytest.mark.parametrize("folder", ["warmup", "initial_state", "configs"])
def test_a_directory_with_a_purpose_is_no_version(tmp_path, repository, log, folder):
    (write_model(tmp_path) / folder).mkdir()
    repository.load("model")
    assert not any("ignore" in record.message for record in log.records())


@pytest.mark.parametrize(
    ("policy", "found"),
    [("", "none"), ("latest { num_versions: 0 }", "1"), ("specific { versions: 2 }", "1")],
)
def test_no_version_at_all(tmp_path, repository, policy, found):
    directory = write_model(tmp_path, config=f"{CONFIG} version_policy {{ {policy} }}")
    if found == "none":
        (directory / "1").rename(directory / "one")
    with pytest.raises(
        LoadError, match=f"at least one version .* Expected {directory}/1/model.py.*are: {found}"
    ):
        repository.load("model")
    assert refusal(repository) == (
        "Request for unknown model: 'model' has no available versions",
        StatusCode.NOT_FOUND,
    )
    assert not repository.all_ready()
    assert states(repository) == []


def test_a_hidden_directory_is_a_model_too(tmp_path, repository):
    (tmp_path / ".git").mkdir()
    assert repository.model_names() == [".git"]
    with pytest.raises(LoadError, match="every directory of a repository is a model"):
        repository.load(".git")


@pytest.mark.parametrize("break_it", ["text", "directory"])
def test_a_configuration_that_cannot_be_read(tmp_path, repository, break_it):
    directory = write_model(tmp_path)
    path = directory / "config.pbtxt"
    if break_it == "text":
        path.write_text("nonsense: 1")
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(ConfigError, match=str(path)):
        repository.load("model")
    assert refusal(repository)[0].endswith("'model' is not found")
    assert states(repository) == [("model", "", "UNAVAILABLE")]
    assert repository.all_ready(), "as on the server: it was never tried"


def test_a_directory_that_cannot_be_read(tmp_path, repository, monkeypatch):
    write_model(tmp_path)

    def denied(_path):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("triton_stub.core.repository.versions.folders", denied)
    with pytest.raises(LoadError, match=r"cannot read model 'model': .*Permission denied"):
        repository.load("model")


@pytest.mark.parametrize(
    ("version", "text", "code"),
    [
        (1, "version 1 is not at ready state", StatusCode.UNAVAILABLE),
        (2, "version 2 is not at ready state", StatusCode.UNAVAILABLE),
        (3, "version 3 is not found", StatusCode.NOT_FOUND),
        (-1, "has no available versions", StatusCode.NOT_FOUND),
    ],
)
def test_one_broken_version_keeps_all_from_serving(tmp_path, repository, version, text, code):
    write_model(tmp_path, config=ALL)
    write_model(tmp_path, code=BROKEN, config=ALL, version=2)
    with pytest.raises(LoadError) as caught:
        repository.load("model")
    assert caught.value.message.startswith(
        "load failed for model 'model': version 2 is at UNAVAILABLE state: Internal: OSError: no "
        "weights\n\nAt:\n"
    )
    assert caught.value.message.endswith(";\n")
    assert isinstance(caught.value.__cause__.__cause__, OSError)
    assert caught.value.__notes__ == [f"version 2: {tmp_path}/model/2/model.py"]
    assert refusal(repository, version=version) == (
        f"Request for unknown model: 'model' {text}",
        code,
    )
    assert [state.reason.partition("\n")[0] for state in repository.index()] == [
        "unloaded",
        "Internal: OSError: no weights",
    ]
    assert not repository.all_ready()
    assert running() == []


def test_every_broken_version_is_told(tmp_path, repository):
    for version in (1, 2):
        write_model(tmp_path, code=BROKEN, config=ALL, version=version)
    with pytest.raises(LoadError) as caught:
        repository.load("model")
    assert caught.value.message.count("OSError: no weights") == 2
    assert ";version 2 is at UNAVAILABLE state" in caught.value.message


def test_loading_again_replaces_the_model(tmp_path, repository):
    directory = write_model(tmp_path)
    repository.load("model")
    old = repository.find("model")
    (directory / "config.pbtxt").write_text(f"max_batch_size: 4 {CONFIG}")
    repository.load("model")
    assert repository.find("model") is not old
    assert repository.find("model").config.max_batch_size == 4
    assert len(running()) == 1


def test_loading_again_drops_versions_that_are_no_longer_wanted(tmp_path, repository):
    for version in (1, 2):
        directory = write_model(tmp_path, config=ALL, version=version)
    repository.load("model")
    (directory / "config.pbtxt").write_text(CONFIG)
    repository.load("model")
    assert versions(repository) == [2]
    assert refusal(repository, version=1)[0].endswith("version 1 is not at ready state")
    assert repository.all_ready()


@pytest.mark.parametrize("how", ["code", "configuration", "versions"])
def test_a_failed_reload_leaves_the_old_model_serving(tmp_path, repository, how):
    directory = write_model(tmp_path)
    repository.load("model")
    old = repository.find("model")
    if how == "code":
        (directory / "1" / "model.py").write_text(BROKEN)
    elif how == "configuration":
        (directory / "config.pbtxt").write_text("nonsense: 1")
    else:
        (directory / "1").rename(directory / "one")
    with pytest.raises(LoadError):
        repository.load("model")
    assert repository.find("model") is old
    assert states(repository) == [("model", "1", "READY")]
    assert len(running()) == 1


def test_a_failed_reload_with_a_new_version(tmp_path, repository):
    write_model(tmp_path, config=ALL)
    repository.load("model")
    old = repository.find("model")
    write_model(tmp_path, code=BROKEN, config=ALL, version=2)
    with pytest.raises(LoadError, match="version 2 is at UNAVAILABLE"):
        repository.load("model")
    assert repository.find("model") is old
    assert states(repository) == [("model", "1", "READY"), ("model", "2", "UNAVAILABLE")]


def test_an_unloaded_model(tmp_path, repository):
    write_model(tmp_path)
    repository.load("model")
    repository.unload("model")
    assert refusal(repository)[0].endswith("'model' has no available versions")
    assert refusal(repository, version=1)[1] is StatusCode.UNAVAILABLE
    assert repository.index() == [ModelState("model", "1", "UNAVAILABLE", "unloaded")]
    assert repository.all_ready(), "it was asked for"
    repository.unload("model")
    repository.load("model")
    assert versions(repository) == [1]


def test_unloading_what_was_never_loaded(tmp_path, repository):
    write_model(tmp_path)
    repository.unload("model")
    repository.unload("nobody")
    assert refusal(repository)[0].endswith("'model' is not found")
    assert states(repository) == [("model", "", "UNAVAILABLE")]


def test_all_are_unloaded_side_by_side_and_forgotten(tmp_path, repository, log):
    for name in ("a", "b"):
        write_model(tmp_path, name)
        repository.load(name)
    repository.unload_all(TIMEOUT)
    assert repository.loaded_names() == []
    assert running() == []
    assert refusal(repository, "a")[0].endswith("'a' is not found")
    assert {record.message for record in log.records()} >= {
        "loading: a:1",
        "successfully loaded 'a'",
        "successfully unloaded 'a' version 1",
        "successfully unloaded 'b' version 1",
    }


def test_one_that_blocks_does_not_keep_the_others_from_ending(tmp_path, repository, log):
    name = tmp_path.name
    gate = GATES[name]
    code = GATED.replace(
        "    def finalize(self):", "    def finalize(self):\n        self.gate.pass_through()"
    )
    write_model(tmp_path, name, code)
    write_model(tmp_path, "z")
    for each in (name, "z"):
        repository.load(each)
    repository.unload_all(0.01)
    gate.opened.set()
    text = str(log)
    assert f"model '{name}' did not stop within 0.01 s" in text
    assert "successfully unloaded 'z' version 1" in text
    assert f"successfully unloaded '{name}'" not in text
    for thread in threading.enumerate():
        if thread.name == f"{name}_0":
            thread.join(TIMEOUT)


def test_an_interrupted_load_leaves_nothing_running(tmp_path, repository, monkeypatch):
    for version in (1, 2):
        write_model(tmp_path, config=ALL, version=version)
    load = BackendModel.load

    def interrupted(model):
        if model.version == 2:
            raise KeyboardInterrupt
        load(model)

    monkeypatch.setattr(BackendModel, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        repository.load("model")
    assert running() == []
    assert refusal(repository)[0].endswith("'model' is not found")


def test_several_loads_at_once_leave_one_model(tmp_path, repository):
    write_model(tmp_path)
    threads = [threading.Thread(target=repository.load, args=("model",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(running()) == 1
    repository.unload("model")
    assert running() == []


def test_failures_are_told_one_by_one():
    errors = {"a": LoadError("first;\n"), "b": LoadError("second")}
    assert describe_failures(errors) == "model 'a': first;\nmodel 'b': second"
