# Whole networks: equal states on every instruction set, thread count and split.
. ./lib.sh
NET_OUT=$out
export NET_OUT
build "$out/net" net/main.c && run_c "$out/net"
