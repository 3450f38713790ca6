"""Small images with captions: in block characters for a terminal, and as one picture."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHADES = ("  ", "░░", "▒▒", "▓▓", "██")  # two characters are about as wide as they are high
SIDE = 8  # pixels that a drawn image keeps on the terminal

PAPER, TILE, INK = (250, 247, 240), (255, 255, 255), (32, 44, 68)
WRONG_TILE, WRONG_INK = (253, 226, 218), (196, 50, 38)
COLUMNS = 24
TILE_SIDE, IMAGE_SIDE, GAP, CAPTION, MARGIN = 60, 48, 10, 24, 44  # pixels


def on_terminal(images: np.ndarray, captions: Sequence[str]) -> str:
    """Images [N, height, width, 3] in [0, 1] side by side, bright on dark, captions below."""
    drawings = []
    for image in images:
        levels = np.asarray(_grey(image).resize((SIDE, SIDE), Image.Resampling.BOX)) // 52
        drawings.append(["".join(SHADES[level] for level in row) for row in levels])
    lines = ["   ".join(row) for row in zip(*drawings, strict=True)]
    lines.append("   ".join(caption.center(2 * SIDE) for caption in captions))
    return "\n".join(line.rstrip() for line in lines)


def as_picture(
    images: np.ndarray, captions: Sequence[str], right: Sequence[bool], heading: Sequence[str]
) -> Image.Image:
    """All images [N, height, width, 3] in [0, 1] under a heading, dark on paper; wrong ones red."""
    title, text, small = (ImageFont.load_default(size) for size in (30, 18, 15))
    top = MARGIN + 50 + 26 * len(heading[1:]) + 20
    rows = -(-len(images) // COLUMNS)
    step_x, step_y = TILE_SIDE + GAP, TILE_SIDE + CAPTION + GAP
    size = (2 * MARGIN + COLUMNS * step_x - GAP, top + rows * step_y - GAP + MARGIN)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)

    draw.text((MARGIN, MARGIN), heading[0], INK, title)
    for number, line in enumerate(heading[1:]):
        draw.text((MARGIN, MARGIN + 50 + 26 * number), line, INK, text)
    edge = (TILE_SIDE - IMAGE_SIDE) // 2
    for number, (image, caption, good) in enumerate(zip(images, captions, right, strict=True)):
        x, y = MARGIN + number % COLUMNS * step_x, top + number // COLUMNS * step_y
        ink, tile = (INK, TILE) if good else (WRONG_INK, WRONG_TILE)
        draw.rounded_rectangle((x, y, x + TILE_SIDE - 1, y + TILE_SIDE - 1), 6, tile)
        mask = _grey(image).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC)
        picture.paste(ink, (x + edge, y + edge), mask)
        draw.text((x + TILE_SIDE / 2, y + TILE_SIDE + 5), caption, ink, small, anchor="ma")
    return picture


def _grey(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.uint8(255 * image.mean(-1)))
