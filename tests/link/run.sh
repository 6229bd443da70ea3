# Drivers, discovery and key files: first in one process, over loopback, ptys and with failing system
# calls; then the command line and examples/peer.c as processes; then in network namespaces, where
# root may make them.
. ./lib.sh
OUT=$out
export OUT
build "$out/link" link/link.c && run_c "$out/link"
[ -z "$SAN" ] || exit 0 # what follows are the same functions

build "$out/dlshard" ../tools/dlshard.c && build "$out/peer" ../examples/peer.c || exit 0
dir=$out/keys
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir" || exit 1
PATH=$out:$PATH
running=
trap 'end_all' EXIT
end_peers() {
    # shellcheck disable=SC2086
    [ -z "$running" ] || { kill $running 2>/dev/null; wait $running 2>/dev/null; }
    running=
}
end_all() {
    end_peers
    for n in $spaces; do ip netns del "$n" 2>/dev/null; done
    spaces=
}
spaces=

# ---- The command line ----

umask 022
wrong() { # TEXT COMMAND...: status 1 or 2, and the message has TEXT
    text=$1
    shift
    "$@" >wrong.txt 2>&1
    s=$?
    if [ $s -ge 1 ] && [ $s -le 2 ] && grep -q -e "$text" wrong.txt; then ok "error: $*"
    else fail "error: $* (status $s)" wrong.txt; fi
}
wrong "cannot open 'root.key'" dlshard enrol ada
check "keygen" dlshard keygen
wrong "exists already" dlshard keygen
check "the root key is its owner's alone" test "$(ls -l root.key | cut -c1-10)" = "-rw-------"
check "keygen elsewhere" dlshard keygen --root other.key
cp root.key root.sav
check "keygen --force" dlshard keygen --force
check "keygen --force made another key" sh -c '! cmp -s root.key root.sav'
mv root.sav root.key
check "enrol" dlshard enrol ada
check "enrol: the first coordinates" sh -c 'dlshard roster | grep -q "1  ada .*coord"'
check "enrol --role" dlshard enrol ben --role train,coord
check "enrol a third" dlshard enrol cleo --role train,coord
check "enrol --small" dlshard enrol mote --small
wrong "already" dlshard enrol ada
wrong "no such role" dlshard enrol dan --role king
wrong "may not" dlshard enrol dan --small --role coord
wrong "no name" dlshard enrol "two words"
wrong "needs --out" dlshard enrol ../dan
wrong "not signed by" dlshard enrol dan --root other.key
wrong "NAME" dlshard enrol
wrong "exists already" dlshard enrol eve --out ada.key
check "a refused enrolment leaves the roster alone" sh -c '[ $(dlshard roster | wc -l) = 5 ]'
check "roster: signature good" sh -c 'dlshard roster --root root.key | grep -q "epoch 4, 4 devices, 3 coordinate; signature good"'
wrong "not signed by" dlshard roster --root other.key
check "device keys are their owner's alone" test "$(ls -l mote.key | cut -c1-10)" = "-rw-------"
head -c 150 ada.key >short.key
chmod 600 short.key
wrong "cut short" peer --key short.key --roster lab.roster
wrong "no device key" peer --key root.key --roster lab.roster
chmod 644 short.key
wrong "chmod 600" peer --key short.key --roster lab.roster
head -c 100 lab.roster >short.roster
wrong "cut short" peer --key ada.key --roster short.roster
wrong "cannot open 'none.roster'" peer --key ada.key --roster none.roster
wrong "not like 3@" peer --key ada.key --roster lab.roster --connect 127.0.0.1:7
wrong "device 9 " peer --key ada.key --roster lab.roster --connect 9@127.0.0.1:7
wrong "serial line" peer --key ada.key --roster lab.roster --serial /dev/nothing
wrong "no baud rate" peer --key ada.key --roster lab.roster --serial /dev/null:fast
wrong "no device id" peer --key ada.key --roster lab.roster --serial /dev/null=x
wrong "peer --key" peer --what

