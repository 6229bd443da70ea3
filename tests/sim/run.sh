# Whole clusters by seed: faults, then peace; nothing wrong may happen, and then all must go on.
# SEEDS=N (2000 in CI), FIRST=seed to begin with. A failing seed is printed with the command for it.
. ./lib.sh
build "$out/sim" sim/sim.c -DDLS_ENABLE_SIMD=0 -DDLS_ENABLE_TRAIN=0 -DDLS_ENABLE_SOCKETS=0 -O2 || exit 0
half=$(((${SEEDS:-200} + 1) / 2))
first=${FIRST:-1}
for job in 0 1; do
    "$out/sim" $((first + job * half)) "$half" >"$out/job$job.txt" 2>&1 &
    eval "pid$job=$!"
done
for job in 0 1; do
    eval "wait \$pid$job" || echo "  ended with status $?" >>"$out/job$job.txt"
    cat "$out/job$job.txt"
    grep -q -E '^(ok|FAIL) ' "$out/job$job.txt" || fail "seeds of job $job: no verdict"
done
# Seeds that found a bug once, and the traces of some, which must be the same everywhere.
flags="-std=gnu99 -O1 -DDLS_ENABLE_SIMD=0 -DDLS_ENABLE_TRAIN=0 -DDLS_ENABLE_SOCKETS=0 -I$root -I."
run_c "$out/sim" --kept sim/kept.txt
# elsewhere NAME COMPILER [RUNNER [FLAG...]]
elsewhere() {
    name=$1 compiler=$2 runner=$3
    shift 3
    have "$compiler" || { skip "traces, $name" "$compiler" && return; }
    [ -z "$runner" ] || have "$runner" || { skip "traces, $name" "$runner" && return; }
    # shellcheck disable=SC2086
    if "$compiler" $flags "-DTRACE_WHERE=\", $name\"" "$@" sim/sim.c -o "$out/$name" >"$out/$name.cc" 2>&1; then
        # shellcheck disable=SC2086
        run_c $runner "$out/$name" --kept sim/kept.txt
    else
        fail "compiling with $compiler" "$out/$name.cc"
    fi
}
[ -z "$SAN" ] || exit 0
elsewhere clang clang ""
elsewhere s390x s390x-linux-gnu-gcc qemu-s390x -static -DDLS_ENABLE_THREADS=0
