"""Programs whose standard error is a terminal, and what is seen on it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from tests.conftest import ROOT


def seen(text: str) -> list[str]:
    """What comes after each other on a line of the terminal, without colours."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line for line in re.split(r"[\r\n]+", plain) if line]


def on_terminal(
    program: str, *, term: str = "xterm", columns: int = 80, code: int = 0
) -> tuple[str, str]:
    """What a program writes to a terminal as its standard error, and to its standard output."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**env, "TERM": term},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=False,
    )
    os.close(theirs)
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == code, text
    return text, done.stdout
