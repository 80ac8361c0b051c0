"""Rules between fields, and rules that a type cannot express. Each yields its mistakes.

The rules run on plain values, also when other fields are wrong. When a rule asks `get` for a value that is reported as
wrong already, `get` ends the rule.
"""

from finetune_cli.config.rules import data, evaluation, folds, model, sweep, training

RULES = (
    training.micro_batch_fits,
    training.micro_batch_tokens_fit,
    training.packing_has_effect,
    training.warmup_is_used,
    training.early_stopping_has_effect,
    training.trainer_args_have_effect,
    training.trainer_args_are_right,
    training.loss_fits_task,
    data.label_columns_fit_task,
    training.class_weights_name_classes,
    data.class_names_are_unique,
    evaluation.metrics_fit_task,
    evaluation.best_metric_is_computed,
    evaluation.gates_are_right,
    training.seeds_differ,
    training.trackers_differ,
    model.upload_has_a_place,
    data.split_seed_has_effect,
    data.columns_fit_task,
    data.columns_are_named,
    data.homes_are_known,
    data.truncation_fits_columns,
    data.long_texts_are_kept_in_one_way,
    data.windows_move_on,
    evaluation.slices_are_columns_with_groups,
    data.splits_are_right,
    model.model_is_named_once,
    model.trained_part_is_chosen_once,
    model.frozen_weights_alone_are_narrow,
    model.from_scratch_sizes_fit,
    model.places_are_written_right,
    data.builtin_data_exists,
    folds.folds_take_the_place_of_validation,
    folds.fold_is_one_of_them,
    folds.final_model_makes_no_choice,
    folds.group_is_another_column,
    folds.limit_leaves_rows_for_folds,
    folds.folds_go_without,
    sweep.searched_settings_can_be,
    sweep.searched_settings_act,
    sweep.sweep_ends,
    sweep.grid_is_finite,
    sweep.pruner_can_act,
    sweep.sweep_goes_without,
)
