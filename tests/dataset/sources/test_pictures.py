"""Every kind of picture file that VOC directories hold, whole and broken."""

import io
import warnings
import zlib

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


def with_size(data, height, width):
    """A JPEG whose header gives another size."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[start + 4 :]


def segment(data, marker):
    start = data.index(marker)
    return data[start : start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")]


THUMBNAIL = b"\xff\xe1" + (len(JPEG) + 2).to_bytes(2, "big") + JPEG
REFUSED_BY_TENSORFLOW = {
    "unknown marker": JPEG[:-2] + b"\xff\x5c\xff\xd9",
    "unknown marker and no end": JPEG[:-2] + b"\xff\x5c",
    "a second start": JPEG[:-2] + JPEG,
    "a second frame": JPEG[:-2] + segment(JPEG, b"\xff\xc0") + b"\xff\xd9",
    "other bytes at the end": JPEG[:-2] + bytes(100),
    "a comment at the end": JPEG[:-2] + b"\xff\xfe\x00\x04ab",
    "a whole thumbnail": JPEG[:2] + THUMBNAIL + JPEG[2:-2] + bytes(100),
}


@pytest.mark.parametrize("data", REFUSED_BY_TENSORFLOW.values(), ids=REFUSED_BY_TENSORFLOW.keys())
def test_what_tensorflow_refuses_is_refused(tmp_path, data):
    with pytest.raises(PictureError, match=r"a\.jpg: the image cannot be decoded: it(s data is corrupt| ends without)"):
        read(tmp_path, data)
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_like_training(data)


def test_pictures_that_ended_a_training_are_refused(shared_cases):
    for name in ("m95.jpg", "m425.jpg"):
        with pytest.raises(PictureError, match=rf"{name}: the image cannot be decoded"):
            read_picture(shared_cases / "jpeg_tf_refuses" / "VOC2007" / "JPEGImages" / name, (0, 0))


@pytest.mark.parametrize("tail", [b"", b"\0" * 9, b"\xff\xd9", JPEG, b"\xff\x5c"])
def test_what_stands_behind_the_end_does_not_matter(tmp_path, tail):
    data = JPEG[:2] + THUMBNAIL + JPEG[2:] + tail
    assert read(tmp_path, data).encoded == data
    decode_like_training(data)


def decode_like_training(data):
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(tf.io.decode_image(data, channels=3, expand_animations=False))


def test_tensorflow_decodes_every_damaged_picture_that_is_taken(tmp_path):
    rng = np.random.default_rng(5)
    kinds: list[dict[str, int]] = [{}, {"progressive": 1}, {"restart_marker_blocks": 5}, {"quality": 20}]
    taken = 0
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.string, [])
        decoded = tf.io.decode_image(placeholder, channels=3, expand_animations=False)
        for number in range(300):
            data = bytearray(encoded(picture((120, 90), seed=number), **kinds[number % 4]))
            start = int(rng.integers(2, len(data))) if number % 3 else len(data) - int(rng.integers(2, 60))
            length = int(rng.choice([1, 2, 60]))
            data[start : start + length] = rng.bytes(length)
            try:
                read(tmp_path, bytes(data))
            except PictureError:
                continue
            taken += 1
            session.run(decoded, {placeholder: bytes(data)})
    assert taken > 50


def with_png_size(data, width, height):
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_size(JPEG, 60000, 60000), "its header gives 60000x60000 pixels, more than 178956970"),
        (with_size(JPEG, 9000, 9000), rf"its header gives 9000x9000 pixels, too many for a file of {len(JPEG)} bytes"),
        (with_png_size(PNG, 60000, 60000), "its header gives 60000x60000 pixels, more than 178956970: make it smaller"),
        (with_png_size(PNG, 10000, 14000), "truncated|broken|data"),
        (with_size(JPEG, 0, 500), "."),
    ],
)
def test_a_size_that_is_not_the_pictures_is_refused(tmp_path, data, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError, match=rf"a\.jpg: the image cannot be decoded: .*({message})"):
            read(tmp_path, data)


def test_a_picture_of_one_colour_is_no_lie(tmp_path):
    data = encoded(Image.new("L", (6000, 6000)), optimize=True, quality=1, progressive=True)
    assert read(tmp_path, data).encoded == data


def test_only_the_usual_formats_are_opened(tmp_path):
    assert read(tmp_path, encoded(picture(), "BMP")).note == "re-encoded BMP RGB"
    for kind in ("EPS", "PDF"):
        with pytest.raises(PictureError, match="cannot identify image file"):
            read(tmp_path, encoded(picture(), kind))
