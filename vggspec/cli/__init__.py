"""The command line: ``vggspec COMMAND``. Each command has a module, imported when it is called.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 the input
is wrong, 2 wrong usage, 3 the environment lacks something.
"""

import importlib
import io
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

import click

from vggspec.base import interrupt
from vggspec.base.diagnostic import ArgumentError, MissingLibraryError, VggspecError
from vggspec.base.optional import silence_pillow
from vggspec.base.version import __version__
from vggspec.base.wording import wrapped
from vggspec.cli import terminal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: The commands with their help in one line. Modules are named like them, or as in ``MODULES``.
COMMANDS = {
    "check": "Check specs and report every mistake.",
    "show": "Print a net's layers, shapes, parameters and cost.",
    "diff": "Compare two nets.",
    "specs": "List or copy the specs that come with vggspec.",
    "fmt": "Format specs.",
    "explain": "Explain an error code.",
    "init": "Write a weights file with random weights.",
    "import": "Convert a checkpoint of another tool to a weights file.",
    "export": "Write weights as torchvision, timm or Keras loads them.",
    "data": "Report on a data set: classes, sizes, broken files, copies.",
    "train": "Train a net on a folder of images.",
    "compare": "Compare training runs: errors, settings, curves.",
    "merge": "Fold branches and batch normalisation of a trained net into convs.",
    "compile": "Compile a net to an ONNX bundle, a TensorRT engine or PyTorch source.",
    "inspect": "Print the contents, inputs and outputs of a bundle.",
    "verify": "Compare the outputs of a bundle with those of the net in fp32.",
    "bench": "Measure how fast bundles run, side by side, and each layer.",
    "refit": "Replace the weights of a TensorRT engine without rebuilding it.",
    "predict": "Classify images with a bundle.",
    "distance": "Print how far images are from a reference, by a bundle with --distance.",
    "eval": "Test nets on a data set, one by one or fused.",
    "reproduce": "Measure a table of the paper, on ImageNet.",
    "localise": "Locate objects in images, and draw boxes around them.",
    "features": "Write descriptors of images: a layer's activations, averaged.",
    "svm": "Fit a linear SVM on descriptors, and test it.",
    "doctor": "Report what this machine can do, and whether a bundle runs on it.",
    "demo": "Train, compile and apply a small net, in a minute.",
}
MODULES = {"import": "import_"}


class Commands(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the command's module."""
        if name not in COMMANDS:
            return None
        # `import` is a keyword of Python, so its module has another name.
        module = importlib.import_module(f"vggspec.cli.{MODULES.get(name, name)}")
        command = module.command
        assert isinstance(command, click.Command)
        terminal.add_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete the name of a command without importing any."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found or click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command; for an unknown name, suggest the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from vggspec.base.wording import nearest

            like = nearest(args[0], tuple(COMMANDS))
            more = f" Did you mean `{like}`?" if like else ""
            ctx.fail(f"No such command `{args[0]}`.{more}")
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _refuse_repeated(command.context_class(command, ctx, name), rest)
        return name, command, rest


def _refuse_repeated(ctx: click.Context, args: list[str]) -> None:
    """Fail where an option that takes one value is given twice; click would keep the last.

    Raises:
        UsageError: with the option and its values.
    """
    try:
        order = ctx.command.make_parser(ctx).parse_args(list(args))[2]
    except click.UsageError:
        return  # the command reports it
    if any(param.is_eager for param in order):
        return  # `--help`
    for param in order:
        if not isinstance(param, click.Option) or order.count(param) < 2:
            continue
        if not (param.multiple or param.is_flag or param.count):
            values = " and ".join(f"`{_short(value)}`" for value in _values(ctx, args, param)[:2])
            option = max(param.opts, key=len)
            ctx.fail(f"{option} is given more than once, as {values}; it takes one value.")
        if param.secondary_opts and len(set(_values(ctx, args, param))) > 1:
            ctx.fail(f"{param.opts[-1]} and {param.secondary_opts[-1]} are both given; keep one.")


def _values(ctx: click.Context, args: list[str], param: click.Parameter) -> list[object]:
    """The values of an option in order. The parser keeps the last one, so parse prefixes."""
    values: list[object] = []
    for number in range(len(args) + 1):
        try:
            given, _, order = ctx.command.make_parser(ctx).parse_args(args[:number])
        except click.UsageError:
            continue  # between an option and its value
        if order.count(param) > len(values):
            values.append(given[str(param.name)])
    return values


def _short(value: object) -> str:
    from vggspec.base.render import shown

    text = shown(" ".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return text if len(text) <= 60 else f"{text[:59]}…"


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  vggspec check mine.vgg
  vggspec show table1:D
  vggspec train digits --data digits
  vggspec compile D --weights D.safetensors -o D
  vggspec predict D photo.jpg
  vggspec eval D --data ILSVRC --scales 256,384,512
  vggspec compile D --trt --precision fp16 -o D-fp16
  vggspec doctor D-fp16""",
)
@click.version_option(__version__, message="vggspec %(version)s")
def cli() -> None:
    """Write a network as a column of the VGG paper's Table 1; train, compile and apply it."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    interrupt.run(work)


def work() -> int:
    """Run the command line on streams that take any text; the exit code."""
    from vggspec.cli.streams import standard_streams

    output = standard_streams()
    silence_pillow()
    try:
        code = run()
        sys.stdout.flush()
    except OSError as error:
        if error is not output.failure:
            raise
        reason = error.strerror or str(error)
        terminal.complain(f"standard output cannot be written: {reason.lower()}")
        return 1
    return code


def run(args: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    from vggspec.base.render import as_text

    terminal.reset()
    begun = time.monotonic()
    try:
        given = sys.argv[1:] if args is None else args
        code = cli.main(given, "vggspec", standalone_mode=False, obj=tuple(given))
    except VggspecError as error:
        color = terminal.use_color(sys.stderr)
        text = as_text(error.reports, color=color, width=terminal.width(sys.stderr))
        click.echo(text, err=True, color=color)
        return 1
    except ArgumentError as error:
        terminal.complain(str(error), "Error")
        return 2
    except MissingLibraryError as error:
        terminal.complain(str(error))
        return 3
    except click.exceptions.Abort as stop:
        if isinstance(stop.__cause__, EOFError):  # click takes it for Ctrl-D; no command prompts
            raise stop.__cause__ from None
        click.echo("interrupted", err=True)
        return 128 + signal.SIGINT
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        message = io.StringIO()
        error.show(message)
        for line in wrapped(message.getvalue().rstrip(), terminal.width(sys.stderr)):
            click.echo(line, err=True)
        return error.exit_code
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe: exit silently.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    terminal.detail("time", f"{time.monotonic() - begun:.1f} s")
    return code if isinstance(code, int) else 0
