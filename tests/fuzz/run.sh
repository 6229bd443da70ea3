# Every decoder under libFuzzer with ASan and UBSan, $RUNS inputs.
. ./lib.sh
have clang || { skip "decoders" "clang"; exit 0; }
mkdir -p "$out/corpus" "$out/seeds"
if ! clang -std=gnu99 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DDLS_ENABLE_SIMD=0 \
    -I"$root" -I. fuzz/fuzz.c -o "$out/fuzz" -lpthread >"$out/cc.txt" 2>&1; then
    fail "compiling fuzz.c" "$out/cc.txt"
    exit 0
fi
build "$out/make_seeds" fuzz/fuzz.c -DMAKE_SEEDS && "$out/make_seeds" "$out/seeds"
half=$(((${RUNS:-20000} + 1) / 2))
for job in 1 2; do
    "$out/fuzz" -runs=$half -seed=$job -max_len=8192 -timeout=20 -rss_limit_mb=3000 \
        -artifact_prefix="$out/crash-$job-" "$out/corpus" "$out/seeds" >"$out/fuzz$job.txt" 2>&1 &
    eval "pid$job=$!"
done
for job in 1 2; do
    eval "wait \$pid$job"
    if [ $? -eq 0 ] && grep -q "Done $half" "$out/fuzz$job.txt"; then ok "$half inputs, seed $job"
    else tail -n 40 "$out/fuzz$job.txt" >"$out/end.txt"; fail "$half inputs, seed $job" "$out/end.txt" 40; fi
done
