"""drawing.py: every pixel and every caption is where it belongs."""

from __future__ import annotations

import runpy
from types import SimpleNamespace

import numpy as np

import client

drawing = SimpleNamespace(**runpy.run_path(str(client.DIGITS / "drawing.py")))
RED_ONES = [number % 10 == 0 for number in range(50)]


def colours(images: np.ndarray, right: list[bool]) -> dict[tuple[int, ...], int]:
    """Colour → pixels of a picture without any text."""
    blank = [""] * len(images)
    picture = drawing.as_picture(images, blank, right, [""])
    return {colour: count for count, colour in picture.getcolors(1 << 24) or []}


def test_bright_pixels_are_dense_on_the_terminal():
    white = np.ones((2, 32, 24, 3), np.float32)
    lines = drawing.on_terminal(white, ["1", "7, is 1"]).splitlines()
    assert lines[:8] == ["█" * 16 + "   " + "█" * 16] * 8
    assert lines[8:] == ["1".center(16) + "   " + "7, is 1".center(16).rstrip()]


def test_shades_grow_with_brightness_on_the_terminal():
    ramp = np.broadcast_to(np.linspace(0, 1, 8)[:, np.newaxis], (1, 8, 8, 3))
    assert drawing.on_terminal(ramp, [""]).splitlines()[0] == "    ░░▒▒▒▒▓▓████"


def test_every_image_has_a_tile_and_wrong_ones_a_red_one():
    found = colours(np.zeros((50, 16, 16, 3), np.float32), [not red for red in RED_ONES])
    assert found[drawing.TILE] == 9 * found[drawing.WRONG_TILE]
    side = drawing.TILE_SIDE
    assert 5 * (side - 6) ** 2 < found[drawing.WRONG_TILE] <= 5 * side**2
    assert drawing.INK not in found


def test_bright_images_are_inked_and_wrong_ones_in_red():
    found = colours(np.ones((50, 16, 16, 3), np.float32), [not red for red in RED_ONES])
    assert found[drawing.INK] == 45 * drawing.IMAGE_SIDE**2
    assert found[drawing.WRONG_INK] == 5 * drawing.IMAGE_SIDE**2


def test_text_is_written():
    dark = np.zeros((2, 16, 16, 3), np.float32)
    plain = drawing.as_picture(dark, ["", ""], [True, False], ["", ""])
    written = drawing.as_picture(dark, ["4", "9, is 4"], [True, False], ["title", "more"])
    assert plain.size == written.size
    found = {colour for _, colour in written.getcolors(1 << 24) or []}
    assert {drawing.INK, drawing.WRONG_INK} <= found
