"""What went wrong, in one line, whatever layer of Python, Py4J and Java it went through."""

import re
from typing import Any


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line; of a Java exception what its innermost cause says."""
    java = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    return java_line(java) if java is not None else sentence(str(error)) or type(error).__name__


def java_line(java: Any) -> str:
    """Return what the innermost cause of a Java exception (a Py4J object) says, in one line."""
    while java.getCause() is not None:
        java = java.getCause()
    text = sentence(str(java.getMessage()))
    return text if "Traceback (" in str(java.getMessage()) else f"{java.getClass().getSimpleName()}: {text}"


def sentence(text: str) -> str:
    """Return the first paragraph of a message in one line, or what a Python traceback in it ends with."""
    _, found, traceback = text.rpartition("Traceback (most recent call last):")
    if found:
        lines = [line for line in traceback.splitlines() if line.strip() and not line.startswith((" ", "\t"))]
        # Py4J's own line names a call only; Java's causes come below it, the innermost last.
        causes = [line for line in lines if line.startswith((": ", "Caused by: "))]
        if causes and "Py4JJavaError" in lines[0]:
            name, _, why = causes[-1].removeprefix("Caused by").removeprefix(": ").partition(": ")
            return f"{name.rpartition('.')[2]}: {why}".strip()
        # A class of a module comes with the module's name.
        return re.sub(r"^(\w+\.)+(?=\w+:)", "", lines[0].strip()) if lines else text.splitlines()[0]
    return " ".join(text.strip().split("\n\n", maxsplit=1)[0].split())