within() { # SECONDS COMMAND...: until it succeeds
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -le $end ] || return 1
        sleep 0.1
    done
}
has() { grep -q -e "$1" "$2"; } # TEXT LOG
expect() { # NAME SECONDS TEXT LOG
    if within "$2" has "$3" "$4"; then ok "$1"; else fail "$1" "$4" 12; fi
}

# Enrolled over the network, by a code: once, and with a wrong code not at all.
mkdir -p far
inv=$(($$ % 20000 + 20001))
cp root.key lab.roster far/ # the root's side, so that what follows is as before
(cd far && exec dlshard invite nova --listen $inv --seconds 60 >invite.txt 2>&1) &
running="$running $!"
expect "invite prints a code" 5 '^nova: dlshard join' far/invite.txt
code=$(sed -n 's/^nova: dlshard join \([0-9a-f-]*\) .*/\1/p' far/invite.txt)
mkdir -p near
wrong "mistyped" dlshard join 0$code --at 127.0.0.1:$inv
wrong "numbers" dlshard join $code --at somewhere
wrong "nobody answers" dlshard join $code --at 127.0.0.1:1
(cd far && exec dlshard invite other --listen $((inv + 1)) --seconds 60 >other.txt 2>&1) &
running="$running $!"
expect "another invite" 5 '^other: dlshard join' far/other.txt
wrong "no answer to this code" dlshard join $code --at 127.0.0.1:$((inv + 1)) --out near/x.key
check "a wrong code leaves nothing" sh -c '! test -e near/x.key'
check "join by a code from standard input" sh -c "echo $code | dlshard join - --at 127.0.0.1:$inv --out near/nova.key --roster near/lab.roster"
expect "the root's side tells of it" 3 'nova has joined' far/invite.txt
check "the device has the roster" cmp near/lab.roster far/lab.roster
check "its key is its own alone" test "$(ls -l near/nova.key | cut -c1-10)" = "-rw-------"
wrong "nobody answers" dlshard join $code --at 127.0.0.1:$inv
peer --key near/nova.key --no-lan --seconds 0.2 >nova.txt 2>&1
check "and starts with it" test $? = 0
end_peers

# ---- Peers as processes ----

# start LOG [NETNS] -- ARGS: a peer ($program) that runs on, its number in $pid
start() {
    log=$1
    shift
    [ "$1" = -- ] || set -- "$@"
    if [ "$1" != -- ]; then
        space=$1
        shift 2
        ip netns exec "$space" peer "$@" >"$log" 2>&1 </dev/null &
    else
        shift
        ${program:-peer} "$@" >"$log" 2>&1 </dev/null &
    fi
    pid=$!
    running="$running $pid"
}
hash_of() { sed -n "s/^sum [0-9]* 5 1,2,3 //p" "$1" | tail -n 1; }

port=$(($$ % 20000 + 20000))
start a.log -- --key ada.key --roster lab.roster --lan-port $port --allreduce 5
start b.log -- --key ben.key --roster lab.roster --lan-port $port --allreduce 5
start c.log -- --key cleo.key --roster lab.roster --lan-port $port --allreduce 5
cleo=$pid
for l in a b c; do expect "three peers find one another and sum: $l" 15 '^sum [0-9]* 5 1,2,3 ' $l.log; done
check "the sums are alike" test "$(hash_of a.log)" = "$(hash_of b.log)" -a "$(hash_of a.log)" = "$(hash_of c.log)"
dlshard keygen --root other.key --force >/dev/null
dlshard enrol x1 --root other.key --roster other.roster >/dev/null
dlshard enrol x2 --root other.key --roster other.roster >/dev/null
start x.log -- --key x2.key --roster other.roster --lan-port $port
expect "a device of another group: the reason is told" 10 'note device 2 .*another group' x.log
mkdir -p twin
cp -p ben.key lab.roster twin/
start twin.log -- --key twin/ben.key --roster twin/lab.roster --lan-port $port
expect "two devices with one id: it is told" 10 'note device 2 .*two devices with one key file' a.log
kill $pid
wait $pid
check "revoke" dlshard revoke cleo
expect "the revoked one is out: a" 5 '^lo*e*[sf]t 3 cleo' a.log # left: it has read it first
expect "the revoked one is out: b" 5 '^lo*e*[sf]t 3 cleo' b.log
expect "the revoked one is told" 5 'is revoked in' c.log
check "the revoked one ends" within 3 sh -c "! kill -0 $cleo 2>/dev/null"
wrong "revoked" peer --key cleo.key --roster lab.roster
wrong "revoked already" dlshard revoke cleo
wrong "lists them" dlshard revoke nobody
start m.log -- --key mote.key --roster lab.roster --lan-port $port
expect "a small device is found by the others" 10 '^up 1 ada' m.log
end_all

