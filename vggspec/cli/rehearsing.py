"""What ``vggspec train`` does with ``--dry-run``, ``--overfit`` and ``--find-rate``."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.quantities import duration, memory
from vggspec.base.render import as_text, shown
from vggspec.base.wording import all_of, count
from vggspec.cli.table import print_text
from vggspec.cli.terminal import table_width

if TYPE_CHECKING:
    from vggspec.training.rehearsal_results import DryRun, Overfit, RateRange, Trial

#: What the rehearsals take of the options of a training.
_TAKEN = {"data", "settings", "weights", "seed", "gpus", "workers", "precision", "micro_batch"}


def check_alone(
    chosen: Sequence[str],
    out: str | None,
    steps: int | None,
    save_every: float | None,
    given: dict[str, Any],
) -> None:
    """Check that only one rehearsal is asked for, and nothing that it does not do.

    Raises:
        UsageError: with the options concerned.
    """
    if len(chosen) > 1:
        raise click.UsageError(f"{all_of(chosen)} exclude each other.")
    one = chosen[0]
    others = {key for key, value in given.items() if value and key not in _TAKEN}
    if save_every is not None:
        others.add("save_every")
    if one == "--overfit":
        others |= {"out"} if out is not None else set()
        others |= {"workers"} if given["workers"] is not None else set()
    if one == "--dry-run" and steps is not None:
        others.add("steps")
    if others:
        words = all_of([f"--{key.replace('_', '-')}" for key in sorted(others)])
        raise click.UsageError(f"{words} cannot be used with {one}.")
    if (given["gpus"] or 0) > 1:
        raise click.UsageError(f"{one} runs on one device: give --gpus 0 or 1.")


def rehearse(
    option: str,
    spec: str,
    out: str | None,
    images: int | None,
    steps: int | None,
    given: dict[str, Any],
    *,
    as_json: bool,
) -> int:
    """Do it and print the result; 1 if the training is refused or the net cannot learn."""
    from vggspec.cli.progress import shown as progress_shown
    from vggspec.training import rehearse as library

    options = {key: value for key, value in given.items() if key in _TAKEN}
    number: dict[str, Any] = {} if steps is None else {"steps": steps}
    found: DryRun | Overfit | RateRange
    with progress_shown() as watch:
        if option == "--dry-run":
            found = library.dry_run(spec, out=out, watch=watch, **options)
            is_good = not found.refused
        elif option == "--overfit":
            del options["workers"]
            found = library.overfit(spec, images or 1, watch=watch, **number, **options)
            is_good = found.has_learned
        else:
            found = library.find_rate(spec, out=out, watch=watch, **number, **options)
            is_good = found.suggested is not None
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        _PRINT[option](found)
    return 0 if is_good else 1


def _print_dry_run(found: "DryRun") -> None:
    from vggspec.cli.data_shown import print_report

    print_report(found.data)
    click.echo()
    if found.trial is not None:
        _print_trial(found.trial)
    elif not found.data.refused:
        click.echo(as_text(found.refused, width=table_width() or 1000))
    _print_facts({"images": str(found.images), "crops": str(found.crops or "")})


def _print_trial(trial: "Trial") -> None:
    chance = trial.loss_of_chance
    knowing = "" if chance is None else f"; {chance:.3f} is that of knowing only how often each"
    knowing += "" if chance is None else " class comes"
    parts = f", {trial.at_a_time} images at a time" if trial.at_a_time < trial.batch else ""
    measured = trial.measured_memory
    needed = f"about {memory(trial.memory)} for a step, estimated"
    if measured is not None:
        needed = f"{memory(measured)} for a step, measured; {memory(trial.memory)} estimated"
    _print_facts(
        {
            "loss": f"{trial.loss:.3f} before the first step{knowing}",
            "step": f"{trial.step_s:.3g} s for {count(trial.batch, 'image')}{parts}, on"
            f" {trial.device}, {trial.precision}: {trial.images_per_s:.0f} images/s",
            "memory": needed,
            "time": f"about {duration(trial.seconds)} for {count(trial.steps, 'step')} in"
            f" {count(trial.epochs, 'epoch')}, with validation",
        }
    )


def _print_overfit(found: "Overfit") -> None:
    images = f"{count(found.images, 'image')} of {count(found.classes, 'class')}"
    if found.has_learned:
        done = f"after {count(found.steps, 'step')}" if found.steps else "without a step"
        print_text(f"it has learned {images} {done}: the loss fell from {_fell(found)}")
    elif found.diverged:
        print_text(f"it cannot learn {images}: the loss went from {_fell(found)}", bold=True)
    else:
        wrong = round(found.errors[-1] * found.images)
        print_text(
            f"it has not learned {images} in {count(found.steps, 'step')} at rate {found.rate:g}:"
            f" it is wrong on {wrong}, and the loss went from {_fell(found)}",
            bold=True,
        )
        for name in found.wrong:
            print_text(f"  {shown(name)}")
    if found.advice:
        click.echo("try")
        for advice in found.advice:
            print_text(f"  {advice}")
    if found.left_out:
        click.echo("could not be read:")
        for name in found.left_out:
            print_text(f"  {shown(name)}")


def _fell(found: "Overfit") -> str:
    return f"{found.losses[0]:.4g} to {found.losses[-1]:.4g}"


def _print_rates(found: "RateRange") -> None:
    tested = f"{found.rates[0]:.2g} to {found.rates[-1]:.2g}"
    if found.suggested is None:
        print_text(f"the loss fell at no rate from {tested}: no rate is suggested", bold=True)
    else:
        assert found.lowest is not None
        print_text(
            f"rates from {tested} in {count(len(found.rates), 'step')}; the loss was least at"
            f" {found.lowest:.2g}"
            + (f" and grew without bound at {found.diverged:.2g}" if found.diverged else "")
        )
        compared = f"the recipe has {found.rate:g}"
        print_text(f"suggested: --set rate={found.suggested:g}; {compared}", bold=True)
        if not found.has_learned:
            print_text(
                f"the loss never fell below {found.loss_of_chance:.3f}, that of knowing only how"
                " often each class comes: the suggestion is a guess. Try more --steps, or see"
                " whether the net can learn: --overfit 16"
            )
    if found.picture is not None:
        _print_facts({"curve": str(found.picture)})


def _print_facts(facts: dict[str, str]) -> None:
    for word, text in facts.items():
        if text:
            print_text(f"{word + ':':8}{text}")


_PRINT: dict[str, Any] = {
    "--dry-run": _print_dry_run,
    "--overfit": _print_overfit,
    "--find-rate": _print_rates,
}
