"""A rank that ``vggspec.training.launch`` starts: ``python -m vggspec.training``."""

from vggspec.base import interrupt


def _work() -> int:
    from vggspec.base.optional import silence_pillow
    from vggspec.training.launch import leave, work_for_launcher
    from vggspec.training.run_rank import train_rank

    silence_pillow()
    code = work_for_launcher(train_rank)
    if not code:
        leave(code)
    return code


if __name__ == "__main__":
    interrupt.run(_work)
