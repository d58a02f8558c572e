"""The fit loop: policies for missing modalities, fine-tuning, checkpoints, studies."""

from mmmed.lazily import lazily

_PLACES = {
    "Augmentation": "augment",
    "MaskRecipe": "mask_recipe",
    "Optimisation": "optimisation",
    "Policy": "policy",
    "Recipe": "recipe",
    "Stage": "report_stages",
    "can_train_together": "members",
    "default_stages": "report_stages",
    "finetune_masks": "mask_finetune",
    "finetune_members": "members",
    "finetune_reports": "report_finetune",
    "fit_cross_modal": "contrast",
    "missingness_study": "study",
}
__all__ = [
    "Augmentation",
    "MaskRecipe",
    "Optimisation",
    "Policy",
    "Recipe",
    "Stage",
    "can_train_together",
    "default_stages",
    "finetune_masks",
    "finetune_members",
    "finetune_reports",
    "fit_cross_modal",
    "missingness_study",
]
__getattr__ = lazily(__name__, _PLACES)
