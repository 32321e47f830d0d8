"""A strip below a picture with a bar of so many millimetres, and a line of text where one is given."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100)


def bar_length(width: int, mm: float) -> int:
    """The longest of 1, 2, 5, 10, ... mm that takes at most a third of a picture's width.

    Args:
        width: Of the picture in pixels.
        mm: Side of a pixel in mm.
    """
    return max((length for length in LENGTHS_MM if length / mm <= width / 3), default=LENGTHS_MM[0])


def with_footer(picture: Image.Image, mm: float | None, text: str = "", ink: str = "white") -> Image.Image:
    """The picture above a strip of its own, so that nothing of it is covered.

    Args:
        picture: RGB.
        mm: Side of a pixel in mm; ``None``: there is no bar.
        text: Stands at the right of the bar.
        ink: "white" on black, as images are, or "black" on white, as pages are.
    """
    size = max(11, min(20, picture.width // 25))
    font = ImageFont.load_default(size=size)
    left, bar, words = 4, 0, text
    if mm is not None:
        length = bar_length(picture.width, mm)
        bar = max(1, round(length / mm))
        words = f"{length} mm" + (f"    {text}" if text else "")
    width = max(picture.width, left + bar + 6 + int(font.getlength(words)) + 4)
    page = Image.new("RGB", (width, picture.height + size + 8), "black" if ink == "white" else "white")
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    middle = picture.height + (size + 8) // 2
    if bar:
        # bar pixels from left on, both ends marked
        draw.line([(left, middle), (left + bar - 1, middle)], fill=ink, width=2)
        for end in (left, left + bar - 1):
            draw.line([(end, middle - 4), (end, middle + 4)], fill=ink)
    draw.text((left + bar + 6 if bar else left, middle), words, fill=ink, font=font, anchor="lm")
    return page
