"""Options of methods that learn from labels."""

from dataclasses import dataclass
from typing import ClassVar

from limbeck.core.errors import UserError
from limbeck.methods.config.base.method import MethodConfig


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(MethodConfig):
    """Configuration of a method that classifies images."""

    needs_labels: ClassVar[bool] = True
    num_classes: int | None = None
    """Classes of the labels; None: those of the store."""

    def check_classes(self, num_classes: int) -> None:
        """Raise UserError unless every image has a label of one of two or more classes."""
        if num_classes < 2:
            found = "there is only one class" if num_classes else "some images of the store have none"
            remedy = "give each class a folder of its own, or choose a method without labels"
            message = f"{self.name} needs a label for every image, of two classes or more, and {found}: {remedy}"
            raise UserError(message, code="labels-needed")
        if self.num_classes not in (None, num_classes):
            message = f"num_classes is {self.num_classes} and the store has {num_classes}: leave the option out"
            raise UserError(message, code="wrong-num-classes")
