"""The one exception for what a user can put right: its message is a sentence, not a traceback."""


class InputError(ValueError):
    """A parameter, file or checkpoint that cannot be used. The message names the value and what is allowed."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows, hence papermill and a notebook: the sentence alone."""
        return [f"InputError: {self}"]
