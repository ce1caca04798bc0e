import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from streamkit.errors import first_line, sentence

TRACEBACK = """An exception was raised by the Python Proxy. Return Message: Traceback (most recent call last):
  File "a.py", line 1, in f
    raise ValueError("no room")
ValueError: no room: make some

=== Streaming Query ===
Identifier: x
"""


def test_a_traceback_inside_a_message_is_its_last_line():
    assert sentence(TRACEBACK) == "ValueError: no room: make some"
    assert sentence(TRACEBACK.replace("ValueError", "streamkit.http_sink.SinkError")) == "SinkError: no room: make some"


@pytest.mark.parametrize(
    ("causes", "expected"),
    [
        ("\tat a.B.c(B.java:1)\n", "IOException: Mkdirs failed: file:/x"),
        ("\tat a.B.c(B.java:1)\nCaused by: a.b.Full: no space: left\n\t... 3 more\n", "Full: no space: left"),
    ],
)
def test_a_java_exception_inside_a_traceback_is_its_innermost_cause(causes, expected):
    text = TRACEBACK.replace(
        "ValueError: no room: make some",
        "py4j.protocol.Py4JJavaError: An error occurred while calling o2.save.\n"
        f": java.io.IOException: Mkdirs failed: file:/x\n{causes}",
    )
    assert sentence(text) == expected


def test_a_long_message_is_its_first_paragraph_in_one_line():
    assert sentence("one\n two\n\nthree") == "one two"
    assert first_line(RuntimeError("broken\npipe")) == "broken pipe"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_a_java_exception_is_its_innermost_cause(spark):
    try:
        spark.read.parquet("nosuchscheme://x/y")
        pytest.fail("there is no such file system")
    except (PySparkException, Py4JError) as error:
        assert first_line(error) == 'UnsupportedFileSystemException: No FileSystem for scheme "nosuchscheme"'
