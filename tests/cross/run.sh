# The same numbers on every CPU: one program, compiled for other CPUs, run by qemu's user-mode
# emulation, and on x86 at each instruction set level. Models and checkpoints that this machine
# writes are read there, and written again as the same bytes. -std=gnu99 matters on s390x: under
# -std=c99 gcc would compute floats in doubles there (see -fexcess-precision).
. ./lib.sh

compile() { # COMPILER PROGRAM SOURCE [FLAG...]
    compile_cc=$1 compile_to=$2 compile_from=$3
    shift 3
    # shellcheck disable=SC2086
    "$compile_cc" -std=gnu99 -O1 -I"$root" -I. "$@" "$compile_from" -o "$compile_to" \
        -lm -lpthread $latomic >"$compile_to.cc" 2>&1 && return 0
    fail "compiling for $(basename "$compile_to")" "$compile_to.cc"
    return 1
}
emulator() { # CPU: the emulator's name, if there is one
    if have "qemu-$1"; then echo "qemu-$1"; elif have "qemu-$1-static"; then echo "qemu-$1-static"; fi
}

latomic=
compile "$CC" "$out/here" cross/main.c || exit 0
mkdir -p "$out/files"
NET_OUT=$out/files run_c "$out/here" here net_files

for target in aarch64:aarch64-linux-gnu arm:arm-linux-gnueabihf riscv64:riscv64-linux-gnu \
    s390x:s390x-linux-gnu; do
    cpu=${target%%:*} gcc=${target#*:}-gcc qemu=$(emulator "${target%%:*}")
    have "$gcc" || { skip "$cpu" "$gcc" && continue; }
    [ -n "$qemu" ] || { skip "$cpu" "qemu-$cpu" && continue; }
    latomic=
    [ "$cpu" != riscv64 ] || latomic=-latomic # of bytes, which a unit test counts with
    compile "$gcc" "$out/$cpu" cross/main.c -static || continue
    mkdir -p "$out/files-$cpu"
    NET_IN=$out/files NET_OUT=$out/files-$cpu run_c "$qemu" "$out/$cpu" "$cpu"
    compile "$gcc" "$out/noise-$cpu" noise/noise.c -static &&
        run_c "$qemu" "$out/noise-$cpu" | sed "s/ noise:/ cross: $cpu/"
done

[ "$(uname -m)" = x86_64 ] || exit 0
qemu=$(emulator x86_64)
[ -n "$qemu" ] || { skip "x86 levels" qemu-x86_64 && exit 0; }
mkdir -p "$out/files-x86"
for level in Nehalem:scalar Haswell:avx2; do # an emulated masked load reads what the mask forbids
    for part in kern_ net_; do
        KERN_SOFT=1 NET_IN=$out/files NET_OUT=$out/files-x86 run_c \
            "$qemu" -cpu "${level%%:*}" "$out/here" "x86-${level#*:}" "$part" 2>/dev/null
    done
done
