"""Training of all model families: tasks, learners, the training loop, parallelism, checkpoints and logs."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.training.adversarial_training import (
        AdversarialStep as AdversarialStep,
        adversarial_step as adversarial_step,
    )
    from jaxvoice.training.learner import Learner as Learner
    from jaxvoice.training.loop import LoopConfig as LoopConfig, TrainingResult as TrainingResult, fit as fit
    from jaxvoice.training.optimizers import OptimizerConfig as OptimizerConfig
    from jaxvoice.training.task import Sample as Sample, Task as Task, ValidationResult as ValidationResult
    from jaxvoice.training.training_state import Counters as Counters, all_finite as all_finite, guarded as guarded

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "adversarial_training": ("AdversarialStep", "adversarial_step"),
        "learner": ("Learner",),
        "loop": ("LoopConfig", "TrainingResult", "fit"),
        "optimizers": ("OptimizerConfig",),
        "training_state": ("Counters", "all_finite", "guarded"),
        "task": ("ValidationResult", "Sample", "Task"),
    },
)
