"""Every kind of picture file that VOC directories hold, whole and broken."""

import io

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from dataset.sources.pictures import PictureError, read_picture
from tests.builders.voc import picture

UPRIGHT, UPSIDE_DOWN, SIDEWAYS = 1, 3, 6


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(), exif=exif)


def read(tmp_path, data, name="a.jpg", annotated_size=(0, 0)):
    (tmp_path / name).write_bytes(data)
    return read_picture(tmp_path / name, annotated_size)


def as_tensorflow_sees(result):
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(tf.io.decode_jpeg(result.encoded, channels=3, dct_method="INTEGER_ACCURATE"))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}])
def test_a_normal_jpeg_stays_byte_for_byte(tmp_path, mode, options):
    data = encoded(picture().convert(mode), **options)
    result = read(tmp_path, data)
    assert (result.encoded, result.height, result.width, result.note) == (data, 40, 60, "")


def test_a_jpeg_with_further_pictures_behind_it_stays(tmp_path):
    data = encoded(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    assert read(tmp_path, data).encoded == data


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (encoded(picture(), "PNG"), "re-encoded PNG RGB"),
        (encoded(picture().convert("RGBA"), "PNG"), "re-encoded PNG RGBA"),
        (encoded(picture().quantize(256), "PNG"), "re-encoded PNG P"),
        (encoded(picture().quantize(256), "PNG", transparency=bytes(range(256))), "re-encoded PNG P"),
        (encoded(picture().convert("CMYK"), "JPEG", quality=95), "re-encoded JPEG CMYK"),
        (encoded(picture(), "PNG", transparency=(1, 2, 3)), "re-encoded PNG RGB"),
    ],
)
def test_other_colour_pictures_become_rgb_jpegs(tmp_path, data, note):
    result = read(tmp_path, data)
    assert (result.height, result.width, result.note) == (40, 60, note)
    difference = as_tensorflow_sees(result).astype(int) - np.asarray(picture())
    assert np.abs(difference).mean() < 8


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_other_grey_pictures_become_rgb_jpegs(tmp_path, mode):
    image = picture().convert(mode)
    difference = as_tensorflow_sees(read(tmp_path, encoded(image, "PNG"))).astype(int)
    difference -= np.asarray(image.convert("RGB"))
    assert np.abs(difference).mean() < (40 if mode == "1" else 3)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    grey = np.asarray(picture().convert("L"))
    image = Image.fromarray(grey.astype(np.uint16) * 257)
    result = read(tmp_path, encoded(image, "PNG"))
    assert result.note == "re-encoded PNG I;16"
    assert np.abs(as_tensorflow_sees(result)[..., 0].astype(int) - grey).mean() < 3


def test_the_content_counts_not_the_extension(tmp_path):
    assert read(tmp_path, encoded(picture(), "PNG"), "a.jpg").note == "re-encoded PNG RGB"
    assert read(tmp_path, encoded(picture()), "a.png").note == ""


@pytest.mark.parametrize(
    ("orientation", "annotated_size", "upright", "note"),
    [
        (UPRIGHT, (60, 40), False, ""),
        (SIDEWAYS, (60, 40), True, "turned upright"),
        (SIDEWAYS, (40, 60), False, "EXIF orientation ignored"),
        (SIDEWAYS, (0, 0), False, "EXIF orientation ignored"),
        (UPSIDE_DOWN, (40, 60), False, "EXIF orientation ignored"),
    ],
)
def test_exif_is_obeyed_where_the_annotation_does(tmp_path, orientation, annotated_size, upright, note):
    data = with_orientation(orientation)
    result = read(tmp_path, data, annotated_size=annotated_size)
    assert result.note == note
    assert (result.height, result.width) == ((60, 40) if upright else (40, 60))
    expected = picture().transpose(Image.Transpose.ROTATE_270) if upright else picture()
    seen = as_tensorflow_sees(result)
    assert seen.shape[:2] == (result.height, result.width)
    assert np.abs(seen.astype(int) - np.asarray(expected)).mean() < 8
    assert (result.encoded == data) != upright
    assert Image.open(io.BytesIO(result.encoded)).getexif().get(0x0112, 1) == (1 if upright else orientation)


JPEG = encoded(picture((500, 375)))
PNG = encoded(picture(), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>not found</html>",
        PNG[:-40],
        PNG[:60] + b"12345678" + PNG[68:],
        *(JPEG[:length] for length in (1, 200, 1000, len(JPEG) // 2, len(JPEG) - 20, len(JPEG) - 1)),
        *(encoded(picture((500, 375)), progressive=True)[:length] for length in (1000, 4000)),
    ],
)
def test_what_is_not_a_whole_picture_is_named(tmp_path, data):
    with pytest.raises(PictureError, match=r"bad one\.jpg: the image cannot be decoded: \w+") as error:
        read(tmp_path, data, "bad one.jpg")
    assert "\n" not in str(error.value)


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(PictureError, match=r"none\.jpg: the image cannot be read: No such file"):
        read_picture(tmp_path / "none.jpg", (0, 0))
