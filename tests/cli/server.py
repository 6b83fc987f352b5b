"""Runs commands in forks of one process that has loaded the libraries, for ``tests/cli/run.py``.

A fork is set up as ``python -m vggspec`` is: arguments, environment, folder, streams and main
module. So each command has a process of its own, without waiting for its imports.
"""

import importlib
import json
import os
import resource
import sys
from typing import Any, NoReturn


def main(requests: int, answers: int, *libraries: str) -> None:
    """Import the libraries, then answer each line, which is a request, with an exit code."""
    for name in libraries:
        importlib.import_module(name)
    with open(requests, "rb") as lines, open(answers, "w", encoding="ascii") as told:
        for line in lines:
            pid = os.fork()
            if pid == 0:
                lines.close()
                os.close(told.fileno())
                run(**json.loads(line))
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            print(code, file=told, flush=True)


def run(
    arguments: list[str],
    environment: dict[str, str],
    cwd: str,
    out: str,
    err: str,
    limits: dict[str, int],
) -> NoReturn:
    """Become the command."""
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    import vggspec.__main__

    main_module: Any = vggspec.__main__
    sys.modules["__main__"] = main_module
    sys.argv = [main_module.__file__, *arguments]
    sys.path[0] = cwd
    vggspec.__main__.main()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
