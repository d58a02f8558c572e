"""The fit loop: policies for missing modalities, fine-tuning, checkpoints, studies."""

from mmmed.lazily import lazily

_PLACES = {
    "Augmentation": "augment",
    "Optimisation": "optimisation",
    "Policy": "policy",
    "Recipe": "recipe",
    "can_train_together": "members",
    "finetune_members": "members",
    "missingness_study": "study",
}
__all__ = [
    "Augmentation",
    "Optimisation",
    "Policy",
    "Recipe",
    "can_train_together",
    "finetune_members",
    "missingness_study",
]
__getattr__ = lazily(__name__, _PLACES)
