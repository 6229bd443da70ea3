# Firmware in QEMU, and one collective of six kinds of machine: two x86 processes, s390x, armhf, a
# Cortex-M4 over UDP and a Cortex-M3 with 64 KiB of RAM behind a UART. QEMU's user network and
# loopback only.
. ./lib.sh
[ -z "$SAN" ] || { skip "firmware" "no sanitizer"; exit 0; }
have arm-none-eabi-gcc || { skip "firmware" arm-none-eabi-gcc; exit 0; }

build "$out/host" firmware/host.c ../examples/firmware/sum.c || exit 0
build "$out/makekeys" ../examples/firmware/makekeys.c || exit 0
build "$out/dlshard" ../tools/dlshard.c && build "$out/peer" ../examples/peer.c || exit 0

# ---- What runs, and waiting for what it prints ----

running=
trap 'stop_all' EXIT INT TERM
# Whatever still runs: timeout(1) passes the signal on to what it started. Nothing outlives 5 minutes.
stop_all() {
    # shellcheck disable=SC2086
    [ -z "$running" ] || kill $running 2>/dev/null
    running=
}
# start NAME COMMAND...: its output goes to NAME.log, the process to end it by to $NAME_pid
start() {
    start_name=$1
    shift
    timeout 300 "$@" >"${start_to:-$dir/$start_name.log}" 2>&1 </dev/null &
    eval "${start_name}_pid=$!"
    running="$running $!"
}
# logged NAME COMMAND...: the same, and what it prints has times
logged() {
    logged_name=$1
    shift
    mkfifo "$dir/$logged_name.fifo"
    "$out/host" stamp <"$dir/$logged_name.fifo" >"$dir/$logged_name.log" &
    start_to=$dir/$logged_name.fifo
    start "$logged_name" "$@"
    start_to=
}
# keys NAME[:small|:coord]...: a group and its devices 1, 2, ... in $dir
keys() {
    "$out/dlshard" keygen --root "$dir/root.key" || fail "keygen"
    for n in "$@"; do
        case $n in
        *:small) keys_role=--small ;;
        *:coord) keys_role="--role join,train,coord" ;;
        *) keys_role="--role join,train" ;;
        esac
        # shellcheck disable=SC2086
        "$out/dlshard" enrol "${n%:*}" $keys_role --root "$dir/root.key" \
            --roster "$dir/lab.roster" --out "$dir/${n%:*}.key" || fail "enrol $n"
    done
} >"$out/keys.log"
# host NAME PORT ARG...: a peer on this processor, with a roster file of its own
host() {
    host_name=$1 host_port=$2
    shift 2
    cp "$dir/lab.roster" "$dir/$host_name.roster"
    # shellcheck disable=SC2086
    logged "$host_name" $runner "$program" --key "$dir/$host_name.key" --roster \
        "$dir/$host_name.roster" --no-lan --listen "$host_port" --allreduce 40 "$@"
}
# board NAME MACHINE PORT QEMU_ARGS...: an image in QEMU, its serial line waiting for a host at a
# TCP port; 0: none
board() {
    board_name=$1 board_machine=$2 board_port=$3
    shift 3
    emulator=qemu-system-arm serial=null
    [ "$board_name" != rv32 ] || emulator="qemu-system-riscv32 -bios none"
    [ "$board_port" = 0 ] || serial=tcp:127.0.0.1:$board_port,server=on,wait=off
    # shellcheck disable=SC2086
    logged "$board_name" $emulator -M "$board_machine" -display none -monitor none -serial "$serial" \
        -semihosting-config enable=on,target=native -kernel "$dir/build/$board_name.elf" "$@"
    [ "$board_port" = 0 ] || within 20 listening "$board_port" || fail "$board_name starts"
}
listening() { grep -q ":$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp; }
# within SECONDS COMMAND...: until it succeeds
within() {
    within_end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt $within_end ] || return 1
        sleep 0.2
    done
}
# "VIEW HASH" of round 9 of the newest view, if all of these print it with these members, and it is
# newer than $view.
view=0
agreed() { # IDS NAME...
    agreed_ids=$1
    shift
    for n in "$@"; do
        sed -n "s/^sum \([0-9]*\) 9 $agreed_ids \([0-9a-f]*\) at.*/\1 \2/p" "$dir/$n.log" | tail -n 1
    done | sort | uniq -c | awk -v n=$# -v old="$view" '{ lines++; if ($1 == n && $2 > old) found = $2 " " $3 }
                                                        END { if (lines == 1) print found }'
}
all_agree() { [ -n "$(agreed "$@")" ]; }
# same NAME IDS DEVICE...: they print round 9 of one view alike, and rightly
same() {
    same_name=$1 same_ids=$2
    shift 2
    if ! within 90 all_agree "$same_ids" "$@"; then
        for n in "$@"; do echo "== $n"; tail -n 6 "$dir/$n.log"; done >"$dir/why"
        fail "$same_name" "$dir/why" 60
        return 1
    fi
    got=$(agreed "$same_ids" "$@")
    want=$("$out/host" expect 9 "$same_ids")
    if [ "${got#* }" = "$want" ]; then
        view=${got% *}
        ok "$same_name: view $view, sum $want on $# of $#"
    else
        echo "all have $got, not $want" >"$dir/why"
        fail "$same_name" "$dir/why"
    fi
}
# images CALLS NAME...: builds them for the keys in $dir
images() {
    images_calls=$1
    shift
    images_elf=
    for n in "$@"; do images_elf="$images_elf $dir/build/$n.elf"; done
    # shellcheck disable=SC2086
    if make -s -C ../examples/firmware BUILD="$dir/build" KEYS="$dir" MAKEKEYS="$out/makekeys" \
        CALLS="$images_calls" CFLAGS_MORE=-Werror $images_elf >"$dir/why" 2>&1; then
        ok "images of $* build without warnings"
    else
        fail "images of $* build" "$dir/why"
        return 1
    fi
}

