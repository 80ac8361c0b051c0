#!/usr/bin/env bash
# One training run over several nodes, that survives preemption and the time limit. Adapt the #SBATCH lines, then:
#
#   sbatch scripts/slurm_multinode.sh CONFIG [options of `finetune train`]
#
# Slurm starts one task per node; each task is an `accelerate launch`, which starts one process per GPU of its node. All
# of them form one group, and `training.batch_size` stays the number of rows per update over all of them.
#
#SBATCH --job-name=finetune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
# Slurm sends SIGUSR1 to this script (B: to the batch shell alone) 120 seconds before the time limit, and before a
# preemption where PreemptParameters=send_user_signal is set; otherwise preemption sends SIGTERM. Both are caught below.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
# Append: after a requeue the same file goes on.
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#
# The run directory (output_dir) and $FINETUNE_CACHE have to be on a disk that all nodes see. Run
# `finetune prepare CONFIG` once before: compute nodes often have no network, and the data is then tokenised already.
set -uo pipefail # not -e: exit codes are read below

if (($# == 0)); then
    echo "usage: sbatch $0 CONFIG [options of finetune train]" >&2
    exit 2
fi

gpus_per_node=${SLURM_GPUS_ON_NODE:-1}
nodes=${SLURM_JOB_NUM_NODES:-1}
main_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a node do not meet

# What each task runs: accelerate starts this node's share of the processes. Mixed precision
# is the business of the run's config (training.precision).
# shellcheck disable=SC2016 # $SLURM_NODEID is for the shell of each task, not for this one
task='exec accelerate launch \
    --multi_gpu \
    --num_machines "$NODES" \
    --num_processes "$PROCESSES" \
    --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$MAIN_NODE" \
    --main_process_port "$PORT" \
    --mixed_precision no --dynamo_backend no \
    -m finetune_cli train "$@"'

export NODES=$nodes PROCESSES=$((nodes * gpus_per_node)) MAIN_NODE=$main_node PORT=$port

warned=false
ask_for_checkpoint() {
    warned=true
    echo "notice from Slurm: asking the run for a checkpoint" >&2
    # SIGTERM to the tasks of all nodes, because torchrun, below accelerate, passes that one on to its processes
    # (SIGUSR1 would end torchrun itself). It gives them 30 seconds before it kills them.
    scancel --signal=TERM "$SLURM_JOB_ID.0"
}
trap ask_for_checkpoint USR1 TERM

# In the background, because bash runs a trap only between two commands; `wait`, however, ends when a signal comes.
srun --kill-on-bad-exit=1 bash -c "$task" finetune "$@" &
srun_pid=$!

# A wait that a signal ended returns more than 128 while srun still lives: wait again, for its own exit code.
code=0
wait "$srun_pid" || code=$?
while kill -0 "$srun_pid" 2>/dev/null; do
    code=0
    wait "$srun_pid" || code=$?
done

# A launcher turns each exit code of its children (75: stopped after a checkpoint) into 1, so that the notice decides:
# a run that was asked to stop is queued again, and the same command goes on from its checkpoint; a run that failed by
# itself is not, since it would fail again. How it ended is in run.json.
if $warned && ((code != 0)); then
    echo "stopped; queued again, to go on where it stopped" >&2
    scontrol requeue "$SLURM_JOB_ID"
    exit 75
fi
exit "$code"
