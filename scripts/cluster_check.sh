#!/usr/bin/env bash
# Tries what docs/scaling.md says of clusters: starts SLURM with two nodes on this machine, and trains toys on
# them, over gloo. The nodes are namespaces of Linux with a network of their own, which nothing reaches from
# outside, and which end with this script. Writes to a temporary folder only. Needs root, and takes the python
# that is active, with the packages of requirements.txt. About 8 minutes on 2 CPU cores. Prints what a user
# reads after each signal and kill, and a table, whose seconds are those from it until all have been requeued,
# have resumed or have ended.
#   bash scripts/cluster_check.sh
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
namespaces=(unshare --mount --uts --net --pid --fork --kill-child --mount-proc)

fail() {
  echo "cluster_check.sh: error: $*" >&2
  exit 2
}

# -- outside the namespaces

require_packages() {
  [ "$(id -u)" = 0 ] || fail "needs root, for SLURM's daemons and namespaces"
  local name missing=""
  for name in munged:munge slurmctld:slurm-wlm slurmd:slurm-wlm sbatch:slurm-wlm mpirun:openmpi-bin \
    unshare:util-linux ip:iproute2 pgrep:procps; do
    command -v "${name%:*}" >/dev/null || missing+=" ${name#*:}"
  done
  [ -z "$missing" ] || fail "packages are missing: apt install$missing"
  "${namespaces[@]}" ip link add type veth 2>/dev/null || fail "this machine allows no namespaces with a network"
  command -v torchrun >/dev/null || fail "torchrun was not found: activate an environment with requirements.txt"
}

if [ "${1-}" != --inside ]; then
  require_packages
  work="$(mktemp -d)"
  "${namespaces[@]}" bash "${BASH_SOURCE[0]}" --inside "$work" &
  trap 'kill -KILL $!; sleep 1; rm -rf "$work"; exit 1' INT TERM
  if wait $!; then
    rm -rf "$work"
    exit 0
  fi
  echo "outputs of all processes: $work" >&2
  exit 1
fi

# -- inside: the cluster

work="$2"
export OMP_NUM_THREADS=1 SLURM_CONF="$work/slurm/slurm.conf"

# Runs a command on a node, as its first process: the node ends with it. Its host name is that of the node.
on_node() {
  exec unshare --uts --pid --mount --fork --kill-child --mount-proc bash -c 'hostname "$0"; exec "$@"' "$@"
}

start_network() {
  ip link set lo up
  ip link add cluster type veth peer name other # a machine with lo alone resolves no names
  ip link set cluster up
  ip link set other up
  ip address add 10.0.0.1/24 dev cluster
  ip address add 10.0.0.2/24 dev cluster
  printf '127.0.0.1 localhost\n10.0.0.1 node1\n10.0.0.2 node2\n' >"$work/hosts"
  mount --bind "$work/hosts" /etc/hosts
  hostname node1
}

start_slurm() {
  mkdir -m 755 "$work/slurm"
  cd "$work/slurm"
  mkdir munge state spool-node1 spool-node2
  (umask 077 && head -c 1024 /dev/urandom >munge/key)
  munged --foreground --force --key-file "$PWD/munge/key" --socket "$PWD/munge/socket" \
    --pid-file "$PWD/munge/pid" --seed-file "$PWD/munge/seed" --log-file "$PWD/munge/log" &>munge/output &
  local gpu
  for gpu in {0..7}; do
    mknod "gpu$gpu" c 1 3 # which SLURM counts as a GPU
  done
  echo "Name=gpu File=$PWD/gpu[0-7]" >gres.conf
  # config_overrides: the nodes have the CPUs that are written here; cred_expire: seconds until a requeued
  # job starts
  cat >slurm.conf <<CONF
ClusterName=check
SlurmctldHost=node1
SlurmUser=root
SlurmdUser=root
AuthInfo=socket=$PWD/munge/socket,cred_expire=5
StateSaveLocation=$PWD/state
SlurmdSpoolDir=$PWD/spool-%n
SlurmctldPidFile=$PWD/state/slurmctld.pid
SlurmdPidFile=$PWD/state/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=node1 CPUs=64 Gres=gpu:8 Port=17001
NodeName=node2 CPUs=64 Gres=gpu:8 Port=17002
PartitionName=all Nodes=ALL Default=YES
CONF
  slurmctld -D -c &>slurmctld.output &
  local node
  for node in node1 node2; do
    on_node $node bash -c "slurmd -D -N $node & wait" &>slurmd-$node.output &
  done
  wait_for 60 nodes_are_idle
}

