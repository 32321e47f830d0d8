from mammo_hf.cli.mim import parser


def test_pre_training_warms_up_and_falls_by_a_cosine_unless_told_otherwise(tmp_path):
    given = ["--dataset", "data", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    _, args = parser().parse_args_into_dataclasses(given)
    assert (args.lr_scheduler_type, args.eval_strategy) == ("cosine", "epoch")
    assert args.get_warmup_steps(200) == 20
    own, args = parser().parse_args_into_dataclasses(
        [*given, "--lr_scheduler_type", "linear", "--learning_rate", "1e-3", "--eval_strategy", "no"]
    )
    assert (args.lr_scheduler_type, args.learning_rate, args.eval_strategy) == ("linear", 1e-3, "no")
    assert own.decoder == "conv"
