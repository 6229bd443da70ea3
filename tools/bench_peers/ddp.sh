#!/bin/sh
# ddp.sh [REPEATS] [SECONDS]: two processes of one thread that train together, ours in several modes
# beside PyTorch's DDP over Gloo with its hooks, in turns; over loopback and, as root, between two
# network namespaces with tbf. Medians; samples/s of both together. NETS, RATES ("none 20mbit"),
# MODES, HOOKS choose. Needs python3-torch, iproute2. Run it on an idle machine.
cd "$(dirname "$0")" || exit 2
repeats=${1:-3} secs=${2:-4}
: "${CC:=cc}" "${NETS:=lenet resnet8 resnet20}" "${RATES:=none 20mbit}" "${HOOKS:=nosync none fp16 powersgd1}"
: "${MODES:=alone f32 f16 q8 q4 topk power1 local10}"
made=$PWD/build
mkdir -p "$made"
"$CC" -std=gnu99 -O2 -I../.. ddp.c -lpthread -o "$made/ddp" || exit 2
keys=$(mktemp -d) || exit 2
a=dlsa$$ b=dlsb$$
clean() {
    ip netns del $a 2>/dev/null
    ip netns del $b 2>/dev/null
    rm -rf "$keys"
}
trap clean EXIT
trap 'exit 1' INT TERM
"$made/ddp" keys "$keys" || exit 2
# shellcheck disable=SC1091
. ./peer_env.sh
unset OMP_PROC_BIND
export PIN=1
in_a='' in_b='' address=127.0.0.1 if_a=lo if_b=lo
link() { # RATE: two namespaces, each direction limited
    in_a="ip netns exec $a" in_b="ip netns exec $b" address=10.77.0.1 if_a=v0 if_b=v1
    ip netns add $a && ip netns add $b && ip link add v0 netns $a type veth peer name v1 netns $b || return 1
    ip -n $a addr add 10.77.0.1/24 dev v0 && ip -n $b addr add 10.77.0.2/24 dev v1
    for x in "$a v0" "$b v1"; do
        # shellcheck disable=SC2086
        set -- $1 $x
        ip -n "$2" link set lo up
        ip -n "$2" link set "$3" up
        tc -n "$2" qdisc add dev "$3" root tbf rate "$1" burst 64kb latency 50ms
    done
}
port=$(($$ % 20000 + 20000))
ours() { # NET MODE: samples/s
    port=$((port + 2))
    rm -f "$keys"/*.state
    # shellcheck disable=SC2086
    $in_a taskset -c 0 timeout 90 "$made/ddp" "$1" "$2" "$secs" "$keys" 0 $address $port >"$made/ddp-0.txt" 2>"$made/ddp-0.err" &
    rank0=$!
    # shellcheck disable=SC2086
    $in_b taskset -c 1 timeout 90 "$made/ddp" "$1" "$2" "$secs" "$keys" 1 $address $port >/dev/null 2>"$made/ddp-1.err"
    wait $rank0
    sed -n 's/.* \([0-9.]*\) samples\/s.*/\1/p' "$made/ddp-0.txt"
}
theirs() { # NET HOOK: samples/s; PowerSGD over Gloo sometimes never returns in Debian's 1.13
    # shellcheck disable=SC2086
    $in_a timeout 90 /usr/bin/python3 torch_ddp.py "$1" 0 2 $address $if_a "$2" "$secs" >"$made/ddp-t.txt" 2>/dev/null &
    rank0=$!
    # shellcheck disable=SC2086
    $in_b timeout 90 /usr/bin/python3 torch_ddp.py "$1" 1 2 $address $if_b "$2" "$secs" >/dev/null 2>&1
    wait $rank0
    sed -n 's/.* \([0-9]*\) samples\/s.*/\1/p' "$made/ddp-t.txt"
}
median() { sort -n | awk '{ v[NR] = $1 } END { print (NR > 0 ? v[int((NR + 1) / 2)] : "none") }'; }
echo "| link | net | who | samples/s, median of $repeats |"
echo "|---|---|---|---|"
for rate in $RATES; do
    if [ "$rate" != none ]; then
        [ "$(id -u)" = 0 ] || { echo "ddp: $rate needs root" >&2 && continue; }
        link "$rate" || { echo "ddp: no namespaces" >&2 && continue; }
    fi
    for net in $NETS; do
        rm -f "$made"/ddp-of-*
        i=0
        while [ $i -lt "$repeats" ]; do
            for m in $MODES; do ours "$net" "$m" >>"$made/ddp-of-ours-$m"; done
            for m in $HOOKS; do theirs "$net" "$m" >>"$made/ddp-of-torch-$m"; done
            i=$((i + 1))
        done
        for m in $MODES; do echo "| $rate | $net | ours $m | $(median <"$made/ddp-of-ours-$m") |"; done
        for m in $HOOKS; do echo "| $rate | $net | torch $m | $(median <"$made/ddp-of-torch-$m") |"; done
    done
    [ "$rate" = none ] || { ip netns del $a; ip netns del $b; }
    in_a='' in_b='' address=127.0.0.1 if_a=lo if_b=lo
done
