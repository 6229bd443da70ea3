# Gradient codecs and robust aggregation: here, as a microcontroller sorts (8 bits a pass), and on
# four more CPUs by qemu, one of them big-endian: the same bytes.
. ./lib.sh
LIBS=-lm
build "$out/codec" codec/codec.c -O2 && run_c "$out/codec"
build "$out/small" codec/codec.c -Os -DDLS_ENABLE_SIMD=0 -DDLSI_BIN_BITS=8 && run_c "$out/small" small
[ -z "$SAN" ] || exit 0
for target in aarch64:aarch64-linux-gnu arm:arm-linux-gnueabihf riscv64:riscv64-linux-gnu \
    s390x:s390x-linux-gnu; do
    cpu=${target%%:*} gcc=${target#*:}-gcc
    have "$gcc" || { skip "$cpu" "$gcc" && continue; }
    have "qemu-$cpu" || { skip "$cpu" "qemu-$cpu" && continue; }
    if "$gcc" -std=gnu99 -O1 -static -DDLS_ENABLE_SOCKETS=0 -DDLS_ENABLE_THREADS=0 -I"$root" -I. \
        codec/codec.c -o "$out/$cpu" -lm >"$out/$cpu.cc" 2>&1; then
        run_c "qemu-$cpu" "$out/$cpu" "$cpu"
    else
        fail "compiling for $cpu" "$out/$cpu.cc"
    fi
done
