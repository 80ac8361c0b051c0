"""What other tools and scripts call our settings: whoever writes one of these is told the name here.

The names of TrainingArguments are in `trainer_args`.
"""

from finetune_cli.config.text import by_word
from finetune_cli.config.trainer_args import MANAGED

# Name -> our key, or a sentence (a value with a blank in it).
COMMON_NAMES = by_word(
    {
        "training.learning_rate": "lr learning_rates",
        "training.num_epochs": "epochs n_epochs num_epoch max_epochs train_epochs",
        "training.batch_size": "train_batch_size bs batch per_gpu_train_batch_size",
        "training.micro_batch_size": "accumulation_steps accumulate_grad_batches",
        "training.lr_scheduler": "scheduler scheduler_type lr_schedule",
        "training.warmup_steps": "warmup warmup_ratio warmup_proportion num_warmup_steps",
        "training.max_grad_norm": "gradient_clipping clip_grad_norm gradient_clip_val grad_clip",
        "training.precision": "mixed_precision dtype",
        "model.dtype": "torch_dtype load_in_4bit quantize quantization quantization_config bnb_config qlora",
        "training.trainer_args.optim": "optimizer optimizer_type",
        "training.focal_gamma": "focal_loss focal gamma",
        "training.class_weights": "pos_weight class_weight",
        "training.batching": "group_by_length",
        "training.early_stopping.patience": "early_stopping_patience",
        "training.early_stopping.min_delta": "early_stopping_threshold",
        "task": "task_name task_type problem_type",
        "model.name_or_path": (
            "model_name_or_path model_name pretrained_model_name_or_path model_id checkpoint tokenizer_name"
        ),
        "model.revision": "model_revision",
        "model.dropout": "hidden_dropout_prob hidden_dropout dropout_rate",
        "model.attention_dropout": "attention_probs_dropout_prob",
        "model.lora": "peft lora_config peft_config adapter use_lora use_peft",
        "model.lora.r": "rank lora_r lora_rank",
        "model.lora.lora_alpha": "alpha",
        "model.lora.target_modules": "targets lora_target lora_target_modules",
        "model.freeze": "freeze_layers frozen_layers num_frozen_layers freeze_embeddings freeze_encoder freeze_body",
        "training.packing": "packed pack padding_free sequence_packing sample_packing",
        "training.gradient_checkpointing": "gradient_checkpoint grad_checkpointing checkpoint_activations",
        "data.path": "dataset dataset_name dataset_path data_dir data_path data_files",
        "data.name": "dataset_config_name dataset_config subset config_name",
        "data.splits.train": "train_file train_path",
        "data.splits.validation": "validation_file valid_file dev_file eval_file",
        "data.splits.test": "test_file",
        "data.text": "text_column text_column_name text_columns text_field sentence_keys",
        "data.label": "label_column label_column_name label_columns label_field target",
        "data.labels": "label_names class_names classes num_labels id2label label2id",
        "data.max_length": "max_seq_length max_seq_len max_len model_max_length block_size",
        "data.padding": "pad_to_max_length",
        "data.long_texts.windows.stride": "doc_stride window_stride",
        "data.long_texts": "sliding_window chunking long_text",
        "training.micro_batch_tokens": "max_tokens batch_tokens tokens_per_batch",
        "data.limit": "max_train_samples max_eval_samples max_samples",
        "evaluation.every": "evaluation_strategy eval_every evaluate_every",
        "evaluation.metrics": "metric compute_metrics eval_metrics",
        "evaluation.bootstrap.samples": "bootstrap_samples",
        "tracking": "trackers log_with logger loggers",
        "hub.repo_id": "hub_repo hub_repo_id repository",
        "checkpointing.every": "save_every checkpoint_every",
        "seed": "random_seed manual_seed",
        "output_dir": "run_dir out_dir save_dir",
        "the option --overwrite does this": "overwrite_output_dir",
        "the option --num-processes does this": "num_processes nproc_per_node devices num_gpus",
        MANAGED["use_cpu"]: "no_cuda",
        "the environment variables FINETUNE_CACHE and HF_HOME decide this": "cache_dir",
    }
)

# (section, name) -> our key, for names that mean different things in different sections.
BY_SECTION = {
    ("model", "name"): "model.name_or_path",
    ("model", "path"): "model.name_or_path",
    ("training", "metrics"): "evaluation.metrics",
    ("training", "dropout"): "model.dropout",
    ("model.lora", "dropout"): "model.lora.lora_dropout",
}
