"""The window of the demo, with a stand-in for Tk where there is no screen."""

import sys

import pytest
from PIL import Image

from utility.drawing.window import Window

tkinter = pytest.importorskip("tkinter")
ImageTk = pytest.importorskip("PIL.ImageTk")


class _Tk:
    """Takes all that a window asks of Tk, and presses a key."""

    def __init__(self, *_, **__):
        self.bound, self.press = {}, ""

    def bind(self, key, call):
        self.bound[key] = call

    def update(self):
        if self.press:
            self.bound[self.press](None)

    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.mark.parametrize("key", ["<q>", "<Escape>"])
def test_a_key_closes_it(monkeypatch, key):
    root = _Tk()
    monkeypatch.setattr(tkinter, "Tk", lambda: root)
    monkeypatch.setattr(tkinter, "Label", _Tk)
    monkeypatch.setattr(ImageTk, "PhotoImage", lambda picture, master: picture)
    with Window("camera:0") as window:
        assert window.show(Image.new("RGB", (4, 4)))
        root.press = key
        assert not window.show(Image.new("RGB", (4, 4)))


def test_without_a_screen_it_is_said(monkeypatch):
    def no_screen():
        raise tkinter.TclError("no display name")

    monkeypatch.setattr(tkinter, "Tk", no_screen)
    with pytest.raises(ValueError, match="camera:0: there is no screen to show a window on: no display name"):
        Window("camera:0")


def test_without_tkinter_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(ValueError, match="apt install python3-tk"):
        Window("camera:0")
