"""What the loss of each class is multiplied by."""

import numpy as np

from vggspec.base.catalogue.recipes import UnknownClass
from vggspec.base.class_names import same
from vggspec.base.diagnostic import Report, report
from vggspec.base.reports import Reports
from vggspec.base.wording import nearest
from vggspec.compiler.lower import Lowered
from vggspec.lang.sections import class_words
from vggspec.training.dataset import DataSet


def class_weights(lowered: Lowered, data: DataSet) -> tuple[float, ...] | None:
    """A factor for each class of the data, in the order of their numbers; None for 1 everywhere.

    ``balanced`` is N / (K * n) for a class with n of the N images of K classes, 1 on average over
    the images; scikit-learn's ``balanced`` is the same.

    Raises:
        VggspecError: the recipe names classes that the data does not have.
    """
    written = lowered.experiment.train.class_weights
    if not written:
        return None
    if written == "balanced":
        counts = np.bincount(data.train.labels, minlength=len(data.classes))
        return tuple((counts.sum() / (len(counts) * counts)).tolist())
    numbers = {same(name): number for number, name in enumerate(data.classes)}
    found = [1.0] * len(data.classes)
    wrong = Reports()
    for name, weight in written:
        number = numbers.get(same(name))
        if number is None:
            like = nearest(name, data.classes)
            what = UnknownClass(name=name, like=like, known=data.classes)
            wrong.add(_at_its_place(what, lowered))
        else:
            found[number] = weight
    wrong.raise_if_any()
    return tuple(found)


def _at_its_place(what: UnknownClass, lowered: Lowered) -> Report:
    source = lowered.spec.source
    for word in class_words(lowered.spec):
        if word.text == what.name and what.name in source.slice(word.span):
            return report(what, source, word.span)
    return report(what, path="--set")  # a line that is not in the spec
