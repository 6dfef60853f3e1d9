"""The one exception for what a user did wrong."""


class UserError(ValueError):
    """A wrong flag, file or setting: its message names it, its value and the fix, and stands for itself.

    It is raised on purpose, and a command line prints it as one line with exit status 1 (utility/run/command.py). Every
    other exception, a plain ValueError too, is a defect of this project, and keeps its traceback.
    """