# ---- Versions of the wire ----
# A later minor version is this header with a longer HELLO, flags and a control message that nobody
# knows yet; a later major one has another version in its packets.
later() { # NAME SED_SCRIPT CHANGES: peer-NAME, of a header with as many lines changed
    mkdir -p "$out/$1"
    sed "$2" "$root/dlshard.h" >"$out/$1/dlshard.h"
    [ "$(diff "$root/dlshard.h" "$out/$1/dlshard.h" | grep -c '^>')" = "$3" ] || fail "a header for $1"
    sed 's|"../dlshard.h"|"dlshard.h"|' "$root/examples/peer.c" >"$out/$1/peer.c"
    (cd "$out/$1" && root=$out/$1 && build "$out/peer-$1" peer.c)
}
pair() { # NAME OF_1 OF_2: peers of these programs
    program=$2 start a.log -- --key ada.key --roster lab.roster --lan-port $port --allreduce 3
    program=$3 start b.log -- --key ben.key --roster lab.roster --lan-port $port --allreduce 3
    program=
}
together() { # NAME OF_1 OF_2: one view, equal sums
    pair "$@"
    expect "$1: first" 10 '^sum [0-9]* 3 1,2 ' a.log
    expect "$1: second" 10 '^sum [0-9]* 3 1,2 ' b.log
    check "$1: the same view and sums" sh -c 'grep "^sum .* 1,2 " a.log | tail -n 3 >a.sum; grep "^sum .* 1,2 " b.log | tail -n 3 | cmp - a.sum'
    end_peers
}
later minor 's/^#define DLS_VERSION_MINOR .*/#define DLS_VERSION_MINOR 99/
    /^DLSI_FN void dlsi_ses_say_hello/,/^}/{
        s/payload\[DLS_HELLO_BYTES\];/payload[DLS_HELLO_BYTES + 13] = {7};/
        s/\(h.flags = \).*/\1(uint8_t)(0xE0 | dlsi_peer_gateway(p));/
        s/\( *\)(void)dlsi_ses_say(p, s, \(DLS_CONTROL_HELLO, payload, sizeof payload\));/&(void)dlsi_ses_say(p, s, (dls_control_type)99, payload, 21);/
    }
    /^DLSI_FN bool dlsi_ses_say(/,/^}/s/to\[1\] = 0;/to[1] = 0xF0;/' 5
later major 's/^#define DLS_VERSION_MAJOR .*/#define DLS_VERSION_MAJOR 99/
    s/^#define DLS_WIRE_VERSION .*/#define DLS_WIRE_VERSION 99/' 2
together "a newer minor version calls an older" peer peer-minor
together "an older minor version calls a newer" peer-minor peer
for two in "peer peer-major" "peer-major peer"; do
    # shellcheck disable=SC2086
    pair x $two
    for l in a b; do
        expect "another major version ($two) is refused, and told: $l" 10 "another version of the wire" $l.log
    done
    sleep 1
    check "nor is there a view with it ($two)" sh -c '! grep -q "^sum .* 1,2 " a.log b.log'
    end_peers
done

