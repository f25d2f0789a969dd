#!/usr/bin/env bash
# A Slurm of two virtual nodes on this machine, for tests: no accounting, no cgroups, two fake GPUs a node. As root or with sudo.
#
#   slurm.sh install              Debian's slurm-wlm and munge, if they are missing
#   slurm.sh start FOLDER         all it writes lies in FOLDER; clients need SLURM_CONF=FOLDER/slurm.conf and FOLDER/bin
#                                 first on their PATH
#   slurm.sh kill FOLDER NODE     as if NODE (n1 or n2) lost its power: its slurmd and all that runs there
#   slurm.sh revive FOLDER NODE   switches it on again
#   slurm.sh stop FOLDER
set -euo pipefail
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"
usage="usage: $0 install | start FOLDER | kill FOLDER NODE | revive FOLDER NODE | stop FOLDER"
command=${1:?$usage}
folder=$([ "$command" = install ] || realpath -m "${2:?$usage}")
export PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$folder/slurm.conf
patience=30 # seconds

wait_for() { # SENTENCE COMMAND...: until the command succeeds
    local sentence=$1 end=$((SECONDS + patience))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            echo "$sentence within $patience seconds; see $folder/log." >&2
            exit 1
        fi
        sleep 0.2
    done
}

idle() { sinfo --noheader --nodes "$1" --format %T | grep -qx idle; }

processes() { # of a node: its slurmd and slurmstepds, which hold its log, before what these started
    find /proc/[0-9]*/fd -lname "$folder/log/$1" 2>/dev/null | cut -d / -f 3 | sort -u
    grep -lazs "^SLURMD_NODENAME=$1\$" /proc/[0-9]*/environ | xargs -r grep -lazs "^SLURM_CONF=$SLURM_CONF\$" | cut -d / -f 3
}

power_off() { # again and again: a process may have started another meanwhile
    local found
    while found=$(processes "$1" || true) && [ -n "$found" ]; do
        echo "$found" | xargs -r kill -KILL 2>/dev/null || true
    done
}

power_on() {
    slurmd -N "$1"
    wait_for "Node $1 did not come up" idle "$1"
}

end() { # the daemon of a file with its process id
    [ -s "$1" ] || return 0
    local id
    id=$(cat "$1")
    kill "$id" 2>/dev/null || return 0
    wait_for "The daemon of $1 did not end" test ! -d "/proc/$id"
}

start() {
    for needed in munged slurmctld slurmd srun; do
        command -v $needed >/dev/null || { echo "$needed is missing; try: $0 install" >&2; exit 1; }
    done
    mkdir -p "$folder"/{bin,munge,log,state,spool}
    chmod 755 "$folder"/{bin,munge,log,state,spool}
    local controller first second
    read -r controller first second < <(python3 -c "
import socket
held = [socket.create_server(('', 0)) for _ in range(3)]
print(*(one.getsockname()[1] for one in held))")
    cat >"$folder/slurm.conf" <<END
ClusterName=lmrel
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$controller
SlurmUser=root
AuthType=auth/munge
# How long a requeued job waits, among others.
AuthInfo=socket=$folder/munge/socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/%n
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
SchedulerParameters=batch_sched_delay=0,sched_interval=2
KillWait=5
MinJobAge=3600
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) Port=$first CPUs=1 RealMemory=64000 Gres=gpu:2
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) Port=$second CPUs=1 RealMemory=64000 Gres=gpu:2
PartitionName=main Nodes=n1,n2 Default=YES
END
    echo "NodeName=n[1-2] Name=gpu File=/dev/null,/dev/zero" >"$folder/gres.conf"
    # Snakemake's plugin takes every variable named SLURM_* but a few from the srun within a job, this one too.
    printf '#!/bin/sh\nSLURM_CONF=%q exec %q "$@"\n' "$SLURM_CONF" "$(command -v srun)" >"$folder/bin/srun"
    chmod 755 "$folder/bin/srun"
    (umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
        --seed-file="$folder/munge/seed" --log-file="$folder/munge/log" 2>/dev/null
    slurmctld -c
    wait_for "The controller did not answer" scontrol ping
    power_on n1
    power_on n2
}

case $command in
install)
    if ! { command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
    fi
    ;;
start) start ;;
kill) power_off "${3:?$usage}" ;;
revive) power_on "${3:?$usage}" ;;
stop)
    end "$folder/slurmctld.pid"
    power_off n1
    power_off n2
    end "$folder/munge/pid"
    ;;
*) echo "$usage" >&2 && exit 2 ;;
esac
