#!/bin/sh
# net.sh [REPEATS]: streams and round trips over loopback beside iperf3 and raw sockets, the cipher
# beside OpenSSL; run as `tools/bench net`. Ours and theirs in turns; medians. Status 1: a target is
# missed. Needs iperf3 and libssl-dev (apt-get).
# net.sh flood [REPEATS]: an established UDP session under floods of bad handshakes beside one whose
# flood goes to another socket; run as `tools/bench net flood`. RATE: packets a second, 20000.
cd "$(dirname "$0")/../.." || exit 2
made=tools/bench_peers/build
mkdir -p "$made"
: "${CC:=cc}"
median() { sort -n "$made/net-$1.txt" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
if [ "$1" = flood ]; then
    repeats=${2:-7} rate=${RATE:-20000} kinds="random mac stranger replay" missed=0
    "$CC" -std=gnu99 -O2 -I. tools/bench_peers/net.c -lpthread -o "$made/net" || exit 2
    rm -f "$made"/net-flood-*.txt
    i=0
    while [ $i -lt "$repeats" ]; do
        "$made/net" flood none "$rate" 1 >>"$made/net-flood-none.txt"
        for kind in $kinds; do
            "$made/net" flood "$kind" "$rate" 1 >>"$made/net-flood-$kind.txt"
            "$made/net" flood "sink-$kind" "$rate" 1 >>"$made/net-flood-sink-$kind.txt"
        done
        i=$((i + 1))
    done
    echo "| $rate bad packets/s, medians of $repeats in turns | MB/s | sent elsewhere, MB/s | ratio | target | |"
    echo "|---|---|---|---|---|---|"
    for kind in $kinds; do
        echo "$kind $(median "flood-$kind") $(median "flood-sink-$kind")" | awk '{
            met = $2 / $3 >= 0.8
            printf "| UDP session, flood of %s | %s | %s | %.2f | >= 0.80 | %s |\n", $1, $2, $3, $2 / $3,
                met ? "met" : "**missed**"
            exit !met
        }' || missed=1
    done
    echo
    echo "Without a flood: $(median flood-none) MB/s."
    exit $missed
fi
repeats=${1:-7}
command -v iperf3 >/dev/null 2>&1 || { echo "net: needs iperf3" >&2; exit 2; }
"$CC" -std=gnu99 -O2 -I. tools/bench_peers/net.c -lpthread -o "$made/net" || exit 2
"$CC" -std=gnu99 -O2 -DDLS_ENABLE_TRAIN=0 -I. tools/bench_peers/aead.c -lcrypto -lpthread -o "$made/aead" || exit 2
iperf() { # GB/s of one stream
    iperf3 -s -1 -p 5391 >/dev/null 2>&1 &
    sleep 0.3
    iperf3 -c 127.0.0.1 -p 5391 -t 2 -J 2>/dev/null |
        sed -n '/"sum_received"/,/}/s/.*"bits_per_second":[^0-9]*\([0-9.e+]*\).*/\1/p' | awk '{ print $1 / 8e9 }'
    wait
}
rm -f "$made"/net-*.txt
i=0
while [ $i -lt "$repeats" ]; do
    iperf >>"$made/net-iperf.txt"
    "$made/net" stream plain 2 >>"$made/net-plain.txt"
    "$made/net" stream keys 2 >>"$made/net-keys.txt"
    for what in raw-tcp plain keys raw-udp udp; do
        "$made/net" ping $what 5000 >>"$made/net-ping-$what.txt"
    done
    i=$((i + 1))
done
"$made/aead" 1 >"$made/net-aead.txt"
cipher=$(awk '$1 == 65536 { print $2 }' "$made/net-aead.txt")
{
    echo "iperf $(median iperf)"
    echo "plain $(median plain)"
    echo "keys $(median keys)"
    echo "cipher ${cipher:-0}"
    for what in raw-tcp plain keys raw-udp udp; do echo "ping-$what $(median "ping-$what")"; done
    awk '$1 == 16384 { print "aead", $2; print "openssl", $3 }' "$made/net-aead.txt"
} | awk -v n="$repeats" '
{ v[$1] = $2 }
function row(what, ours, peer, unit, ratio, target, most) {
    met = most ? ratio <= target : ratio >= target
    printf "| %s | %s %s | %s | %.2f | %s%.2f | %s |\n", what, ours, unit, peer, ratio, most ? "<= " : ">= ", target,
        met ? "met" : "**missed**"
    if (!met) missed++
}
END {
    print "| over loopback, medians of " n " in turns | dlshard.h | peer | ratio | target | |"
    print "|---|---|---|---|---|---|"
    row("TCP stream, plain", v["plain"], v["iperf"] " (iperf3)", "GB/s", v["plain"] / v["iperf"], 0.8, 0)
    least = v["iperf"] < v["cipher"] ? v["iperf"] : v["cipher"]
    row("TCP stream, encrypted", v["keys"], least " (the lower of iperf3 and the cipher)", "GB/s", v["keys"] / least, 0.7, 0)
    row("ChaCha20-Poly1305, 16 KB", v["aead"], v["openssl"] " (OpenSSL)", "GB/s", v["aead"] / v["openssl"], 0.6, 0)
    row("round trip of 16 bytes, TCP, plain", v["ping-plain"], v["ping-raw-tcp"] " (raw socket)", "us",
        v["ping-plain"] / v["ping-raw-tcp"], 1.15, 1)
    row("round trip, TCP, encrypted", v["ping-keys"], v["ping-raw-tcp"] " (raw socket)", "us",
        v["ping-keys"] / v["ping-raw-tcp"], 1.15, 1)
    row("round trip, UDP, encrypted", v["ping-udp"], v["ping-raw-udp"] " (raw socket)", "us",
        v["ping-udp"] / v["ping-raw-udp"], 1.15, 1)
    exit missed > 0
}'
