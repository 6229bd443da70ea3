# bugs.sh [SEEDS]: plants each bug of bugs.txt in a copy of the header and lets the seeds look for it.
# At least 95 in 100 must be found. Run as `make -C tests bugs`.
suite=bugs
cd "$(dirname "$0")/.." || exit 1
: "${BUILD:=$PWD/build}" "${CC:=cc}" "${SEEDS:=2000}"
out=$BUILD/bugs
mkdir -p "$out"
"$CC" -O1 sim/plant.c -o "$out/plant" || exit 1
try() { # N
    dir=$out/$1
    mkdir -p "$dir"
    name=$("$out/plant" ../dlshard.h sim/bugs.txt "$1" "$dir/dlshard.h")
    case $? in
    0) ;;
    3) exit 3 ;;
    *) echo "FAIL $suite: '$name' does not stand in the header once"; exit 0 ;;
    esac
    if ! "$CC" -std=gnu99 -O2 -DDLS_ENABLE_SIMD=0 -DDLS_ENABLE_TRAIN=0 -DDLS_ENABLE_SOCKETS=0 -I"$dir" -I. \
        sim/sim.c -o "$dir/sim" -lpthread >"$dir/cc.txt" 2>&1; then
        echo "FAIL $suite: '$name' does not compile"
        exit 0
    fi
    if timeout 3000 "$dir/sim" --hunt 1 "$SEEDS" >"$dir/log.txt" 2>&1; then
        echo "missed: $name"
    else
        echo "found: $name: $(grep -o 'seed [0-9]*.*' "$dir/log.txt" | head -n 1)"
    fi
}
export BUILD CC SEEDS out suite
if [ "$1" = --one ]; then
    try "$2"
    exit 0
fi
count=$(grep -c '^===$' sim/bugs.txt)
i=0
while [ $i -lt "$count" ]; do
    echo $i
    i=$((i + 1))
done | xargs -n 1 -P "${JOBS:-2}" sh sim/bugs.sh --one >"$out/all.txt"
cat "$out/all.txt"
found=$(grep -c '^found' "$out/all.txt")
if grep -q '^FAIL' "$out/all.txt" || [ $((found * 100)) -lt $((count * 95)) ]; then
    echo "FAIL $suite: $found of $count planted bugs found"
else
    echo "ok $suite: $found of $count planted bugs found"
fi
