#!/bin/bash
# Runs a command under a Slurm of its own: one node, this machine; files in a temporary folder; nothing is left when it ends.
#   single-node-slurm.sh npx vitest run test/evaluation/slurm.test.ts
# Wants Debian's packages slurm-wlm and munge, and root (slurmd starts jobs as other users).
set -euo pipefail

fail() { echo "single-node-slurm: $*" >&2; exit 1; }
export PATH="$PATH:/usr/sbin"
(($# > 0)) || fail "which command? single-node-slurm.sh npx vitest run test/evaluation/slurm.test.ts"
[[ $(id -u) = 0 ]] || fail "slurmd wants root; this is $(id -un)"
for program in munged slurmctld slurmd sbatch; do
  command -v "$program" > /dev/null || fail "$program is missing: apt-get install slurm-wlm munge"
done

folder=$(mktemp -d --tmpdir edgepress-slurm.XXXXXX)
daemons=()
stop() {
  scancel --user=root 2> /dev/null && sleep 1 || true
  # The last started first; each is waited for, so that its files can go.
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
    kill "${daemons[i]}" 2> /dev/null && wait "${daemons[i]}" || true
  done
  rm -rf "$folder"
}
trap stop EXIT

host=$(hostname -s)
cat > "$folder/slurm.conf" << CONF
ClusterName=edgepress
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURMCTLD_PORT:-26817}
SlurmdPort=${SLURMD_PORT:-26818}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
MinJobAge=600
KillWait=5
MailProg=/bin/true
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
mkdir "$folder/state" "$folder/spool"
chmod 755 "$folder"
export SLURM_CONF="$folder/slurm.conf"

(umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munge.pid" --seed-file="$folder/munge.seed" > "$folder/munged.log" 2>&1 &
daemons+=($!)
for _ in {1..50}; do [[ -S $folder/munge.socket ]] && break; sleep 0.1; done
slurmctld -D > "$folder/slurmctld.out" 2>&1 &
daemons+=($!)
slurmd -D -N "$host" > "$folder/slurmd.out" 2>&1 &
daemons+=($!)

for _ in {1..150}; do
  [[ $(sinfo --noheader --format=%T 2> /dev/null) = idle ]] && ready=1 && break
  sleep 0.2
done
[[ ${ready:-} ]] || { tail -n 20 "$folder"/*.log "$folder"/*.out >&2; fail "no node was ready in 30 s"; }
"$@"