nodes_are_idle() {
  [ "$(sinfo --noheader --states idle --format %D)" = 2 ]
}

# -- what the checks share

# wait_for SECONDS COMMAND...: until the command succeeds
wait_for() {
  local end=$((SECONDS + $1))
  until "${@:2}" 2>/dev/null; do
    [ $SECONDS -lt $end ] || { echo "not within $1 s: ${*:2}" && return 1; }
    sleep 0.1
  done
}

now() {
  date +%s.%N
}

# takes START: the seconds of this check are those since then
took() {
  awk "BEGIN {printf \"%.1f\", $(now) - $1}" >seconds
}

# read_by_user FILE...: what they say of failures and restarts, without stack traces
read_by_user() {
  grep --with-filename --text --only-matching --extended-regexp \
    'train\.py: error: .*|resumed from .*|stopped after .*|^[a-zA-Z._0-9]+Error(: .*)?$|failed \(exitcode: .*|^srun: .*' \
    "$@" | tr '\r' ' ' | cut -c1-400 | sed 's/^/    /'
}

flags=(train.py --data mscoco --batch-size 128 --lr 0.00009 --lamda 0.4 --pos)
run=experiments/mlic_mscoco/exp1

# the run of this folder is its only one, and has each of its 12 epochs once
is_complete() {
  [ ! -e experiments/mlic_mscoco/exp2 ]
  [ "$(sed 's/{"epoch": \([0-9]*\),.*/\1/' $run/history.jsonl | xargs)" = "$(seq 12 | xargs)" ]
}

# same_weights FOLDER: the run of this folder ended with the weights of that one
same_weights() {
  is_complete
  python - "$1/$run" "$run" <<'PYTHON'
import sys

import torch

first, second = (torch.load(f"{run}/checkpoints/last.pth")["model"] for run in sys.argv[1:])
different = [name for name, value in first.items() if not torch.equal(value, second[name])]
sys.exit(f"weights differ: {different[:3]}" if different else 0)
PYTHON
}

# -- the checks, each in a folder of its own

torchrun_2() {
  torchrun --standalone --nproc-per-node 2 "${flags[@]}" &>output
}

torchrun_4() {
  torchrun --standalone --nproc-per-node 4 "${flags[@]}" &>output
}

batch_script() {
  # the document's, of which flags shorten the time, and leave one of eight GPUs
  awk '/^```bash$/ {script = ""; next} /^```$/ {if (script ~ /#SBATCH/) printf "%s", script}
    {script = script $0 "\n"}' "$root/docs/scaling.md" >job.sh
  local job
  # bash counts its SECONDS from there: as if the first hour were over
  job="$(SECONDS=3600 SECONDS_PER_STEP=3 sbatch --parsable --time=4 --gpus-per-node=1 --output=output job.sh)"
  wait_for 60 has_all_cpus "$job"
  wait_for 240 grep -q "stopped after step" output
  local start
  start="$(now)"
  wait_for 60 is_requeued "$job"
  took "$start"
  wait_for 240 is_done "$job"
  read_by_user output
  local stopped resumed
  stopped="$(grep -ao 'stopped after step [0-9]*' output)"
  resumed="$(grep -ao 'resumed from step [0-9]*' output)"
  [ "${stopped##* }" = "${resumed##* }" ]
  same_weights ../torchrun_2
}

# its tasks, one a node, have the 64 CPUs of each
has_all_cpus() {
  scontrol show step "$1.0" | grep -q TresPerStep=cpu:128
}

