"""What an operator has to know or mend."""


class Refused(Exception):
    """The command did nothing, or not all; its text is one line that says what is wrong and where to mend it."""
