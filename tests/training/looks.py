"""What a watch of a run is told, made up."""

from vggspec.training.progress import Epoch, Step, Validation


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
    is_of_boxes: bool = False,
) -> Epoch:
    return Epoch(
        step=epoch * steps,
        last_step=last_step,
        epoch=epoch,
        loss=loss,
        validation=Validation(
            loss=loss / 2,
            errors=(
                {"localisation": error} if is_of_boxes else {"top-1": error, "top-5": error / 5}
            ),
            class_errors={f"class {number}": error for number in range(classes)},
        ),
        rate=rate,
        images_per_s=1234.5,
        left_s=4000.0,
        is_best=is_best,
        num_left_out=0,
    )
