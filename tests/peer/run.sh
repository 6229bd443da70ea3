# Frames, the engine, collectives, jobs and nodes: first without I/O by virtual time, then over
# loopback TCP, as threads and as processes that get killed. Under SAN=thread the same.
. ./lib.sh
OUT=$out
export OUT
build "$out/peer" peer/peer.c && run_c "$out/peer"