# ---- Six of a collective ----

six() {
    dir=$out/six
    rm -rf "$dir"
    mkdir -p "$dir"
    keys a:coord b:coord s390x:coord armhf an386 lm3s:small guest
    # shellcheck disable=SC2046
    set -- $("$out/host" ports 7)
    images "1@10.0.2.2:$1 2@10.0.2.2:$2 3@10.0.2.2:$3 4@10.0.2.2:$4" lm3s an386 || return
    for p in arm-linux-gnueabihf s390x-linux-gnu; do
        CC=$p-gcc build "$out/peer-$p" ../examples/peer.c -static || return
    done

    # b and s390x are a majority, so one of them leads, and may be killed: a is needed as gateway.
    at=127.0.0.1
    program=$out/peer runner=
    host b "$2" --connect 1@$at:"$1",3@$at:"$3",4@$at:"$4"
    program=$out/peer-s390x-linux-gnu runner=qemu-s390x
    host s390x "$3" --connect 1@$at:"$1",2@$at:"$2",4@$at:"$4"
    same "two coordinators decide a view" 2,3 b s390x || return
    board lm3s lm3s6965evb "$5"
    program=$out/peer runner=
    host a "$1" --connect 2@$at:"$2",3@$at:"$3",4@$at:"$4" --serial tcp:$at:"$5" --gateway
    program=$out/peer-arm-linux-gnueabihf runner=qemu-arm
    host armhf "$4" --connect 1@$at:"$1",2@$at:"$2",3@$at:"$3"
    board an386 mps2-an386 0 -nic user,hostfwd=udp:$at:"$6"-:7000
    six="a b s390x armhf an386 lm3s"
    # shellcheck disable=SC2086
    same "x86, x86, s390x, armhf, Cortex-M4 and Cortex-M3 reduce alike" 1,2,3,4,5,6 $six || return

    stranger="$out/host stranger $dir/guest.key $dir/lab.roster"
    # shellcheck disable=SC2086
    check "without the key: 0 bytes back from a host" $stranger "$1" 1 3000
    # shellcheck disable=SC2086
    check "without the key: 0 bytes back from a Cortex-M4" $stranger "$6" 5 3000
    check "with the key: both answer" \
        sh -c "$stranger $1 1 500 key && $stranger $6 5 1500 key"
    grep -q FAULT "$dir/an386.log" && fail "the Cortex-M4 died"

    program=$out/peer runner=
    host guest "$7" --connect 1@$at:"$1",2@$at:"$2",3@$at:"$3",4@$at:"$4"
    # shellcheck disable=SC2086
    same "a seventh comes" 1,2,3,4,5,6,7 $six guest || return
    revoked
    # shellcheck disable=SC2086
    same "the six go on without it" 1,2,3,4,5,6 $six || return

    leader=$(sed -n 's/^view .* coordinator \([0-9]*\) at.*/\1/p' "$dir/a.log" | tail -n 1)
    case $leader in
    2) kill -s HUP "$b_pid" "$armhf_pid" && rest=1,3,5,6 left=s390x ;;
    3) kill -s HUP "$s390x_pid" "$armhf_pid" && rest=1,2,5,6 left=b ;;
    *) fail "a leads" "$dir/a.log" && return ;;
    esac
    same "the coordinator and another are killed, the rest go on" $rest a $left an386 lm3s
    stop_all
}
# The roster in which the guest is revoked is given to one host: how long until the last has it out.
revoked() {
    check "revoke" "$out/dlshard" revoke guest --root "$dir/root.key" --roster "$dir/b.roster"
    out_everywhere() {
        for n in $six; do grep -q '^lost 7' "$dir/$n.log" || return 1; done
    }
    if within 20 out_everywhere; then
        began=$(sed -n 's/^roster .* at //p' "$dir/b.log")
        took=$(for n in $six; do sed -n 's/^lost 7.* at //p' "$dir/$n.log"; done | sort -n | tail -n 1)
        took=$((took - began))
        if [ $took -le 200 ]; then
            ok "a revoked device is out everywhere after $took ms, within a heartbeat of 200"
        else
            echo "out after $took ms, a heartbeat is 200" >"$dir/why"
            fail "a revoked device is out within a heartbeat" "$dir/why"
        fi
    else
        for n in $six; do echo "== $n"; tail -n 5 "$dir/$n.log"; done >"$dir/why"
        fail "a revoked device is out" "$dir/why" 60
    fi
}

