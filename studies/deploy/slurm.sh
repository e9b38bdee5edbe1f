#!/usr/bin/env bash
# A study as a Slurm job. Submit it where the study is, on a file system that every node sees:
#   sbatch slurm.sh my.yaml
#   sbatch --nodes=4 slurm.sh my.yaml
#   sbatch --array=0-2 slurm.sh a.yaml b.yaml c.yaml    # one study per task
# Before its time limit the study ends in order, and the job is requeued to continue it.
#SBATCH --job-name=dynloss
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
# Whole nodes, with all their memory: `ray symmetric-run` ends every Ray of yours on its nodes. One
# node does without it: `--cpus-per-task=8 --mem=16G` in place of these two lines shares the node.
#SBATCH --exclusive
#SBATCH --mem=0
# For GPUs add --gpus-per-node=4, say, and `resources: {gpu: 1}` in the study.
#SBATCH --time=24:00:00
# SIGTERM to this script alone, ten minutes before the limit; Slurm may send it a minute early.
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

# What to edit. The environment is that of the shell that submits, unless your site says otherwise:
# module load python; source .venv/bin/activate
options=(--resume --out results) # of `dynloss run`; more are --profile, --set and --data-dir
port=6379                        # of Ray's head, for several nodes
restarts=100                     # the job is requeued no more often than this

if [[ -z ${SLURM_ARRAY_TASK_ID-} && $# != 1 ]]; then
    echo "slurm.sh: give one study, or several and --array=0-N with a task for each" >&2
    exit 2
fi
task=$((${SLURM_ARRAY_TASK_ID:-0} + 1))
if ((task > $#)); then
    echo "slurm.sh: no study for task $SLURM_ARRAY_TASK_ID: $# are given, counted from 0" >&2
    exit 2
fi

driver=$(mktemp) # on this node, where the driver runs: its process, and at its end its exit code
trap 'rm -f "$driver"' EXIT
# A signal interrupts the first `wait`, and the second has the exit code all the same.
drive='trap : TERM; dynloss run "$@" & echo $! > "$0"; wait $!; wait $!; code=$?
    echo $code >> "$0"; exit $code'
work=(bash -c "$drive" "$driver" "${!task}" "${options[@]}")
if ((SLURM_JOB_NUM_NODES > 1)); then
    address=$(hostname --all-ip-addresses | cut -d ' ' -f 1):$port # one that the other nodes reach
    RAY_AUTH_TOKEN=$(od -A n -t x1 -N 32 /dev/urandom | tr -d ' \n') # for Ray listens to all of them
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
    # The other nodes leave by themselves, a minute after the head has.
    work=(srun --export=ALL --cpu-bind=none --kill-on-bad-exit=0
        ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES"
        -- "${work[@]}" --address "$address")
fi

# SIGTERM goes on to the driver alone: Ray must live until blocks in flight are saved.
stopping=
stop() {
    trap '' TERM
    stopping=yes
    kill -TERM "$(sed -n 1p "$driver")" 2> /dev/null || kill -TERM "$!"
}
"${work[@]}" &
trap stop TERM
wait "$!"
wait "$!"
code=$?
ended=$(sed -n 2p "$driver") # that of `ray symmetric-run` may be another
code=${ended:-$code}

if [[ $stopping ]] && ((code > 128)); then # neither finished nor failed
    # One task of an array has the array's own number, by which all of them would be requeued.
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    job=${job:-$SLURM_JOB_ID}
    if [[ -z $(squeue --noheader --jobs "$job" --states RUNNING) ]]; then
        echo "slurm.sh: cancelled" >&2
    elif ((${SLURM_RESTART_COUNT:-0} >= restarts)); then
        echo "slurm.sh: requeued $restarts times already; submit it again to continue" >&2
    else
        echo "slurm.sh: requeued, to continue" >&2
        scontrol requeue "$job"
    fi
elif [[ ! -s $driver ]]; then
    echo "slurm.sh: Ray did not start, so the study did not either" >&2
    ((code)) || code=1 # `ray symmetric-run` says 0
fi
exit "$code"
