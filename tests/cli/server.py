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
    """Import the libraries, then answer each line, which is a request.

    One for a command is answered with its process, one to wait for a process with its exit code,
    or null where it has none yet.
    """
    for name in libraries:
        importlib.import_module(name)
    with open(requests, "rb") as lines, open(answers, "w", encoding="ascii") as told:
        for line in lines:
            request = json.loads(line)
            answer: int | None
            if "wait" in request:
                ended, status = os.waitpid(request["wait"], request["flags"])
                answer = os.waitstatus_to_exitcode(status) if ended else None
            else:
                paths = (request.pop("out"), request.pop("err"))
                files = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in paths]
                answer = os.fork()
                if answer == 0:
                    lines.close()
                    os.close(told.fileno())
                    run(files, **request)
                for file in files:
                    os.close(file)
            print(json.dumps(answer), file=told, flush=True)


def run(
    files: list[int],
    *,
    arguments: list[str],
    environment: dict[str, str],
    cwd: str,
    limits: dict[str, int],
    is_leader: bool,
) -> NoReturn:
    """Become the command."""
    for name, limit in limits.items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    if is_leader:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, file in enumerate(files, start=1):
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
