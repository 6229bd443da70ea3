# Serial framing, loss recovery and congestion control, in virtual time. FLOW_FULL=1: more inputs.
. ./lib.sh
COVER_FLAGS="$COVER_FLAGS -lm"
build "$out/flow" flow/flow.c -DDLS_ENABLE_SIMD=0 && run_c "$out/flow"
