# Elastic runs: the state machine in the simulator, by seed (SEEDS=N, FIRST=seed to begin with); what
# it says and refuses; then 8 processes that are killed, stopped and started again (KILLS=N).
. ./lib.sh
build "$out/sim" train/sim.c -DDLS_ENABLE_SIMD=0 -DDLS_ENABLE_SOCKETS=0 -O2 &&
    run_c "$out/sim" "${FIRST:-1}" "${SEEDS:-60}"
build "$out/unit" train/unit.c -DDLS_ENABLE_SOCKETS=0 && run_c "$out/unit"
[ -z "$SAN" ] || exit 0 # what follows is the same code, killed
build "$out/worker" train/worker.c -O2 && build "$out/drive" train/drive.c &&
    build "$out/dlshard" ../tools/dlshard.c || exit 0
keys=$out/keys
rm -rf "$keys"
mkdir -p "$keys"
(
    cd "$keys" || exit 1
    "$out/dlshard" keygen
    for i in 1 2 3 4 5 6 7 8; do
        role=train
        [ $i -gt 3 ] || role=train,coord
        "$out/dlshard" enrol w$i --role $role
    done
) >"$out/keys.txt" 2>&1 || fail "keys" "$out/keys.txt"
kills=${KILLS:-25}
run_c "$out/drive" "$out/worker" "$keys" tcp "$kills" "${SEED:-$$}"
run_c "$out/drive" "$out/worker" "$keys" udp $((kills / 6 + 1)) "${SEED:-$$}"
