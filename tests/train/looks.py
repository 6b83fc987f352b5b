"""What a watch of a run is told, made up."""

from vggspec.train.progress import Epoch, Step, Validation


def a_step(
    step: int, *, epoch: int = 1, last_step: int = 40, loss: float = 2.0, rate: float = 0.01
) -> Step:
    return Step(
        step=step,
        last_step=last_step,
        epoch=epoch,
        loss=loss,
        rate=rate,
        images_per_s=1234.5,
        left_s=4000.0,
    )


def an_epoch(
    epoch: int,
    *,
    steps: int = 10,
    last_step: int = 40,
    loss: float = 1.5,
    error: float = 0.25,
    rate: float = 0.01,
    is_best: bool = True,
    classes: int = 30,
) -> Epoch:
    return Epoch(
        step=epoch * steps,
        last_step=last_step,
        epoch=epoch,
        loss=loss,
        validation=Validation(
            loss=loss / 2,
            top1_error=error,
            top5_error=error / 5,
            class_errors={f"class {number}": error for number in range(classes)},
        ),
        rate=rate,
        images_per_s=1234.5,
        left_s=4000.0,
        is_best=is_best,
        num_left_out=0,
    )