is_requeued() {
  [ "$(squeue --noheader --jobs "$1" --format %T)" = PENDING ]
}

is_done() {
  [ -z "$(squeue --noheader --jobs "$1")" ]
}

srun_alone() {
  srun --nodes=2 --ntasks-per-node=2 --gpus-per-node=2 python "${flags[@]}" &>output
  same_weights ../torchrun_4
}

mpirun_alone() {
  mpirun --allow-run-as-root --oversubscribe -np 2 python "${flags[@]}" &>output
  same_weights ../torchrun_2
}

# start_both [FLAG...]: starts a training on both nodes, and waits for the middle of its second epoch
start_both() {
  export SECONDS_PER_STEP=1
  start_node 1 "$@"
  start_node 2 "$@"
  wait_for 240 test -f $run/checkpoints/last.pth
  sleep 2
  unset SECONDS_PER_STEP
}

# start_node NUMBER [FLAG OF TORCHRUN...]
start_node() {
  TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 on_node "node$1" \
    torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-id sgre --rdzv-endpoint node1:29400 \
    --max-restarts 3 "${@:2}" "${flags[@]}" --resume auto &>>"node$1" &
  echo $! >"node$1.pid"
}

# the first process of a node, its launcher
launcher() {
  pgrep -P "$(cat "node$1.pid")"
}

# until a launcher of a node has ended, which must fail
wait_for_failure() {
  if wait "$(cat "node$1.pid")"; then
    return 1
  fi
}

processes_killed() {
  start_both
  local start
  start="$(now)"
  pkill -KILL -P "$(launcher 2)"
  wait_for 240 grep -q "resumed from" node1
  took "$start"
  wait
  read_by_user node1 node2
  is_complete
}

node_killed() {
  start_both
  local start
  start="$(now)"
  kill -KILL "$(launcher 2)"
  wait_for 60 grep -q "exitcode" node1
  sleep 5
  start_node 2
  wait_for 240 grep -q "resumed from" node1
  took "$start"
  wait
  read_by_user node1
  is_complete
}

node_lost() {
  start_both --rdzv-conf join_timeout=30
  local start
  start="$(now)"
  kill -KILL "$(launcher 2)"
  wait_for_failure 1
  took "$start"
  read_by_user node1
}

rendezvous_host_killed() {
  start_both
  local start
  start="$(now)"
  kill -KILL "$(launcher 1)"
  wait_for_failure 2
  took "$start"
  start_node 1
  start_node 2
  wait
  read_by_user node1 node2
  is_complete
}

# check NAME FUNCTION: a row of the table
check() {
  local status start result
  mkdir -p "$work/$2"
  cd "$work/$2"
  ln -s "$root/benchmarks/cluster_training.py" train.py
  ln -s "$work/data" data
  echo "$1"
  start="$(now)"
  set +e
  (
    trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
    set -e
    "$2"
  )
  status=$?
  set -e
  [ -f seconds ] || took "$start"
  if [ $status = 0 ]; then
    result=ok
  else
    result=FAILED
    failed=1
  fi
  table+="$(printf '%-62s %-6s %8s' "$1" $result "$(cat seconds)")"$'\n'
}

start_network
start_slurm
python "$root/scripts/digits.py" --save-dir "$work/data/mscoco" --train 32 --test 8 --size 64 &>"$work/digits"
failed=0
table="$(printf '%-62s %-6s %8s' check result seconds)"$'\n'
check "torchrun, two processes" torchrun_2
check "torchrun, four processes" torchrun_4
check "mpirun, two processes" mpirun_alone
check "srun, two nodes with two tasks each" srun_alone
check "batch script, stopped before its limit, requeued and resumed" batch_script
check "a node's processes killed: restarted" processes_killed
check "a node killed, and back after 5 s: restarted" node_killed
check "a node killed for good: the other one ends" node_lost
check "the rendezvous host killed: the other node ends" rendezvous_host_killed
printf '\n%s' "$table"
exit $failed