# ---- The other boards; the Cortex-M3 with an identity key ----

boards() {
    dir=$out/boards
    view=0
    rm -rf "$dir"
    mkdir -p "$dir"
    keys pc:coord lm3s an500 rv32
    # shellcheck disable=SC2046
    set -- $("$out/host" ports 3)
    boards="lm3s an500"
    have riscv64-unknown-elf-gcc && have qemu-system-riscv32 && boards="$boards rv32"
    # shellcheck disable=SC2086
    images "1@10.0.2.2:$1" $boards || return
    program=$out/peer runner=
    board lm3s lm3s6965evb "$2"
    board an500 mps2-an500 0 -nic user
    case $boards in
    *rv32*)
        board rv32 virt "$3"
        host pc "$1" --serial tcp:127.0.0.1:"$2",tcp:127.0.0.1:"$3" --gateway
        same "a PC, Cortex-M3, M7 and rv32 reduce alike" 1,2,3,4 pc lm3s an500 rv32
        ;;
    *)
        skip "rv32" "riscv64-unknown-elf-gcc qemu-system-riscv32"
        host pc "$1" --serial tcp:127.0.0.1:"$2" --gateway
        same "a PC, Cortex-M3 and M7 reduce alike" 1,2,3 pc lm3s an500
        ;;
    esac
    stop_all
}

# ---- The smallest: NNpsk0 over a UART on a Cortex-M4 ----

smallest() {
    dir=$out/smallest
    view=0
    rm -rf "$dir"
    mkdir -p "$dir"
    keys pc:coord m4uart:small
    # shellcheck disable=SC2046
    set -- $("$out/host" ports 2)
    images "" m4uart || return
    check "its image has no heap, console, threads or clock" clean "$dir/build/m4uart.elf"
    program=$out/peer runner=
    board m4uart mps2-an386 "$2"
    host pc "$1" --serial tcp:127.0.0.1:"$2"
    same "a PC and a Cortex-M4 reduce alike" 1,2 pc m4uart || return
    within 10 grep -q '^stack' "$dir/m4uart.log"
    used=$(sed -n 's/^stack \([0-9]*\) .*/\1/p' "$dir/m4uart.log" | tail -n 1)
    if [ "$used" -le 2560 ]; then
        ok "$used bytes of stack, at most 2560"
    else
        echo "$used bytes of stack" >"$dir/why"
        fail "at most 2560 bytes of stack" "$dir/why"
    fi
    stop_all
}
# An OS, a heap or a console in the image would be one of these.
clean() {
    ! arm-none-eabi-nm "$1" | grep -E ' [A-Za-z] (_?malloc|_?free|_?calloc|_?realloc|_sbrk|.*printf|puts|putchar|pthread_.*|clock.*|time|gettimeofday|_write|_read|_open|fopen|fwrite|exit|abort|__assert.*)$'
}

# ---- Tasks of two kernels: plain C that compiles where their headers, here stand-ins, exist ----

task() { # NAME
    # shellcheck disable=SC2086
    check "the $1 task compiles" arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -std=c99 -Os $strict_flags \
        -DDLS_ENABLE_PEERS=1 -I"$root" -Ifirmware/stub -c "../examples/firmware/rtos/$1.c" -o "$out/$1.o"
}
task freertos
task liteos

needs=
for tool in qemu-system-arm qemu-arm qemu-s390x arm-linux-gnueabihf-gcc s390x-linux-gnu-gcc; do
    have $tool || needs="$needs $tool"
done
if [ -n "$needs" ]; then skip "six of a collective" "$needs"; else six; fi
if have qemu-system-arm; then
    boards
    smallest
else
    skip "the other boards and the smallest" qemu-system-arm
fi