# A gateway with a serial line, and a small device at the other end of the cable, in noise: it sees
# those behind the gateway.
link cable "$dir/left" "$dir/right" 100 &
running="$running $!"
within 5 test -e "$dir/right"
start a.log -- --key ada.key --roster lab.roster --lan-port $port --gateway --serial "$dir/left:115200"
start b.log -- --key ben.key --roster lab.roster --lan-port $port
start m.log -- --key mote.key --roster lab.roster --no-lan --serial "$dir/right:115200=1"
expect "over a serial line" 10 '^up 1 ada' m.log
expect "through a gateway" 20 '^up 2 ben' m.log
end_all

# ---- Network namespaces ----

n1=dls$$a n2=dls$$b
if [ "$(id -u)" != 0 ] || ! have ip || ! ip netns add $n1 2>/dev/null; then
    skip "discovery in network namespaces" "root and ip netns"
    exit 0
fi
spaces="$n1 $n2"
ip netns add $n2
# cable N ADDRESS_OPTIONS: a veth pair vN between the two, 10.77.N.1 and .2
cable() {
    ip link add v$1 netns $n1 type veth peer name v$1 netns $n2
    for side in 1 2; do
        eval "space=\$n$side"
        # shellcheck disable=SC2086
        ip -n "$space" addr add 10.77.$1.$side/24 $2 dev v$1
        ip -n "$space" link set v$1 up
    done
}
meet() { # NAME [SECONDS]
    start a.log $n1 -- --key ada.key --roster lab.roster --allreduce 1
    start b.log $n2 -- --key ben.key --roster lab.roster --allreduce 1
    expect "$1: ada" "${2:-12}" '^sum [0-9]* 1 1,2 ' a.log
    expect "$1: ben" "${2:-12}" '^sum [0-9]* 1 1,2 ' b.log
    end_peers
}
for n in $n1 $n2; do ip -n $n link set lo up; done
start a.log $n1 -- --key ada.key --roster lab.roster --seconds 1
wait $pid
expect "no interface: the reason is told" 3 'note device 2 .*never heard.*No interface of this device is up' a.log
cable 1 "brd +"
meet "multicast and broadcast"
for n in $n1 $n2; do ip -n $n link set v1 multicast off; done
meet "broadcast alone"
for n in $n1 $n2; do
    ip -n $n link set v1 multicast on
    ip -n $n addr flush dev v1
done
ip -n $n1 addr add 10.77.1.1/24 brd 10.77.1.77 dev v1
ip -n $n2 addr add 10.77.1.2/24 brd 10.77.1.77 dev v1
meet "multicast alone"
# Bridges with the same address in both, as docker makes them, and interfaces that lead nowhere.
for n in $n1 $n2; do
    ip -n $n link add docker0 type bridge 2>/dev/null || ip -n $n link add docker0 type dummy
    ip -n $n addr add 172.17.0.1/16 brd + dev docker0
    ip -n $n link set docker0 up
    ip -n $n link add idle0 type dummy 2>/dev/null && ip -n $n addr add 10.99.0.1/24 brd + dev idle0 && ip -n $n link set idle0 up
done
cable 2 "brd +"
for n in $n1 $n2; do ip -n $n link set v1 multicast off; done
meet "among docker0, an idle interface, and two cables"
# Nothing announced gets through: the list of addresses does.
for n in $n1 $n2; do
    ip -n $n link del v2 2>/dev/null
    ip -n $n link set v1 multicast off
done
start a.log $n1 -- --key ada.key --roster lab.roster --listen 7000
start b.log $n2 -- --key ben.key --roster lab.roster --connect 1@10.77.1.1:7000
expect "by address, where nothing announced gets through" 8 '^up 1 ada' b.log
end_peers
start a.log $n1 -- --key ada.key --roster lab.roster --listen 7000 --no-lan
start b.log $n2 -- --key ben.key --roster lab.roster --tcp 1@10.77.1.1:7000 --no-lan
expect "by TCP" 8 '^up 1 ada' b.log
end_all
