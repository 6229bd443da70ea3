# Elastic runs: the state machine in the simulator, by seed (SEEDS=N, FIRST=seed to begin with); what
# it says and refuses; then 8 processes that are killed, stopped and started again (KILLS=N).
. ./lib.sh
build "$out/sim" train/sim.c -DDLS_ENABLE_SIMD=0 -DDLS_ENABLE_SOCKETS=0 &&
    run_c "$out/sim" "${FIRST:-1}" "${SEEDS:-60}"
build "$out/unit" train/unit.c -DDLS_ENABLE_SIMD=0 -DDLS_ENABLE_SOCKETS=0 && run_c "$out/unit"
digits=$root/examples/data/mnist
build "$out/modes" train/modes.c -DDLS_ENABLE_SOCKETS=0 && run_c "$out/modes" "$digits-train" "$digits-test"
[ -z "$SAN" ] || exit 0 # what follows is the same code, killed
build "$out/worker" train/worker.c && build "$out/drive" train/drive.c || exit 0
keys=$out/keys
rm -rf "$keys"
mkdir -p "$keys"
check "keys" "$out/worker" --make-keys "$keys"
within() { # SECONDS COMMAND...: until it succeeds
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -le $end ] || return 1
        sleep 0.1
    done
}
kills=${KILLS:-25}
run_c "$out/drive" "$out/worker" "$keys" tcp "$kills" "${SEED:-$$}"
run_c "$out/drive" "$out/worker" "$keys" udp $((kills / 6 + 1)) "${SEED:-$$}"

# Stopped by Ctrl-C on one of three; gone on with by two, of which one starts with nothing.
cd "$keys" || exit 1
data=$root/examples/data/mnist-test
running=
port=$(($$ % 20000 + 20000))
trap 'kill -9 $running 2>/dev/null' EXIT
member() { # NUMBER LEAST OPTION...: waits until so many are there, two minutes at most
    i=$1 least=$2
    shift 2
    timeout 120 "$out/worker" --key w$i.key --roster lab.roster --listen $((port + i)) --tcp "$calls" \
        --data "$data" --least "$least" "$@" >member$i.txt 2>&1 &
    running="$running $!"
    calls=$calls${calls:+,}$i@127.0.0.1:$((port + i))
}
calls=
for i in 1 2 3; do member $i 3 --save stop$i.ckpt --every 20; done
within 30 grep -q -s ' step 30 ' member3.txt || fail "three at work" member3.txt
kill -INT "${running##* }"
# shellcheck disable=SC2086
wait $running
steps=$(sed -n 's/.* step \([0-9]*\) .*/\1/p' member1.txt | tail -n 1)
hash() { sed -n 's/.* end .* \([0-9a-f]\{16\}\) redone .*/\1/p' "$@"; }
check "Ctrl-C on one: three stop after the same step" test "$(hash member1.txt member2.txt member3.txt | sort | uniq -c | sed 's/^ *\([0-9]*\) .*/\1/')" = 3
check "one of them has written the checkpoint" test "$(ls stop?.ckpt | wc -l)" = 1
running= calls=
port=$((port + 10))
mv stop?.ckpt stop.ckpt
member 1 2 --steps $((steps + 60))
member 2 2 --steps $((steps + 60)) --resume stop.ckpt
# shellcheck disable=SC2086
wait $running
"$out/worker" --data "$data" --steps $((steps + 60)) --quiet 1 >alone.txt
check "two others go on from it, to the hash of one device" test "$(hash member1.txt)" = "$(hash alone.txt)" -a "$(hash member2.txt)" = "$(hash alone.txt)"
running=
