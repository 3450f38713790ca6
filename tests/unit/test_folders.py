"""Where the models of one or more repositories are."""

import pytest

from triton_stub.core.repository.folders import Folders
from triton_stub.errors import LoadError, ServerError, StatusCode


@pytest.fixture
def two(tmp_path):
    for model in ("one/a", "one/b", "two/b", "two/c"):
        (tmp_path / model).mkdir(parents=True)
    return tmp_path


def test_models_of_several_repositories(two):
    folders = Folders([two / "one", two / "two"])
    assert folders.find("a") == two / "one" / "a"
    assert folders.find("c") == two / "two" / "c"
    assert sorted(folders.found()) == ["a", "b", "c"]
    assert folders.found()["b"] == [two / "one" / "b", two / "two" / "b"]


def test_a_model_in_two_repositories(two):
    with pytest.raises(LoadError, match="in more than one repository") as caught:
        Folders([two / "one", two / "two"]).find("b")
    assert caught.value.told == "not unique across all model repositories"


@pytest.mark.parametrize("name", ["nobody", ".", ""])
def test_a_model_that_is_not_there(two, name):
    with pytest.raises(LoadError, match=r"there are: a, b\.") as caught:
        Folders([two / "one"]).find(name)
    assert caught.value.told == "model not found in any model repository."


def test_a_repository_that_cannot_be_read(two):
    (two / "two" / "gone").symlink_to("nowhere")
    folders = Folders([two / "one", two / "two"])
    found, errors = folders.readable()
    assert sorted(found) == ["a", "b"]
    assert list(errors) == [two / "two"]
    with pytest.raises(LoadError, match="cannot read a model repository"):
        folders.found()
    # A model's own folder is found all the same.
    assert folders.find("c") == two / "two" / "c"


def test_a_repository_that_is_registered(two):
    folders = Folders([two / "one"])
    folders.register(two / "two", {"other": "b"})
    assert folders.paths == [two / "one", two / "two"]
    assert sorted(folders.found()) == ["a", "b", "c", "other"]
    # By its other name alone.
    assert folders.find("b") == two / "one" / "b"
    assert folders.find("other") == two / "two" / "b"
    assert folders.renamed("other")
    assert not folders.renamed("b")
    folders.unregister(two / "two")
    assert sorted(folders.found()) == ["a", "b"]
    assert not folders.renamed("other")


@pytest.mark.parametrize(
    ("path", "names", "told", "code"),
    [
        ("none", {}, "failed to register '…/none', repository not found", StatusCode.INVALID_ARG),
        (
            "one",
            {},
            "model repository '…/one' has already been registered",
            StatusCode.ALREADY_EXISTS,
        ),
        (
            "three",
            {"other": "x"},
            "failed to register 'other', there is a conflicting mapping for 'other'",
            StatusCode.ALREADY_EXISTS,
        ),
    ],
)
def test_what_cannot_be_registered(two, path, names, told, code):
    (two / "three").mkdir()
    folders = Folders([two / "one"])
    folders.register(two / "two", {"other": "b"})
    with pytest.raises(ServerError) as caught:
        folders.register(two / path, names)
    assert caught.value.message.replace(str(two), "…") == told
    assert caught.value.code == code
    assert folders.paths == [two / "one", two / "two"]


def test_what_cannot_be_unregistered(two):
    with pytest.raises(ServerError) as caught:
        Folders([two / "one"]).unregister(two / "two")
    assert caught.value.message == f"failed to unregister '{two / 'two'}', repository not found"


def test_the_folder_of_a_model_is_no_repository(two):
    (two / "one" / "a" / "1").mkdir()
    (two / "one" / "a" / "1" / "model.py").touch()
    with pytest.raises(LoadError, match="is the folder of one model, not a model repository"):
        Folders([two / "one" / "a"]).find("a")
    with pytest.raises(LoadError, match=r"there are: a, b\.$"):
        Folders([two / "one"]).find("c")
