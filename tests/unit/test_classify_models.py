"""The first and the last step of ``model_repository/classify``, without the network."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import triton_stub
from triton_stub.errors import InferenceError, InvalidArgumentError, LoadError

REPOSITORY = Path(__file__).parents[2] / "model_repository"


@pytest.fixture
def repository(tmp_path):
    """The two models, as a user would have them."""
    for name in ("classify_preprocess", "classify_postprocess"):
        shutil.copytree(
            REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("*.py[co]")
        )
    return tmp_path


def serve(repository, model):
    return triton_stub.Server(
        str(repository), model_control_mode="explicit", startup_models=[model]
    )


def resized(repository, model, *replacements):
    """Change the sizes in a config.pbtxt."""
    path = repository / model / "config.pbtxt"
    text = path.read_text()
    for old, new in replacements:
        assert text.count(old) >= 1
        text = text.replace(old, new)
    path.write_text(text)


def file_of(array, kind="PNG", **more):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **more)
    return buffer.getvalue()


def images(server, *files):
    pictures = np.array(files, np.object_).reshape(-1, 1)
    return server.model("classify_preprocess")(picture=pictures)["image"]


def test_one_colour_stays_what_it_is(repository):
    red = np.zeros((300, 400, 3), np.uint8)
    red[..., 0] = 255
    with serve(repository, "classify_preprocess") as server:
        image = images(server, file_of(red))
    assert image.shape == (1, 224, 224, 3)
    assert image.dtype == np.float32
    assert (image[0] == [1, 0, 0]).all()


@pytest.mark.parametrize("shape", [(256, 512), (512, 256)])
def test_the_middle_is_what_counts(repository, shape):
    # White, save for what is cut off: a quarter on either of the longer sides.
    picture = np.full((*shape, 3), 255, np.uint8)
    if shape[1] > shape[0]:
        picture[:, :128] = picture[:, 384:] = 0
    else:
        picture[:128] = picture[384:] = 0
    with serve(repository, "classify_preprocess") as server:
        assert (images(server, file_of(picture)) == 1).all()


def test_grey_and_transparent_pictures_have_three_colours(repository):
    grey = np.full((64, 64), 128, np.uint8)
    transparent = np.full((64, 64, 4), 128, np.uint8)
    with serve(repository, "classify_preprocess") as server:
        image = images(server, file_of(grey), file_of(transparent))
    np.testing.assert_allclose(image, 128 / 255)


def test_a_picture_that_was_turned_is_turned_back(repository):
    halves = np.zeros((256, 256, 3), np.uint8)
    halves[:128] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    with serve(repository, "classify_preprocess") as server:
        (image,) = images(server, file_of(halves, exif=exif))
    assert (image[:100] == 0).all()
    assert (image[124:] == 1).all()


def test_another_size_is_a_matter_of_the_configuration(repository):
    resized(repository, "classify_preprocess", ("224, 224, 3", "32, 48, 3"))
    with serve(repository, "classify_preprocess") as server:
        assert images(server, file_of(np.zeros((99, 99, 3), np.uint8))).shape == (1, 32, 48, 3)


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"no picture",
        file_of(np.zeros((64, 64, 3), np.uint8), "JPEG")[:300],
        b"\x89PNG\r\n\x1a\n",
    ],
    ids=["nothing", "text", "half-a-jpeg", "begin-of-a-png"],
)
def test_a_file_that_cannot_be_read_fails_its_request_alone(repository, file):
    good = np.array([[file_of(np.zeros((64, 64, 3), np.uint8))]], np.object_)
    bad = np.array([good[0], [file]], np.object_)
    with serve(repository, "classify_preprocess") as server:
        model = server.model("classify_preprocess")
        with pytest.raises(
            InferenceError, match="picture 1 of the request cannot be read"
        ) as error:
            model(picture=bad)
        assert model(picture=good)["image"].shape[0] == 1
    assert isinstance(error.value, InvalidArgumentError)


def test_the_likeliest_come_first(repository):
    logits = np.zeros((2, 1000), np.float32)
    logits[0, [7, 3, 900]] = 3, 2, 1
    with serve(repository, "classify_postprocess") as server:
        answer = server.model("classify_postprocess")(fc_out=logits)
    assert answer["label"].tolist() == [
        [b"7", b"3", b"900", b"0", b"1"],
        [b"0", b"1", b"2", b"3", b"4"],  # all the same: in their order
    ]
    total = np.exp(3) + np.exp(2) + np.exp(1) + 997
    np.testing.assert_allclose(answer["probability"][0], np.exp([3, 2, 1, 0, 0]) / total, rtol=1e-6)
    np.testing.assert_allclose(answer["probability"][1], 1e-3, rtol=1e-6)


def test_logits_beyond_what_exp_can_do(repository):
    logits = np.full((1, 1000), -1e38, np.float32)
    logits[0, 5] = 1e38
    with serve(repository, "classify_postprocess") as server:
        answer = server.model("classify_postprocess")(fc_out=logits)
    assert answer["label"][0, 0] == b"5"
    assert answer["probability"].tolist() == [[1, 0, 0, 0, 0]]


SMALL = (("[ 1000 ]", "[ 3 ]"), ("[ 5 ]", "[ 2 ]"))


def test_names_of_classes_are_read_from_a_file(repository):
    resized(repository, "classify_postprocess", *SMALL)
    (repository / "classify_postprocess" / "labels.txt").write_text("cat\ndog\nölkanne\n", "utf-8")
    with serve(repository, "classify_postprocess") as server:
        answer = server.model("classify_postprocess")(fc_out=np.array([[0, 1, 2]], np.float32))
    assert answer["label"].tolist() == [["ölkanne".encode(), b"dog"]]


def test_a_name_is_missing(repository):
    resized(repository, "classify_postprocess", *SMALL)
    (repository / "classify_postprocess" / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(LoadError, match=r"labels\.txt has 2 lines; expected one for each of 3"):
        serve(repository, "classify_postprocess").start()
