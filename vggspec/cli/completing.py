"""Completion in the shell: names of commands and of specs."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class SpecName(click.types.StringParamType):
    """An argument that names a spec; it completes to packaged specs and to files."""

    def get_missing_message(
        self, param: click.Parameter, ctx: click.Context | None = None
    ) -> str | None:
        """What to give, for the message that it is missing."""
        return "Give a file such as D.vgg, or a name that `vggspec specs` lists, such as D."

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        """The packaged names that begin like ``incomplete``; the shell adds files."""
        from click.shell_completion import CompletionItem

        files = [CompletionItem(incomplete, type="file")]
        return [*complete_packaged(ctx, param, incomplete), *files]


SPEC = SpecName()


def complete_packaged(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """The names of the packaged specs that begin like ``incomplete``."""
    from click.shell_completion import CompletionItem

    from vggspec.lang.packaged import packaged

    return [CompletionItem(name) for name in packaged() if name.startswith(incomplete)]
