#!/bin/sh
# udp.sh [MBIT [QUEUE_BYTES [SECONDS]]]: goodput of udp.c through a router that shapes to MBIT with a
# FIFO queue, as a share of it, at 0, 1 and 5 % loss (dropped by the sender), and beside an iperf3
# TCP stream. Needs root, ip, tc; iperf3 for the second part. Not part of make: it takes minutes.
cd "$(dirname "$0")/../.." || exit 2
mbit=${1:-100} queue=${2:-250000} seconds=${3:-10}
tmp=$(mktemp -d) a=dlsa$$ r=dlsr$$ b=dlsb$$
cc -std=gnu99 -O2 -DDLS_ENABLE_SIMD=0 -I. tests/flow/udp.c -o "$tmp/udp" -lpthread || exit 2
recv=
stop() {
    [ -z "$recv" ] || kill $recv 2>/dev/null
    for n in $a $r $b; do ip netns del $n 2>/dev/null; done
    rm -rf "$tmp"
}
trap stop EXIT
for n in $a $r $b; do ip netns add $n && ip -n $n link set lo up || exit 2; done
ip link add name va netns $a type veth peer name ra netns $r
ip link add name vb netns $b type veth peer name rb netns $r
ip -n $a addr add 10.77.1.1/24 dev va && ip -n $a link set va up
ip -n $r addr add 10.77.1.2/24 dev ra && ip -n $r link set ra up
ip -n $r addr add 10.77.2.2/24 dev rb && ip -n $r link set rb up
ip -n $b addr add 10.77.2.1/24 dev vb && ip -n $b link set vb up
ip -n $a route add default via 10.77.1.2
ip -n $b route add default via 10.77.2.2
ip netns exec $r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
# segments as they are on a wire, not in bundles of 64 KB
for x in "$a va" "$r ra" "$r rb" "$b vb"; do
    ip netns exec ${x% *} ethtool -K ${x#* } gso off tso off gro off >/dev/null 2>&1 ||
        ip -n ${x% *} link set ${x#* } gso_max_size 1600 2>/dev/null
done
tc -n $r qdisc add dev rb root tbf rate ${mbit}mbit burst 5000 limit $queue || exit 2
ip netns exec $b chrt -f 1 "$tmp/udp" recv 7000 "${DELAY_MS:-0}" &
recv=$!
sleep 0.3
echo "link $mbit Mbit/s, queue $queue bytes, $seconds s each"
for loss in ${LOSSES:-0 0.01 0.05}; do
    printf 'alone, loss %-5s ' $loss
    ip netns exec $a chrt -f 1 "$tmp/udp" send 10.77.2.1 7000 "$seconds" "$mbit" $loss
done
if [ "${TCP:-1}" = 1 ] && command -v iperf3 >/dev/null 2>&1; then
    ip netns exec $b iperf3 -s >/dev/null 2>&1 &
    recv="$recv $!"
    sleep 0.5
    ip netns exec $a iperf3 -c 10.77.2.1 -C cubic -t "$seconds" -f m >"$tmp/tcp" 2>&1
    printf 'TCP alone          %s Mbit/s\n' "$(awk '/receiver/ { print $7 }' "$tmp/tcp")"
    for first in tcp udp; do
        [ $first = tcp ] && early=2 || early=0
        (sleep $((2 - early)); ip netns exec $a iperf3 -c 10.77.2.1 -C cubic -t $((2 * seconds + 2)) -O 3 -f m >"$tmp/tcp" 2>&1) &
        tcp=$!
        sleep $early
        printf 'beside TCP, %s first ' $first
        ip netns exec $a chrt -f 1 "$tmp/udp" send 10.77.2.1 7000 $((2 * seconds)) "$mbit" 0
        wait $tcp
        printf '            the TCP %s Mbit/s\n' "$(awk '/receiver/ { print $7 }' "$tmp/tcp")"
    done
fi
