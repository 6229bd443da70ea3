#!/bin/sh
# coll.sh [REPEATS [KEYS]]: all-reduce of floats over loopback TCP beside Gloo (PyTorch) and OpenMPI
# over TCP, 2 and 4 processes; run as `tools/bench coll`. All in turns; medians over the rounds of
# each side's own median. Status 1: a target is missed: 1.3 times the better peer's bandwidth from
# 1 MB on, no slower below; encrypted, no slower than Gloo. Needs python3-torch, openmpi-bin and
# libopenmpi-dev (apt-get); what is missing is left out. A processor is busy while OpenMPI waits.
cd "$(dirname "$0")/../.." || exit 2
repeats=${1:-5} made=tools/bench_peers/build
sizes="4 4096 65536 1048576 16777216 104857600"
mkdir -p "$made"
: "${CC:=cc}" "${PYTHON:=/usr/bin/python3}"
"$CC" -std=gnu99 -O2 -I. tools/bench_peers/coll.c -lpthread -o "$made/coll" || exit 2
peers=
"$PYTHON" -c 'import torch' 2>/dev/null && peers="$peers gloo"
mpicc.openmpi -O3 tools/bench_peers/coll_mpi.c -o "$made/coll_mpi" 2>/dev/null && peers="$peers ompi"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
run() { # SIDE N
    bind=none
    [ "$2" -gt "$(getconf _NPROCESSORS_ONLN)" ] || bind=core
    # shellcheck disable=SC2086
    case $1 in
    plain | keys) "$made/coll" "$1" "$2" 0 $sizes ;;
    gloo) PYTHONDONTWRITEBYTECODE=1 "$PYTHON" tools/bench_peers/coll_gloo.py "$2" $sizes ;;
    ompi) mpirun.openmpi --oversubscribe --mca pml ob1 --mca mpi_yield_when_idle 1 --bind-to $bind \
        -np "$2" --mca btl tcp,self --mca btl_tcp_if_include lo "$made/coll_mpi" $sizes ;;
    esac
}
rm -f "$made"/coll-*.txt
round=0
while [ $round -lt "$repeats" ]; do
    for n in 2 4; do
        for side in plain keys $peers; do
            run $side $n | sed "s/^/$side $n /" >>"$made/coll-all.txt"
        done
    done
    round=$((round + 1))
done
sort -k1,1 -k2,2n -k3,3n -k4,4n "$made/coll-all.txt" | awk -v rounds="$repeats" '
{ key = $1 " " $2 " " $3; v[key, ++n[key]] = $4; processor[key] += $7; size[$3]; members[$2] }
function median(side, m, s,    k) { k = side " " m " " s; return n[k] ? v[k, int((n[k] + 1) / 2)] : 0 }
function work(side, m, s,    k) { k = side " " m " " s; return n[k] ? processor[k] / n[k] : 0 }
function show(us) { return us ? sprintf(us < 1000 ? "%.1f us" : "%.2f ms", us < 1000 ? us : us / 1000) : "-" }
END {
    print "| all-reduce over loopback TCP, medians of " rounds " | plain | encrypted | Gloo | OpenMPI | ratio | target | | processor: ours, Gloo, OpenMPI |"
    print "|---|---|---|---|---|---|---|---|---|"
    split("4 4096 65536 1048576 16777216 104857600", order, " ")
    for (m = 2; m <= 4; m += 2) for (i = 1; i <= 6; i++) {
        s = order[i]
        ours = median("plain", m, s); keys = median("keys", m, s)
        gloo = median("gloo", m, s); ompi = median("ompi", m, s)
        best = gloo && (!ompi || gloo < ompi) ? gloo : ompi
        target = s >= 1048576 ? 1.3 : 1
        met = ours && best / ours >= target && (!gloo || keys <= gloo)
        if (!met && best) missed++
        printf "| %d processes, %d bytes | %s | %s | %s | %s | %.2f | >= %.1f | %s | %s, %s, %s |\n", m, s, show(ours),
            show(keys), show(gloo), show(ompi), ours ? best / ours : 0, target, !best ? "" : met ? "met" : "**missed**",
            show(work("plain", m, s)), show(work("gloo", m, s)), show(work("ompi", m, s))
    }
    exit missed > 0
}'
