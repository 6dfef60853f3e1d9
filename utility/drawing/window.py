"""A window that shows pictures as they come."""

from __future__ import annotations

from typing import Any

from PIL import Image

from utility.errors import UserError


class Window:
    """A window of the screen, as a context manager; q, Escape or its button closes it.

    Raises:
        UserError: there is no screen, or no tkinter to open a window with.
    """

    def __init__(self, title: str):
        try:
            import tkinter  # noqa: PLC0415 (a Python of Debian may lack it)

            from PIL import ImageTk  # noqa: PLC0415 (which needs it)
        except ImportError as error:
            raise UserError(f"{title}: a window needs Python's tkinter: sudo apt install python3-tk") from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise UserError(f"{title}: there is no screen to show a window on: {error}") from error
        self._root.title(title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._photo: Any = ImageTk.PhotoImage
        self._is_open = True
        for key in ("<q>", "<Q>", "<Escape>"):
            self._root.bind(key, self._end)
        self._root.protocol("WM_DELETE_WINDOW", self._end)

    def _end(self, *_: object) -> None:
        self._is_open = False

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._root.destroy()

    def show(self, picture: Image.Image) -> bool:
        """Show a picture until the next one; returns whether the window is still open."""
        self._shown = self._photo(picture, master=self._root)  # Tk keeps no reference to it
        self._label.configure(image=self._shown)
        self._root.update()
        return self._is_open
